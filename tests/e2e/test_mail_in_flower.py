"""Flower beside a worker: what a mail is about, and to whom it goes, it shows to nobody."""

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from shared.models import db
from tests.fixtures.flower import StartFlower
from tests.fixtures.mail_servers import StartMailServer
from tests.fixtures.mails import Mails, MailsTo
from tests.fixtures.waiting import eventually
from tests.fixtures.worker_process import StartWorker

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
    start_flower: StartFlower,
    monkeypatch: pytest.MonkeyPatch,
    pytestconfig: pytest.Config,
) -> None:
    server = start_mail_server()
    monkeypatch.setenv("PYTHONPATH", str(pytestconfig.rootpath))
    mails = mails_to(server, LOG_LEVEL="DEBUG", DELIVERY_MAX_ATTEMPTS="1")
    celery = mails.app.extensions["celery"]
    flower = start_flower()
    worker = start_worker("gevent", 4, "-l", "DEBUG", "-E")
    eventually(lambda: flower.sees(worker.name))

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

    eventually(lambda: sum(one["state"] == "SUCCESS" for one in flower.tasks().values()) == 3)
    eventually(lambda: any(one["state"] in {"FAILURE", "RETRY"} for one in flower.tasks().values()))
    shown = {one["name"].rpartition(".")[2]: one for one in flower.tasks().values()}
    assert shown["send_invite_member_mail_task"]["args"] == str(["***"] * 5)
    assert "'language': 'de-DE', 'to': '***'" in shown["send_reset_password_mail_task"]["kwargs"]
    places = flower.everything(worker.name) | {"the worker's log": worker.output()}
    places |= {one: rows(one) for one in ("celery_taskmeta", "dead_letters", "outbox")}
    places["Redis"] = dump(mails)
    for place, content in places.items():
        for secret in (CODE, TOKEN, ADDRESS, INVITER):
            assert secret not in content, (place, secret)


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
