"""Mail in a real worker: nothing lost by kill -9, nothing secret on show."""

from collections import Counter
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session

from shared.models import db
from shared.submitting.mail import MailRules, send_mails
from tests.fixtures.mail_servers import StartMailServer
from tests.fixtures.mails import Mails, MailsTo
from tests.fixtures.messages import Messages
from tests.fixtures.metrics import scrape
from tests.fixtures.waiting import eventually
from tests.fixtures.worker_process import StartWorker
from worker.cli.stack.children import free_port

MAILS = 200


def statuses() -> Counter[str]:
    with Session(db.engine) as session:
        rows = session.execute(text("SELECT status, count(*) FROM mail_deliveries GROUP BY 1"))
        return Counter({row[0]: row[1] for row in rows})


def test_killed_in_the_middle_every_mail_arrives_and_doubles_are_unconfirmed_ones(
    start_mail_server: StartMailServer, mails_to: MailsTo, start_worker: StartWorker
) -> None:
    server = start_mail_server(seconds=0.05)
    quick = {
        "DELIVERY_LEASE_SECONDS": "8",
        "SWEEP_SECONDS": "1",
        "OUTBOX_REDELIVERY_SECONDS": "1",
        "LOG_LEVEL": "INFO",
    }
    mails = mails_to(server, **quick)
    with Session(db.engine) as session, session.begin():
        people = [f"person{number}@example.com" for number in range(MAILS)]
        send_mails(
            session,
            "email_code_login",
            people,
            rules=MailRules(),
            celery=mails.app.extensions["celery"],
            code="482913",
        )

    first = start_worker("gevent", 20)
    eventually(lambda: len(server.box.raw) >= MAILS // 3)
    first.kill()
    start_worker("gevent", 20)
    eventually(lambda: statuses()["sent"] + statuses()["resent"] == MAILS, 90)

    arrived = Counter(server.box.ids())
    rows = {str(row.header_id): row for row in mails.rows()}
    assert set(arrived) == set(rows), "every mail arrived"
    doubled = {one for one, copies in arrived.items() if copies > 1}
    assert max(arrived.values()) <= 2
    assert {str(rows[one].status) for one in doubled} <= {"resent"}
    assert all(rows[one].copies == 2 for one in doubled)
    assert statuses()["resent"] <= 20, "at most those in the hands of the worker that died"
    eventually(lambda: not Messages(mails.app).rows())


def test_a_code_shows_nowhere_whoever_published_it_and_however_it_ends(
    start_mail_server: StartMailServer, mails_to: MailsTo, start_worker: StartWorker
) -> None:
    server = start_mail_server()
    mails = mails_to(server, LOG_FORMAT="json", LOG_LEVEL="DEBUG", DELIVERY_MAX_ATTEMPTS="2")
    celery = mails.app.extensions["celery"]
    server.box.faults += ["rcpt:550 no", "data:451 later", "data:451 later"]
    name = "worker.tasks.mail.send_email_code_login_mail_task"
    port = free_port()
    worker = start_worker("threads", 1, "-l", "DEBUG", "-E", METRICS_PORT=str(port))
    secret = "C0DE-482913"

    # By bare name, as a producer that knows nothing of the worker publishes.
    for to in ("refused@example.com", "exhausted@example.com", "not an address"):
        celery.send_task(name, args=["de-DE", to, secret], queue="mail")
    wrong = {"language": "x", "to": "a@example.com", "code": 7}
    celery.send_task(name, kwargs=wrong, queue="mail")
    eventually(lambda: statuses()["failed"] == 3)
    eventually(lambda: len(Messages(mails.app).letters()) == 3)
    celery.send_task(name, args=["de-DE", "fine@example.com", secret], queue="mail")
    eventually(lambda: statuses()["sent"] == 1)

    assert secret in server.box.messages()[-1].get_body(("plain",)).get_content()  # type: ignore[union-attr]
    eventually(lambda: worker.output().count(f"Task {name}") >= 4)
    assert secret not in worker.output()
    assert secret not in everything_written(mails)
    letter = next(
        one for one in Messages(mails.app).letters() if one.exception == "AttemptsExhausted"
    )
    assert UUID(letter.kwargs["delivery_id"]) in {row.id for row in mails.rows()}
    assert letter.args == []
    # Masked or not, its ends are counted as every task's.
    counted = scrape(port).all("tasks_total", "state", task=name)
    assert counted == {"succeeded": 1, "failed": 4, "retried": 1}


def everything_written(mails: Mails) -> str:
    """Every row of every table, results decoded, and what is left in Redis."""
    redis = mails.app.extensions["redis"]
    with Session(db.engine) as session:
        rows = [
            str(tuple(bytes(one) if isinstance(one, memoryview) else one for one in row))
            for table in ("mail_deliveries", "outbox", "dead_letters", "celery_taskmeta")
            for row in session.execute(text(f"SELECT * FROM {table}"))
        ]
    assert any("celery" in one or "FAILURE" in one for one in rows)
    return "\n".join(rows) + str(redis.lrange("mail", 0, -1)) + str(redis.hgetall("unacked"))
