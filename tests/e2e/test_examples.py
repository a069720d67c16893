"""What the README tells a producer to write, run as written."""

import importlib
import io
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from uuid import UUID

import pytest
from fastapi.testclient import TestClient

from shared.models import DocumentStatus
from tests.fixtures.application import Reader
from tests.fixtures.worker_process import StartWorker

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
TEXT = b"The lighthouse lamp turns once in twelve seconds."


def example(name: str) -> ModuleType:
    """The example, imported anew on this test's servers."""
    sys.modules.pop(f"examples.{name}", None)
    return importlib.import_module(f"examples.{name}")


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)
def test_the_readme_shows_the_example_as_it_is(path: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL)
    assert path.read_text("utf-8") in blocks


def test_a_flask_application_is_a_producer(
    environment: dict[str, str], reader: Reader, start_worker: StartWorker
) -> None:
    start_worker("solo")
    client = example("flask_producer").app.test_client()

    answer = client.post("/documents", data={"file": (io.BytesIO(TEXT), "lamp.txt")})
    again = client.post("/documents", data={"file": (io.BytesIO(TEXT), "lamp.txt")})

    assert answer.status_code == 202
    assert answer.json["outcome"] == "new"
    assert again.json["id"] == answer.json["id"]
    (document,) = reader.await_end(UUID(answer.json["id"]))
    assert document.indexing_status == DocumentStatus.COMPLETED


def test_a_fastapi_application_is_a_producer(
    environment: dict[str, str], reader: Reader, start_worker: StartWorker
) -> None:
    start_worker("solo")
    client = TestClient(example("fastapi_producer").app)

    answer = client.post("/documents", files={"file": ("lamp.txt", TEXT)})

    assert answer.status_code == 202
    (document,) = reader.await_end(UUID(answer.json()["id"]))
    assert document.indexing_status == DocumentStatus.COMPLETED
    assert client.get(f"/documents/{document.id}").json() == {"status": "completed", "error": None}


def test_a_plain_script_is_a_producer(
    environment: dict[str, str], tmp_path: Path, reader: Reader, start_worker: StartWorker
) -> None:
    start_worker("solo")
    (tmp_path / "lamp.txt").write_bytes(TEXT)

    done = subprocess.run(
        [sys.executable, EXAMPLES / "plain_producer.py", "lamp.txt"],
        capture_output=True,
        text=True,
        check=True,
    )

    document_id, outcome, name = done.stdout.split()
    assert (outcome, name) == ("new", "lamp.txt")
    (document,) = reader.await_end(UUID(document_id))
    assert document.indexing_status == DocumentStatus.COMPLETED
