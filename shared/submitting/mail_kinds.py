"""The kinds of mail as one table: the fields each is made of, and its task.

Codes and tokens are marked as secret: they are stored apart, sealed, and shown to nobody.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from unicodedata import category
from uuid import UUID

from shared.errors import InvalidRequest
from shared.submitting.files import storable

FALLBACK_LANGUAGE = "en-US"
LANGUAGES = (FALLBACK_LANGUAGE, "zh-Hans", "ja-JP", "de-DE", "fr-FR", "es-ES")
#: Simplified by region; traditional Chinese is another language.
_SIMPLIFIED = {"zh", "zh-cn", "zh-sg", "zh-hans", "zh-hans-cn"}

#: Control characters, and the separators of lines and paragraphs.
_BREAKS = {"Cc", "Zl", "Zp"}
_LINE_CHARACTERS = 1000
_TEXT_CHARACTERS = 200_000
_REQUIRED: Final = object()


@dataclass(frozen=True, slots=True)
class MailField:
    """One value of a mail's text.

    Attributes:
        sample: for previews; its type is the field's.
        is_secret: a code or a token, or text that may hold one.
        is_text: may have several lines; all others stand in subjects and headings.
        default: for callers that leave it out.
    """

    name: str
    sample: Any
    is_secret: bool = False
    is_text: bool = False
    default: Any = _REQUIRED

    @property
    def is_required(self) -> bool:
        """Whether callers must give it."""
        return self.default is _REQUIRED


@dataclass(frozen=True, slots=True)
class MailKind:
    """One kind of mail.

    Attributes:
        name: of its words in each language, and in the delivery row.
        task: the last part of its task's name.
        link: where its button leads, below ``CONSOLE_WEB_URL``; fields in braces.
        priority: in the outbox; somebody waits in front of a screen for a code.
    """

    name: str
    task: str
    fields: tuple[MailField, ...] = ()
    link: str | None = None
    priority: int = 0

    @property
    def task_name(self) -> str:
        """The whole name of its task."""
        return f"worker.tasks.mail.{self.task}"

    @property
    def samples(self) -> dict[str, Any]:
        """A value for each field."""
        return {field.name: field.sample for field in self.fields}

    def validated(self, given: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """The fields as they are stored: the public ones and the secret ones.

        Raises:
            InvalidRequest: one is missing, unknown or of the wrong type.
        """
        unknown = sorted(set(given) - {field.name for field in self.fields})
        if unknown:
            raise InvalidRequest(f"{self.name} mail: there is no field {', '.join(unknown)}")
        public: dict[str, Any] = {}
        secret: dict[str, Any] = {}
        for field in self.fields:
            value = given.get(field.name, field.default)
            if value is _REQUIRED:
                raise InvalidRequest(f"{self.name} mail: {field.name} is missing")
            (secret if field.is_secret else public)[field.name] = _checked(self, field, value)
        return public, secret


_CODE = MailField("code", "482913", is_secret=True)
_TOKEN = MailField("token", "c0ffee00-sample-token", is_secret=True)
_WORKSPACE = MailField("workspace", "Tidal Research")

KINDS: tuple[MailKind, ...] = (
    MailKind("register", "send_email_register_mail_task", (_CODE,), priority=1),
    MailKind(
        "register_existing_account",
        "send_email_register_mail_task_when_account_exist",
        (MailField("account_name", "Ada Lovelace"),),
        link="/signin",
    ),
    MailKind("email_code_login", "send_email_code_login_mail_task", (_CODE,), priority=1),
    MailKind("reset_password", "send_reset_password_mail_task", (_CODE,), priority=1),
    MailKind(
        "reset_password_unknown_account",
        "send_reset_password_mail_task_when_account_not_exist",
        (MailField("is_allow_register", True),),  # noqa: FBT003 - a sample value
        link="/signup",
    ),
    MailKind(
        "change_mail",
        "send_change_mail_task",
        (_CODE, MailField("phase", "old_email")),
        priority=1,
    ),
    MailKind("change_mail_completed", "send_change_mail_completed_notification_task"),
    MailKind(
        "invite_member",
        "send_invite_member_mail_task",
        (
            _TOKEN,
            MailField("inviter_name", "Ada Lovelace"),
            MailField("workspace_name", "Tidal Research"),
        ),
        link="/activate?token={token}",
    ),
    MailKind(
        "owner_transfer_confirm",
        "send_owner_transfer_confirm_task",
        (_CODE, _WORKSPACE),
        priority=1,
    ),
    MailKind(
        "owner_transfer_old",
        "send_old_owner_transfer_notify_email_task",
        (_WORKSPACE, MailField("new_owner_email", "grace@example.com")),
    ),
    MailKind("owner_transfer_new", "send_new_owner_transfer_notify_email_task", (_WORKSPACE,)),
    MailKind(
        "account_deletion_code", "send_account_deletion_verification_code", (_CODE,), priority=1
    ),
    MailKind("account_deletion_success", "send_deletion_success_task"),
    MailKind(
        "document_clean_notice",
        "send_document_clean_notify_mail_task",
        (
            MailField("account_name", "Ada Lovelace"),
            MailField("knowledge_details", ["Harbour manuals: 12", "Tide tables: 3"]),
        ),
        link="/datasets",
    ),
    MailKind(
        "inner",
        "send_inner_mail_task",
        (
            MailField("subject", "Maintenance on Sunday", is_secret=True),
            MailField(
                "body",
                "<p>Hello {{ name }}, we are back at nine.</p>",
                is_secret=True,
                is_text=True,
            ),
            MailField("substitutions", {"name": "Ada"}, is_secret=True, default={}),
        ),
    ),
    MailKind("test", "send_test_mail_task"),
)
BY_NAME = {kind.name: kind for kind in KINDS}
PHASES = ("old_email", "new_email")


def kind_of(name: str) -> MailKind:
    """The kind of that name.

    Raises:
        InvalidRequest: there is none.
    """
    kind = BY_NAME.get(name)
    if kind is None:
        raise InvalidRequest(f"there is no mail {name}; there are: {', '.join(BY_NAME)}")
    return kind


def language_of(wanted: object) -> str:
    """The language a mail is written in; en-US for one there is no translation to."""
    tag = str(wanted or "").strip().replace("_", "-").lower()
    for language in LANGUAGES:
        if tag == language.lower():
            return language
    if tag in _SIMPLIFIED:
        return "zh-Hans"
    primary = tag.partition("-")[0]
    known = {one.partition("-")[0]: one for one in LANGUAGES if not one.startswith("zh")}
    return known.get(primary, FALLBACK_LANGUAGE)


def _checked(kind: MailKind, field: MailField, value: Any) -> Any:
    wanted = type(field.sample)
    what = f"{kind.name} mail: {field.name}"
    # Never the value itself: it may be a code.
    if not isinstance(value, wanted):
        if wanted is str and isinstance(value, UUID):
            return str(value)
        raise InvalidRequest(f"{what} must be {wanted.__name__}, not {type(value).__name__}")
    if isinstance(value, str):
        return _checked_text(what, value, is_text=field.is_text)
    if isinstance(value, list):
        return [_checked_text(what, one, is_text=False) for one in value]
    if isinstance(value, dict):
        return {str(key): _checked_value(what, one) for key, one in value.items()}
    return value


def _checked_value(what: str, value: Any) -> Any:
    if value is None or value == "" or isinstance(value, (bool, int, float)):
        return value
    return _checked_text(what, value, is_text=True)


def _checked_text(what: str, value: Any, *, is_text: bool) -> str:
    if not isinstance(value, str):
        raise InvalidRequest(f"{what} must hold text, not {type(value).__name__}")
    if not value.strip():
        raise InvalidRequest(f"{what} is empty")
    if len(value) > (_TEXT_CHARACTERS if is_text else _LINE_CHARACTERS):
        raise InvalidRequest(f"{what} is too long")
    # In a subject a line break would begin a header of the sender's choice.
    if not is_text and any(category(letter) in _BREAKS for letter in value):
        raise InvalidRequest(f"{what} holds a line break or a control character")
    if what.endswith(": phase") and value not in PHASES:
        raise InvalidRequest(f"{what} must be one of: {', '.join(PHASES)}")
    return storable(value)
