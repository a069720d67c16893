"""A mail server that takes the connection and then says nothing: other mails go on meanwhile."""

import pytest

from shared.models import MailDelivery
from shared.settings.mail import MailSettings
from tests.fixtures.mail_servers import StartMailServer
from tests.fixtures.mails import MailsTo
from tests.fixtures.waiting import eventually
from tests.fixtures.worker_process import StartWorker

SILENT, OTHERS = 5, 40
DEFAULT_SECONDS: float = MailSettings.model_fields["mail_timeout_seconds"].default


@pytest.mark.parametrize(
    "seconds",
    [4.0, pytest.param(DEFAULT_SECONDS, marks=pytest.mark.long)],
    ids=["short", "default"],
)
def test_silence_holds_up_no_other_mail_and_its_row_says_why(
    seconds: float, start_mail_server: StartMailServer, mails_to: MailsTo, start_worker: StartWorker
) -> None:
    server = start_mail_server()
    server.box.faults += ["silence-before-dot"] * SILENT
    mails = mails_to(server, MAIL_TIMEOUT_SECONDS=f"{seconds:g}", DELIVERY_MAX_ATTEMPTS="1")
    start_worker("gevent", 20)
    celery = mails.app.extensions["celery"]
    silent = [
        mails.accept(to=f"silent{one}@example.com", celery=celery, code="482913")
        for one in range(SILENT)
    ]
    eventually(lambda: not server.box.faults)
    for one in range(OTHERS):
        mails.accept(to=f"person{one}@example.com", celery=celery, code="482913")

    def counted(status: str) -> int:
        return sum(one.status == status for one in mails.rows())

    # With the default, which is longer, all of them are through before the silence ends.
    eventually(lambda: counted("sent") == OTHERS, 20)
    eventually(lambda: counted("failed") == SILENT, 60 + seconds)

    given_up: list[MailDelivery] = [one for one in mails.rows() if one.status == "failed"]
    assert {one.id for one in given_up} == set(silent)
    for one in given_up:
        assert "did not take the mail: " in str(one.error)
        assert str(one.error).endswith("timed out")
        assert one.copies == 0, "nothing was handed over"
    assert len(server.box.ids()) == len(set(server.box.ids())) == OTHERS
