"""Mails are composed: words of a language in one layout, as HTML and as plain text.

Layout and words may be the operator's own, fields are strangers': templates run in
Jinja2's sandbox, everything a field holds is escaped, and a missing one is an error.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parseaddr
from functools import cache, lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import ChoiceLoader, FileSystemLoader, StrictUndefined, Template, TemplateError
from jinja2.exceptions import SecurityError
from jinja2.meta import find_undeclared_variables
from jinja2.sandbox import ImmutableSandboxedEnvironment
from markupsafe import Markup

from shared.errors import ConfigurationError, InvalidRequest, Permanent
from shared.submitting.mail_address import mail_address
from shared.submitting.mail_kinds import LANGUAGES, MailKind
from worker.providers.letter import Letter
from worker.services.mail.plain_text import is_html, plain_text
from worker.services.mail.waiting_mail import WaitingMail

BUILT_IN = Path(__file__).parent / "templates"
_INNER = "inner"
#: What words may name and still say the same in every mail.
_OF_EVERY_MAIL = ("brand", "color", "language")
_PARTS = ("subject", "heading", "lines", "action", "note")


@dataclass(frozen=True, slots=True)
class Look:
    """What mails look like and whom they speak for.

    Attributes:
        sender: a mail address, or ``Name <address>``.
        web_url: links lead below it.
        templates: a folder whose templates and words go before the built-in ones.
    """

    sender: str
    brand: str = "rag-worker"
    color: str = "#1f5fbf"
    web_url: str = "http://localhost:3000"
    templates: Path | None = None


@dataclass(frozen=True, slots=True)
class Rendered:
    """A mail's content."""

    subject: str
    html: str
    text: str


class Composer:
    """Makes mails.

    Args:
        look: of all of them.

    Raises:
        ConfigurationError: the words or the sender cannot be read.
    """

    def __init__(self, look: Look) -> None:
        self._look = look
        self._name, address = parseaddr(look.sender)
        self._address = _sender_address(address) if look.sender else ""
        folders = [folder for folder in (look.templates, BUILT_IN) if folder is not None]
        self._html = _environment(folders, escapes=True)
        self._text = _environment(folders, escapes=False)
        self._words = {language: _words(folders, language) for language in LANGUAGES}
        self._pages: dict[tuple[str, str, str], Template] = {}

    def header_id(self, mail: WaitingMail) -> str:
        """The Message-ID of every copy: the first one's, or the same again made of the row."""
        domain = self._address.rpartition("@")[2] or "localhost"
        return mail.header_id or f"<{mail.delivery_id}@{domain}>"

    def compose(self, mail: WaitingMail) -> Letter:
        """The mail of a delivery; each copy is the same.

        Raises:
            Permanent: the template is broken, or names a field the mail has not got.
        """
        content = self.render(mail.kind, mail.language, mail.fields)
        return Letter(
            sender_name=self._name or self._look.brand,
            sender_address=self._address,
            recipient=mail.recipient,
            subject=content.subject,
            text=content.text,
            html=content.html,
            language=mail.language,
            accepted_at=mail.accepted_at,
            header_id=self.header_id(mail),
            boundary=f"=_{mail.delivery_id.hex}",
        )

    def render(self, kind: MailKind, language: str, fields: Mapping[str, Any]) -> Rendered:
        """Subject and both parts.

        Raises:
            Permanent: the template is broken, or names a field the mail has not got.
        """
        try:
            return self._rendered(kind, language, dict(fields))
        except (TemplateError, SecurityError) as error:
            # Not its text: the template of an inner mail may be a secret.
            what = f"{type(error).__name__}: {error.message}" if kind.name != _INNER else ""
            raise Permanent(
                f"the template of {kind.name} in {language} cannot be used. {what}".strip()
            ) from None
        except (ArithmeticError, TypeError, ValueError, LookupError, RecursionError) as error:
            raise Permanent(
                f"the template of {kind.name} in {language} fails: {type(error).__name__}"
            ) from None

    def _rendered(self, kind: MailKind, language: str, fields: dict[str, Any]) -> Rendered:
        values = fields | {
            "brand": self._look.brand,
            "color": self._look.color,
            "language": language,
            "link": self._link(kind, fields),
        }
        _, html = self._document(kind, self._html, "html", values)
        subject, text = self._document(kind, self._text, "txt", values)
        return Rendered(" ".join(subject.split()), html, text)

    def _document(
        self, kind: MailKind, environment: Any, ending: str, values: dict[str, Any]
    ) -> tuple[str, str]:
        language = values["language"]
        if kind.name == _INNER:
            words = _inner(environment, self._html, values)
        else:
            words = {
                name: _filled(environment, self._words[language][kind.name].get(name), values)
                for name in _PARTS
            }
        common = {
            name: _filled(environment, value, values)
            for name, value in self._words[language]["common"].items()
        }
        page = self._page(kind, environment, ending, language)
        return str(words["subject"]), page.render(values, words=words, common=common)

    def _page(self, kind: MailKind, environment: Any, ending: str, language: str) -> Template:
        found = self._pages.get((kind.name, language, ending))
        if found is None:
            names = (f"{kind.name}.{language}.{ending}", f"{kind.name}.{ending}")
            found = _with_plain_globals(environment.select_template([*names, f"message.{ending}"]))
            self._pages[kind.name, language, ending] = found
        return found

    def _link(self, kind: MailKind, fields: Mapping[str, Any]) -> str | None:
        if kind.link is None:
            return None
        quoted = {name: quote(str(value), safe="") for name, value in fields.items()}
        return self._look.web_url.rstrip("/") + kind.link.format_map(quoted)


def _environment(folders: list[Path], *, escapes: bool) -> ImmutableSandboxedEnvironment:
    return ImmutableSandboxedEnvironment(
        loader=ChoiceLoader([FileSystemLoader(folder) for folder in folders]),
        autoescape=escapes,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=False,
        # Not asked of the disk at each mail: what is changed there is taken at a restart.
        auto_reload=False,
    )


def _filled(environment: Any, words: Any, values: dict[str, Any]) -> Any:
    if words is None:
        return None
    if isinstance(words, list):
        filled = [_filled(environment, one, values) for one in words]
        return [one for one in filled if one.strip()]
    text = _text(environment, words, values)
    return Markup(text) if environment.autoescape else text  # noqa: S704 - rendered with escaping


def _text(environment: Any, words: str, values: dict[str, Any]) -> str:
    template, is_the_same = _compiled(environment, words)
    if not is_the_same:
        return template.render(values)
    return _always(environment, words, *(values[name] for name in _OF_EVERY_MAIL))


@cache
def _compiled(environment: Any, words: str) -> tuple[Template, bool]:
    """The words as a template, and whether they say the same in every mail of a look."""
    names = find_undeclared_variables(environment.parse(words))
    return _with_plain_globals(environment.from_string(words)), names.issubset(_OF_EVERY_MAIL)


@lru_cache(maxsize=4096)
def _always(environment: Any, words: str, *values: str) -> str:
    template, _ = _compiled(environment, words)
    return template.render(zip(_OF_EVERY_MAIL, values, strict=True))


def _with_plain_globals(template: Template) -> Template:
    # Jinja copies a chain of them into each rendering: for a mail's few words, most of its time.
    template.globals = dict(template.globals)
    return template


def _inner(environment: Any, escaping: Any, values: dict[str, Any]) -> dict[str, Any]:
    fields, body = dict(values["substitutions"]), values["body"]

    def filled(words: str, by: Any) -> Any:
        return Markup(by.from_string(words).render(fields))  # noqa: S704 - escaped, or text

    subject = filled(values["subject"], environment)
    words: dict[str, Any] = dict.fromkeys(_PARTS) | {"subject": subject, "heading": subject}
    if not is_html(body):
        text = filled(body, environment)
        words["lines"] = [one.strip() for one in text.split("\n\n") if one.strip()]
    elif environment is escaping:
        words["body"] = filled(body, escaping)
    else:
        # Escaped before its tags go: what looks like one in a value is text.
        words["lines"] = plain_text(filled(body, escaping))
    return words


def _words(folders: list[Path], language: str) -> dict[str, dict[str, Any]]:
    words: dict[str, dict[str, Any]] = {}
    for folder in reversed(folders):
        path = folder / "words" / f"{language}.toml"
        if not path.is_file():
            continue
        try:
            found = tomllib.loads(path.read_text(encoding="utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ConfigurationError(f"{path}: {error}") from None
        for kind, parts in found.items():
            words[kind] = words.get(kind, {}) | parts
    return words


def _sender_address(address: str) -> str:
    try:
        return mail_address(address)
    except InvalidRequest as error:
        raise ConfigurationError(f"MAIL_DEFAULT_SEND_FROM: {error}") from None
