"""Flower as people see it: in a real browser, beside a real worker."""

import re
from typing import Any

import pytest
from flask import Flask

from shared.contract import QUEUES
from tests.fixtures.application import Reader, Submit
from tests.fixtures.flower import LOGIN, Flower, StartFlower
from tests.fixtures.mail_servers import StartMailServer
from tests.fixtures.mails import smtp_variables
from tests.fixtures.waiting import eventually
from tests.fixtures.worker_process import StartWorker

MILLISECONDS = 300_000
SECRET_CODE, ADDRESS = "C0DE-77", "ada.secret@example.com"
MAIL = "worker.tasks.mail.send_reset_password_mail_task"


@pytest.fixture
def busy(
    app: Flask,
    submit: Submit,
    reader: Reader,
    start_mail_server: StartMailServer,
    start_flower: StartFlower,
    start_worker: StartWorker,
    monkeypatch: pytest.MonkeyPatch,
    pytestconfig: pytest.Config,
) -> tuple[Flower, str]:
    """Flower beside a worker that indexed a document and wrote a mail, and the worker's name."""
    monkeypatch.setenv("PYTHONPATH", str(pytestconfig.rootpath))
    server = start_mail_server("none", auth=False)
    for name, value in smtp_variables(server, None, None).items():
        monkeypatch.setenv(name, value)
    flower = start_flower()
    worker = start_worker("prefork", 2, "-E")
    eventually(lambda: flower.sees(worker.name))
    (submission,) = submit({"a.txt": b"The lighthouse was built in 1871."}, announce=True)
    reader.await_end(submission.document_id)
    content = {"language": "en-US", "to": ADDRESS, "code": SECRET_CODE}
    app.extensions["celery"].send_task(MAIL, kwargs=content, queue="mail")
    eventually(lambda: len(server.box.raw) == 1)
    return flower, worker.name


def test_workers_tasks_and_queues_are_to_be_seen_and_content_is_masked(
    browser: Any, busy: tuple[Flower, str]
) -> None:
    flower, worker = busy
    name, _, password = LOGIN.partition(":")
    page = browser.new_page(http_credentials={"username": name, "password": password})
    page.set_default_timeout(MILLISECONDS)

    # Never for an idle network: its pages go on asking.
    page.goto(f"{flower.url}/workers", wait_until="domcontentloaded")
    row = page.locator("#workers-table tbody tr", has_text=worker)
    row.wait_for()
    assert "Online" in row.inner_text()

    page.goto(f"{flower.url}/tasks", wait_until="domcontentloaded")
    indexing = page.locator("#tasks-table tbody tr", has_text="document_indexing_task").first
    indexing.wait_for()
    assert "SUCCESS" in indexing.inner_text()
    mail = page.locator("#tasks-table tbody tr", has_text=MAIL).first
    mail.wait_for()
    assert_nothing_secret(page)

    mail.locator("a[href*='/task/']").first.click()
    page.get_by_text("***").first.wait_for()
    shown = page.inner_text("body")
    assert MAIL in shown
    assert re.search(r"'to': '\*\*\*'", shown)
    assert_nothing_secret(page)

    page.goto(f"{flower.url}/broker", wait_until="domcontentloaded")
    for queue in QUEUES:
        page.locator("#queue-table tbody tr", has_text=queue).wait_for()


def assert_nothing_secret(page: Any) -> None:
    text = page.content()
    assert SECRET_CODE not in text
    assert ADDRESS not in text
