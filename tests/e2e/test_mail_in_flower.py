"""Flower beside a worker: what a mail is about, and to whom it goes, it shows to nobody."""

import base64
import json
import sys
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import Request, urlopen

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from shared.models import db
from tests.fixtures.commands import StartCommand
from tests.fixtures.mail_servers import StartMailServer
from tests.fixtures.mails import Mails, MailsTo
from tests.fixtures.waiting import eventually
from tests.fixtures.worker_process import StartWorker
from worker.cli.stack.children import free_port

LOGIN = "somebody:a password"
CODE, TOKEN, ADDRESS, INVITER = (
    "C0DE-482913",
    "t0k3n-of-an-invitation",
    "ada.secret@",
    "Ada Lovelace",
)
TASKS = "worker.tasks.mail"


def test_flower_the_log_and_what_is_stored_know_no_code_token_or_address(
    start_mail_server: StartMailServer,
    mails_to: MailsTo,
    start_worker: StartWorker,
    start_command: StartCommand,
    monkeypatch: pytest.MonkeyPatch,
    pytestconfig: pytest.Config,
) -> None:
    server = start_mail_server()
    monkeypatch.setenv("PYTHONPATH", str(pytestconfig.rootpath))
    mails = mails_to(server, LOG_LEVEL="DEBUG", DELIVERY_MAX_ATTEMPTS="1")
    celery = mails.app.extensions["celery"]
    port = free_port()
    command = [str(Path(sys.executable).parent / "celery"), "-A", "worker.celery_app", "flower"]
    flower = start_command(command, FLOWER_BASIC_AUTH=LOGIN, FLOWER_PORT=str(port))
    worker = start_worker("gevent", 4, "-l", "DEBUG", "-E")
    url = f"http://127.0.0.1:{port}"
    eventually(lambda: worker.name in page(url + "/api/workers?refresh=1"))

    # With content, by position and by name, and by a row; the last is given up.
    invitation = [f"{ADDRESS}example.com", TOKEN, INVITER, "Tides"]
    celery.send_task(f"{TASKS}.send_invite_member_mail_task", ["de-DE", *invitation], queue="mail")
    by_name = {"language": "de-DE", "to": f"{ADDRESS}example.org", "code": CODE}
    celery.send_task(f"{TASKS}.send_reset_password_mail_task", kwargs=by_name, queue="mail")
    mails.accept(to=f"{ADDRESS}example.net", celery=celery, code=CODE)
    eventually(lambda: len(server.box.raw) == 3)
    server.box.faults.append("data:451 later")
    celery.send_task(f"{TASKS}.send_reset_password_mail_task", kwargs=by_name, queue="mail")
    eventually(lambda: bool(rows("dead_letters")))

    def seen() -> dict[str, Any]:
        return dict(json.loads(page(url + "/api/tasks") or "{}"))

    eventually(lambda: sum(one["state"] == "SUCCESS" for one in seen().values()) == 3)
    eventually(lambda: any(one["state"] in {"FAILURE", "RETRY"} for one in seen().values()))
    shown = {one["name"].rpartition(".")[2]: one for one in seen().values()}
    assert shown["send_invite_member_mail_task"]["args"] == str(["***"] * 5)
    assert "'language': 'de-DE', 'to': '***'" in shown["send_reset_password_mail_task"]["kwargs"]
    pages = ["/", "/tasks", "/workers", f"/worker/{worker.name}", "/broker", "/metrics"]
    pages += ["/api/tasks", "/api/workers?refresh=1", "/tasks/datatable?draw=1&start=0&length=99"]
    pages += [f"/task/{task_id}" for task_id in seen()]
    pages += [f"/api/task/info/{task_id}" for task_id in seen()]
    places = {one: page(url + one) for one in pages}
    assert all(f"/task/{task_id}" in places and places[f"/task/{task_id}"] for task_id in seen())
    places |= {"the worker's log": worker.output(), "Flower's log": flower.output()}
    places |= {one: rows(one) for one in ("celery_taskmeta", "dead_letters", "outbox")}
    places["Redis"] = dump(mails)
    for place, content in places.items():
        for secret in (CODE, TOKEN, ADDRESS, INVITER):
            assert secret not in content, (place, secret)


def page(url: str) -> str:
    """A page of Flower's, as text; empty while it is not there."""
    token = base64.b64encode(LOGIN.encode()).decode()
    try:
        with urlopen(Request(url, headers={"Authorization": f"Basic {token}"}), timeout=20) as one:
            return str(one.read().decode())
    except (URLError, OSError):
        return ""


def rows(table: str) -> str:
    """All of a table, with what is stored as bytes; empty when it is."""
    with Session(db.engine) as session:
        found = session.execute(text(f"SELECT * FROM {table}")).all()
    return "\n".join(
        str([bytes(one) if isinstance(one, memoryview) else one for one in row]) for row in found
    )


def dump(mails: Mails) -> str:
    """Every key of the Redis, and its value as Redis itself would write it to a file."""
    redis = mails.app.extensions["redis"]
    kinds = {
        b"string": redis.get,
        b"list": lambda key: redis.lrange(key, 0, -1),
        b"hash": redis.hgetall,
        b"set": redis.smembers,
        b"zset": lambda key: redis.zrange(key, 0, -1),
    }
    kinds |= {kind.decode(): read for kind, read in kinds.items()}  # type: ignore[misc]
    return "\n".join(str((key, kinds[redis.type(key)](key))) for key in redis.keys("*"))
