"""The mail queue's tasks: a kind of mail each, with the names and arguments that Dify's have.

``.delay(language, to, …)`` works as there. What loses nothing, and keeps codes out of
the broker, is ``shared.submitting.mail.send_mail``: its messages carry ``delivery_id``.
Delivered twice, a task sends once; what became of a mail stands in ``mail_deliveries``.
"""

from collections.abc import Callable
from typing import Any

from celery import shared_task

from shared.contract import MAIL_TASKS
from worker.tasks.mail_task import MailTask

_NAMES = {task.name.rpartition(".")[2]: task.name for task in MAIL_TASKS}


def _task(name: str) -> Callable[[Callable[..., None]], Any]:
    # Checked by ``MailTask``: a message may carry the content or the row's id.
    made: Any = shared_task(name=_NAMES[name], base=MailTask, bind=True, typing=False)
    return made  # type: ignore[no-any-return]


@_task("send_email_register_mail_task")
def send_email_register_mail_task(
    self: MailTask, language: str = "", to: str = "", code: str = "", *, delivery_id: Any = None
) -> None:
    """Send the code that confirms a new account's address."""
    self.deliver(delivery_id, to, language, code=code)


@_task("send_email_register_mail_task_when_account_exist")
def send_email_register_mail_task_when_account_exist(
    self: MailTask,
    language: str = "",
    to: str = "",
    account_name: str = "",
    *,
    delivery_id: Any = None,
) -> None:
    """Tell somebody who registers that there is an account already."""
    self.deliver(delivery_id, to, language, account_name=account_name)


@_task("send_email_code_login_mail_task")
def send_email_code_login_mail_task(
    self: MailTask, language: str = "", to: str = "", code: str = "", *, delivery_id: Any = None
) -> None:
    """Send the code to sign in with."""
    self.deliver(delivery_id, to, language, code=code)


@_task("send_reset_password_mail_task")
def send_reset_password_mail_task(
    self: MailTask, language: str = "", to: str = "", code: str = "", *, delivery_id: Any = None
) -> None:
    """Send the code to choose a new password with."""
    self.deliver(delivery_id, to, language, code=code)


@_task("send_reset_password_mail_task_when_account_not_exist")
def send_reset_password_mail_task_when_account_not_exist(
    self: MailTask,
    language: str = "",
    to: str = "",
    is_allow_register: bool = False,  # noqa: FBT001, FBT002 - Dify's
    *,
    delivery_id: Any = None,
) -> None:
    """Tell somebody who wants a new password that there is no such account."""
    self.deliver(delivery_id, to, language, is_allow_register=is_allow_register)


@_task("send_change_mail_task")
def send_change_mail_task(
    self: MailTask,
    language: str = "",
    to: str = "",
    code: str = "",
    phase: str = "",
    *,
    delivery_id: Any = None,
) -> None:
    """Send the code for a change of address: to the ``old_email`` or the ``new_email``."""
    self.deliver(delivery_id, to, language, code=code, phase=phase)


@_task("send_change_mail_completed_notification_task")
def send_change_mail_completed_notification_task(
    self: MailTask, language: str = "", to: str = "", *, delivery_id: Any = None
) -> None:
    """Tell somebody that the address was changed."""
    self.deliver(delivery_id, to, language)


@_task("send_invite_member_mail_task")
def send_invite_member_mail_task(
    self: MailTask,
    language: str = "",
    to: str = "",
    token: str = "",
    inviter_name: str = "",
    workspace_name: str = "",
    *,
    delivery_id: Any = None,
) -> None:
    """Invite somebody to a workspace."""
    self.deliver(
        delivery_id,
        to,
        language,
        token=token,
        inviter_name=inviter_name,
        workspace_name=workspace_name,
    )


@_task("send_owner_transfer_confirm_task")
def send_owner_transfer_confirm_task(
    self: MailTask,
    language: str = "",
    to: str = "",
    code: str = "",
    workspace: str = "",
    *,
    delivery_id: Any = None,
) -> None:
    """Send an owner the code to hand a workspace over with."""
    self.deliver(delivery_id, to, language, code=code, workspace=workspace)


@_task("send_old_owner_transfer_notify_email_task")
def send_old_owner_transfer_notify_email_task(
    self: MailTask,
    language: str = "",
    to: str = "",
    workspace: str = "",
    new_owner_email: str = "",
    *,
    delivery_id: Any = None,
) -> None:
    """Tell the old owner who has the workspace now."""
    self.deliver(delivery_id, to, language, workspace=workspace, new_owner_email=new_owner_email)


@_task("send_new_owner_transfer_notify_email_task")
def send_new_owner_transfer_notify_email_task(
    self: MailTask,
    language: str = "",
    to: str = "",
    workspace: str = "",
    *,
    delivery_id: Any = None,
) -> None:
    """Tell the new owner of the workspace."""
    self.deliver(delivery_id, to, language, workspace=workspace)


@_task("send_account_deletion_verification_code")
def send_account_deletion_verification_code(
    self: MailTask,
    to: str = "",
    code: str = "",
    language: str = "en-US",
    *,
    delivery_id: Any = None,
) -> None:
    """Send the code that confirms the deletion of an account."""
    self.deliver(delivery_id, to, language, code=code)


@_task("send_deletion_success_task")
def send_deletion_success_task(
    self: MailTask, to: str = "", language: str = "en-US", *, delivery_id: Any = None
) -> None:
    """Tell somebody that the account is deleted."""
    self.deliver(delivery_id, to, language)


@_task("send_document_clean_notify_mail_task")
def send_document_clean_notify_mail_task(
    self: MailTask,
    language: str = "",
    to: str = "",
    account_name: str = "",
    knowledge_details: Any = None,
    *,
    delivery_id: Any = None,
) -> None:
    """Tell somebody which knowledge bases had unused documents switched off."""
    self.deliver(
        delivery_id, to, language, account_name=account_name, knowledge_details=knowledge_details
    )


@_task("send_inner_mail_task")
def send_inner_mail_task(
    self: MailTask,
    to: Any = "",
    subject: str = "",
    body: str = "",
    substitutions: Any = None,
    language: str = "en-US",
    *,
    delivery_id: Any = None,
) -> None:
    """Send a text of the caller's to one address or a list: a template, and what goes into it."""
    fields = {"subject": subject, "body": body, "substitutions": substitutions or {}}
    self.deliver(delivery_id, to, language, **fields)


@_task("send_test_mail_task")
def send_test_mail_task(
    self: MailTask, language: str = "", to: str = "", *, delivery_id: Any = None
) -> None:
    """Send a mail that says that mail works."""
    self.deliver(delivery_id, to, language)
