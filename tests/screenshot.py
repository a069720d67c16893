"""The picture of Flower in the README: ``python -m tests.screenshot``, from a stack of its own."""

import os
import re
import signal
import tempfile
from pathlib import Path
from typing import Any

from tests.fixtures.browser import opened_browser
from tests.fixtures.commands import RAG_WORKER, rag_worker
from tests.fixtures.waiting import eventually
from worker.cli.stack.children import spawn

PROJECT = Path(__file__).parents[1]
PICTURE = PROJECT / "docs" / "images" / "flower.png"
LARGEST_BYTES = 200_000
READY_SECONDS = 100


def main() -> None:
    """Start the stack in a folder of its own, index the sample documents, look at the tasks."""
    with tempfile.TemporaryDirectory() as folder:
        # Its stack.env is found there, and nobody's .env.
        os.chdir(folder)
        log = Path(folder) / "up.log"
        stack = spawn([RAG_WORKER, "up"], log=log, death_signal=signal.SIGTERM)
        try:
            eventually(lambda: "Ready." in log.read_text(), READY_SECONDS)
            found = re.search(r"Flower:\s+(\S+) \(login (\S+?):(\S+)\)", log.read_text())
            assert found is not None, log.read_text()
            indexed = rag_worker("index", PROJECT / "worker" / "samples" / "documents")
            assert indexed.code == 0, indexed
            take_picture(*found.groups())
        finally:
            stack.send_signal(signal.SIGTERM)
            stack.wait(READY_SECONDS)
        os.chdir(PROJECT)
    size = PICTURE.stat().st_size
    assert size < LARGEST_BYTES, f"{size} bytes"
    print(f"{PICTURE.relative_to(PROJECT)}: {size} bytes")


def take_picture(url: str, username: str, password: str) -> None:
    """Take it."""
    with opened_browser() as browser:
        page: Any = browser.new_page(
            http_credentials={"username": username, "password": password},
            viewport={"width": 1500, "height": 620},
        )
        page.goto(f"{url}/tasks", wait_until="domcontentloaded")
        page.locator("#tasks-table tbody tr", has_text="document_indexing_task").first.wait_for()
        PICTURE.parent.mkdir(exist_ok=True)
        page.screenshot(path=PICTURE)


if __name__ == "__main__":
    main()
