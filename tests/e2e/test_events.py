"""What a monitor, Flower for one, hears of tasks in a worker of greenlets."""

import threading
from typing import Any

from flask import Flask

from tests.fixtures.mail_servers import StartMailServer
from tests.fixtures.mails import MailsTo
from tests.fixtures.waiting import eventually
from tests.fixtures.worker_process import StartWorker


def test_a_gevent_worker_tells_monitors_of_each_task(
    app: Flask, start_mail_server: StartMailServer, mails_to: MailsTo, start_worker: StartWorker
) -> None:
    mails = mails_to(start_mail_server())
    kinds = ("task-received", "task-started", "task-succeeded")
    heard: list[tuple[str, str]] = []

    def hear(event: dict[str, Any]) -> None:
        heard.append((event["type"], event.get("uuid", "")))

    celery = app.extensions["celery"]
    start_worker("gevent", 4)
    with celery.connection_for_read() as connection:
        receiver = celery.events.Receiver(connection, handlers={"*": hear})
        ears = threading.Thread(target=receiver.capture, kwargs={"timeout": 60}, daemon=True)
        ears.start()
        eventually(lambda: any(kind == "worker-heartbeat" for kind, _ in heard))
        mails.accept(celery=celery, code="482913")
        for kind in kinds:
            eventually(lambda kind=kind: kind in [one for one, _ in heard])
        receiver.should_stop = True
        ears.join()

    assert len({uuid for kind, uuid in heard if kind in kinds}) == 1, "all of one task"
