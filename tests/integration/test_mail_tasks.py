"""The mail tasks as Dify's callers call them, and what their messages leave behind."""

from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from shared.errors import InvalidRequest
from shared.models import db
from shared.submitting.mail_kinds import KINDS
from tests.fixtures.mail_servers import StartMailServer
from tests.fixtures.mails import Mails, MailsTo
from tests.fixtures.messages import Messages
from worker.delivery.delivered import Delivered

CALLS: dict[str, tuple[tuple[Any, ...], str]] = {
    "send_email_register_mail_task": (("en-US", "TO", "C0DE"), "Your code to register with"),
    "send_email_register_mail_task_when_account_exist": (
        ("en-US", "TO", "Ada"),
        "You already have a",
    ),
    "send_email_code_login_mail_task": (("zh-Hans", "TO", "C0DE"), "登录验证码"),
    "send_reset_password_mail_task": (("ja-JP", "TO", "C0DE"), "新しいパスワードの設定"),
    "send_reset_password_mail_task_when_account_not_exist": (
        ("fr-FR", "TO", True),
        "n'a cette adresse",
    ),
    "send_change_mail_task": (("es-ES", "TO", "C0DE", "new_email"), "Confirme el cambio"),
    "send_change_mail_completed_notification_task": (("de-DE", "TO"), "wurde geändert"),
    "send_invite_member_mail_task": (("xx-YY", "TO", "T0KEN", "Ada", "Tides"), "Ada invites you"),
    "send_owner_transfer_confirm_task": (("en-US", "TO", "C0DE", "Tides"), "gets a new owner"),
    "send_old_owner_transfer_notify_email_task": (
        ("en-US", "TO", "Tides", "grace@example.com"),
        "You no longer own Tides",
    ),
    "send_new_owner_transfer_notify_email_task": (("en-US", "TO", "Tides"), "You now own Tides"),
    "send_account_deletion_verification_code": (("TO", "C0DE"), "is to be deleted"),
    "send_deletion_success_task": (("TO", "de-DE"), "ist gelöscht"),
    "send_document_clean_notify_mail_task": (
        ("en-US", "TO", "Ada", ["Manuals: 12"]),
        "were switched off",
    ),
    "send_inner_mail_task": (
        (["TO"], "Hello {{ name }}", "<p>Hi {{ name }}</p>", {"name": "<Ada>"}),
        "Hello <Ada>",
    ),
    "send_test_mail_task": (("en-US", "TO"), "A test message"),
}


def task(mails: Mails, name: str) -> Any:
    celery = mails.app.extensions["celery"]
    celery.loader.import_default_modules()
    return celery.tasks[f"worker.tasks.mail.{name}"]


def everything_written() -> str:
    """Every row of every table a monitor or an operator looks into."""
    with Session(db.engine) as session:
        return "\n".join(
            str(row)
            for table in ("mail_deliveries", "outbox", "dead_letters", "celery_taskmeta")
            for row in session.execute(text(f"SELECT {table}.* FROM {table}"))
        )


def test_every_task_takes_the_arguments_that_difys_take(
    start_mail_server: StartMailServer, mails_to: MailsTo
) -> None:
    server = start_mail_server()
    mails = mails_to(server)
    assert set(CALLS) == {kind.task for kind in KINDS}

    for name, (arguments, subject) in CALLS.items():
        to = f"{name}@example.com".lower()
        args = [[to] if one == ["TO"] else to if one == "TO" else one for one in arguments]
        task(mails, name).apply(args=args).get()
        message = server.box.messages()[-1]
        assert message["To"] == to
        assert subject in message["Subject"]
        text_part = message.get_body(("plain",)).get_content()  # type: ignore[union-attr]
        for secret in {"C0DE", "T0KEN"}.intersection(one for one in args if isinstance(one, str)):
            assert secret in text_part
    assert {str(row.status) for row in mails.rows()} == {"sent"}
    assert len(server.box.raw) == len(CALLS)


def test_a_message_with_content_sends_once_however_often_it_comes(
    start_mail_server: StartMailServer, mails_to: MailsTo
) -> None:
    server = start_mail_server()
    server.box.faults.append("data:451 later")
    mails = mails_to(server)
    login, message_id = task(mails, "send_email_code_login_mail_task"), str(uuid4())
    args = ["en-US", "ada@example.com", "482913"]

    login.apply(args=args, task_id=message_id, throw=False)
    row = mails.row(UUID(message_id))
    assert row.status in {"queued", "sent"}, "an eager task retries by itself"
    for _ in range(3):
        login.apply(args=args, task_id=message_id, throw=False)

    (row,) = mails.rows()
    assert (row.id, row.status) == (UUID(message_id), "sent")
    assert len(server.box.raw) == 1


def test_what_waits_or_is_buried_has_no_code_in_it(
    start_mail_server: StartMailServer, mails_to: MailsTo
) -> None:
    mails = mails_to(start_mail_server())
    login = task(mails, "send_email_code_login_mail_task")
    request = {"delivery_info": {"routing_key": "mail"}, "id": str(uuid4())}
    login.push_request(args=["de-DE", "ada@example.com", "482913"], kwargs={}, **request)
    try:
        row = Delivered.to(login).row()
    finally:
        login.pop_request()

    assert (row["args"], row["kwargs"]) == ("[]", f'{{"delivery_id": "{request["id"]}"}}')
    assert mails.row(UUID(request["id"])).status == "queued"
    assert "482913" not in everything_written()
    assert login.shown(["de-DE", "a@b.c", "482913"], {"code": "1", "language": "de-DE"}) == (
        ["***"] * 3,
        {"code": "***", "language": "de-DE"},
    )
    assert mails.deliver(UUID(request["id"])) == "sent"
    assert mails.row(UUID(request["id"])).secrets is None


def test_delay_says_at_once_what_is_wrong_and_shows_monitors_no_content(
    start_mail_server: StartMailServer, mails_to: MailsTo
) -> None:
    mails = mails_to(start_mail_server())
    invite = task(mails, "send_invite_member_mail_task")
    for args in (
        ["en-US", "ada@example.com"],
        ["en-US", "ada", "T0KEN", "Ada", "Tides"],
        ["en-US", "ada@example.com", "T0KEN", "Ada\r\nBcc: eve@example.com", "Tides"],
        ["en-US", "ada@example.com", "T0KEN", "Ada", "Tides", "more"],
    ):
        with pytest.raises(InvalidRequest) as refused:
            invite.delay(*args)
        assert "T0KEN" not in str(refused.value)

    invite.delay("en-US", "ada@example.com", "T0KEN", "Ada", "Tides")
    raw = mails.app.extensions["redis"].lindex("mail", 0)
    assert raw is not None
    assert "'***', '***', '***', '***', '***'" in raw
    with Session(db.engine) as session:
        delivery_id = invite.apply_async_on_commit(
            ("en-US", "ada@example.com", "T0KEN", "Ada", "Tides"), session=session
        )
        session.commit()
    (message,) = Messages(mails.app).rows()
    assert (message.args, message.kwargs) == ([], {"delivery_id": str(delivery_id)})
    assert "T0KEN" not in everything_written()


def test_each_of_several_addresses_has_its_own_delivery(
    start_mail_server: StartMailServer, mails_to: MailsTo
) -> None:
    server = start_mail_server()
    mails = mails_to(server)
    inner, message_id = task(mails, "send_inner_mail_task"), str(uuid4())
    people = ["ada@example.com", "not an address", "Ada@Example.com", "bo@example.com"]
    people += ["ada@example.com", "cy@example.com"]

    for _ in range(2):
        inner.apply(args=[people, "Hi", "Text"], task_id=message_id).get()

    rows = {row.recipient: row for row in mails.rows()}
    assert set(rows) == {"ada@example.com", "Ada@example.com", "not an address"} | {
        "bo@example.com",
        "cy@example.com",
    }
    assert rows.pop("not an address").status == "failed"
    announced = {str(one.kwargs["delivery_id"]) for one in Messages(mails.app).rows()}
    assert announced == {str(row.id) for row in rows.values()}, "once each, whoever came twice"

    server.box.faults += ["rcpt:550 gone", "data:451 later"]
    ends = [mails.deliver(row.id) for row in rows.values() for _ in range(2)]
    assert len(ends) == 8
    assert sorted(server.box.recipients) == sorted(set(server.box.recipients))
    assert sorted(str(row.status) for row in mails.rows()) == ["failed"] * 2 + ["sent"] * 3
