"""``rag-worker mail``: see what mails look like, try the provider, follow and repeat deliveries."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import click
from flask import current_app
from sqlalchemy import String, cast, select
from sqlalchemy.orm import Session

from shared.errors import ConfigurationError, InvalidRequest, NotFound, RagWorkerError
from shared.models import MailDelivery, MailStatus, db
from shared.settings import Settings
from shared.submitting.mail import MailRules, retry_mail, write_deliveries
from shared.submitting.mail_address import mail_address
from shared.submitting.mail_kinds import BY_NAME, KINDS, LANGUAGES, kind_of, language_of
from worker.cli.application import in_application
from worker.cli.documents import as_one_line, json_option
from worker.cli.failures import SOME_FAILED
from worker.cli.printing import printable, shortened

_REASON_CHARACTERS = 100
_NAMES = ", ".join(BY_NAME)
_STATUSES = click.Choice([status.value for status in MailStatus])

language_option = click.option(
    "--lang", "language", default="en-US", show_default=True, help=f"{', '.join(LANGUAGES)}."
)


@click.group()
def mail() -> None:
    """Preview, test, list, show and retry mails.

    Every mail is a delivery row, from its acceptance to its end. An id may be
    shortened as long as only one delivery begins so.
    """


@mail.command(help=f"Write the HTML of mail NAME, with sample values.\n\nNames: {_NAMES}.")
@click.argument("name")
@language_option
@click.option("--text", "is_text", is_flag=True, help="The plain-text part instead.")
@click.option(
    "--output",
    type=click.Path(dir_okay=False, allow_dash=True, path_type=Path),
    default="-",
    help="A file; stdout, when unset.",
)
@in_application
def preview(
    context: click.Context,  # noqa: ARG001 - every command in an application gets it
    name: str,
    language: str,
    output: Path,
    *,
    is_text: bool,
) -> None:
    """Write what a kind of mail looks like."""
    from worker.wiring import composer

    kind = kind_of(name.replace("-", "_"))
    content = composer(_settings().mail).render(kind, language_of(language), kind.samples)
    written = content.text if is_text else content.html
    if str(output) == "-":
        click.echo(written)
        return
    output.write_text(written, encoding="utf-8")
    click.echo(f"{output}: {printable(content.subject)}")


@mail.command()
@click.option("--to", required=True, help="The address.")
@language_option
@json_option
@in_application
def test(context: click.Context, to: str, language: str, *, as_json: bool) -> None:
    """Send a test mail now, and say what the provider said.

    It goes the way of every mail, but for the queue: no worker is needed.
    """
    from worker.services.mail.sending import deliver_mail
    from worker.wiring import mail_needs

    if not _settings().mail.mail_type:
        raise ConfigurationError("MAIL_TYPE is empty: no mail is sent; set it to smtp, resend …")
    needs, delivery_id = mail_needs(), uuid4()
    mail_address(to)
    with Session(db.engine) as session, session.begin():
        (accepted,) = write_deliveries(
            session,
            BY_NAME["test"],
            [(delivery_id, to)],
            language,
            {},
            # Whoever tries a provider tries more often than anybody gets mail.
            MailRules(recipient_limit=0),
            announced=lambda _: None,
        )
    try:
        deliver_mail(accepted.delivery_id, needs)
    except RagWorkerError as error:
        # The row has it too. Nobody is to send it later, behind the operator's back.
        _end(delivery_id, str(error))
    with Session(db.engine) as session:
        row = session.get_one(MailDelivery, delivery_id)
    _print(row, as_json=as_json)
    if row.status not in {MailStatus.SENT, MailStatus.RESENT}:
        context.exit(SOME_FAILED)


@mail.command("list")
@click.option("--status", type=_STATUSES, help="Only those.")
@click.option("--kind", help="Only of this kind.")
@click.option("--to", help="Only to this address.")
@click.option("--limit", default=100, show_default=True, type=click.IntRange(1), help="The newest.")
@json_option
@in_application
def list_mails(
    context: click.Context,  # noqa: ARG001 - every command in an application gets it
    status: str | None,
    kind: str | None,
    to: str | None,
    limit: int,
    *,
    as_json: bool,
) -> None:
    """Show deliveries, the newest first."""
    query = _of(select(MailDelivery), status, kind, to)
    with Session(db.engine) as session:
        found = list(session.scalars(query.order_by(MailDelivery.created_at.desc()).limit(limit)))
    if as_json:
        click.echo(as_one_line({"mails": [_as_json(one) for one in found]}))
        return
    for one in found:
        click.echo(
            f"{one.id}  {one.created_at:%Y-%m-%d %H:%M:%S}  {one.status:<8}  "
            f"{printable(one.kind)}  {printable(one.recipient)}  {one.attempts} attempts"
        )
        if one.error:
            click.echo(f"    {shortened(one.error, _REASON_CHARACTERS)}")
    if not found:
        click.echo("no mails")


@mail.command()
@click.argument("delivery_id", metavar="ID")
@json_option
@in_application
def show(
    context: click.Context,  # noqa: ARG001 - every command in an application gets it
    delivery_id: str,
    *,
    as_json: bool,
) -> None:
    """Show a delivery whole; codes and tokens stay hidden."""
    with Session(db.engine) as session:
        _print(_found(session, delivery_id), as_json=as_json)


@mail.command()
@click.argument("ids", nargs=-1, metavar="[ID]...")
@click.option("--all", "is_all", is_flag=True, help="All that failed or were disabled.")
@click.option("--kind", help="With --all: only of this kind.")
@json_option
@in_application
def retry(
    context: click.Context,  # noqa: ARG001 - every command in an application gets it
    ids: tuple[str, ...],
    kind: str | None,
    *,
    is_all: bool,
    as_json: bool,
) -> None:
    """Send mails again that failed or were disabled."""
    if bool(ids) == is_all:
        raise click.UsageError("name deliveries, or say --all")
    celery = current_app.extensions["celery"]
    retried: list[UUID] = []
    left: list[UUID] = []
    for delivery_id in _chosen(ids, kind):
        with Session(db.engine) as session, session.begin():
            row = session.get(MailDelivery, delivery_id)
            is_retried = row is not None and retry_mail(session, row, celery=celery)
        (retried if is_retried else left).append(delivery_id)
    if as_json:
        click.echo(as_one_line({"retried": retried, "left_alone": left}))
        return
    click.echo(f"{len(retried)} retried" + (f", {len(left)} left alone" if left else ""))


def _chosen(ids: Sequence[str], kind: str | None) -> list[UUID]:
    with Session(db.engine) as session:
        if ids:
            return list(dict.fromkeys(_found(session, one).id for one in ids))
        ended = (MailStatus.FAILED.value, MailStatus.DISABLED.value)
        query = _of(select(MailDelivery.id), None, kind, None)
        return list(session.scalars(query.where(MailDelivery.status.in_(ended))))


def _of(query: Any, status: str | None, kind: str | None, to: str | None) -> Any:
    if status:
        query = query.where(MailDelivery.status == status)
    if kind:
        if kind.replace("-", "_") not in BY_NAME:
            raise InvalidRequest(f"there is no mail {kind}; there are: {_NAMES}")
        query = query.where(MailDelivery.kind == kind.replace("-", "_"))
    return query.where(MailDelivery.recipient == mail_address(to)) if to else query


def _found(session: Session, beginning: str) -> MailDelivery:
    query = select(MailDelivery).where(
        cast(MailDelivery.id, String).startswith(beginning.lower(), autoescape=True)
    )
    found = session.scalars(query.limit(2)).all()
    if not found or not beginning:
        raise NotFound(f"there is no mail delivery {beginning}: see `rag-worker mail list`")
    if len(found) > 1:
        raise InvalidRequest(f"several deliveries begin with {beginning}: write more of the id")
    return found[0]


def _end(delivery_id: UUID, reason: str) -> None:
    from worker.services.mail.giving_up import give_up_mail
    from worker.wiring import mail_needs

    give_up_mail(delivery_id, mail_needs(), reason)


def _print(row: MailDelivery, *, as_json: bool) -> None:
    shown = _as_json(row)
    if as_json:
        click.echo(as_one_line(shown))
        return
    for name, value in shown.items():
        if value is not None:
            click.echo(f"{name}: {printable(str(value))}")


def _as_json(row: MailDelivery) -> dict[str, object]:
    """A delivery for people and scripts; of secret fields, the names."""
    shown = {column.key: getattr(row, column.key) for column in MailDelivery.__table__.columns}
    secret = [
        field.name
        for kind in KINDS
        if kind.name == row.kind
        for field in kind.fields
        if field.is_secret
    ]
    shown["secrets"] = dict.fromkeys(secret, "********") if row.secrets else None
    if row.lease_expires_at is not None and row.lease_expires_at < datetime.now(UTC):
        shown["lease_owner"] = f"{row.lease_owner} (run out)"
    return shown


def _settings() -> Settings:
    settings: Settings = current_app.extensions["settings"]
    return settings
