"""``rag-worker create-tenant``, ``reset-password``, ``reset-email``: people, mended by hand."""

import sys
from uuid import UUID

import click
from sqlalchemy.orm import Session

from shared.models import db
from shared.submitting import accounts
from shared.submitting.mail_kinds import LANGUAGES
from worker.cli.application import in_application
from worker.cli.documents import as_one_line, json_option
from worker.cli.printing import printable

stdin_option = click.option(
    "--password-stdin", is_flag=True, help="Read it from the first line of standard input."
)


@click.command()
@click.option("--email", required=True, help="Of its owner; one without an account gets one.")
@click.option("--name", default="", help="Of the tenant; after its owner, when unset.")
@click.option(
    "--language",
    type=click.Choice(LANGUAGES),
    default="en-US",
    show_default=True,
    help="Of a new account.",
)
@stdin_option
@json_option
@in_application
def create_tenant(
    context: click.Context,  # noqa: ARG001 - every command in an application gets it
    email: str,
    name: str,
    language: str,
    *,
    password_stdin: bool,
    as_json: bool,
) -> None:
    """Make a tenant and its owner.

    A new account's password is made and printed once, unless it is given.
    """
    password = _first_line() if password_stdin else None
    with Session(db.engine) as session, session.begin():
        made = accounts.create_tenant(session, email, name, language, password)
    if as_json:
        shown: dict[str, object] = {
            "tenant_id": str(made.tenant_id),
            "account_id": str(made.account_id),
            "name": made.name,
            "email": made.email,
            "password": made.password,
        }
        click.echo(as_one_line(shown))
        return
    click.echo(printable(f"tenant {made.name} ({made.tenant_id}), owner {made.email}"))
    if made.password is not None:
        click.echo(f"password: {made.password}")


@click.command()
@click.option("--email", required=True, help="Whose.")
@stdin_option
@json_option
@in_application
def reset_password(
    context: click.Context,  # noqa: ARG001 - every command in an application gets it
    email: str,
    *,
    password_stdin: bool,
    as_json: bool,
) -> None:
    """Give an account another password.

    It is asked for twice, and never taken from the command line, which others can read.
    """
    password = (
        _first_line()
        if password_stdin
        else click.prompt("New password", hide_input=True, confirmation_prompt=True, err=True)
    )
    with Session(db.engine) as session, session.begin():
        account_id = accounts.reset_password(session, email, password)
    _print(account_id, email, "has a new password", as_json=as_json)


@click.command()
@click.option("--email", required=True, help="The address now.")
@click.option("--new-email", required=True, help="The address from now on.")
@json_option
@in_application
def reset_email(
    context: click.Context,  # noqa: ARG001 - every command in an application gets it
    email: str,
    new_email: str,
    *,
    as_json: bool,
) -> None:
    """Give an account another address."""
    with Session(db.engine) as session, session.begin():
        account_id = accounts.reset_email(session, email, new_email)
    _print(account_id, email, f"has the address {new_email}", as_json=as_json)


def _print(account_id: UUID, email: str, what: str, *, as_json: bool) -> None:
    if as_json:
        click.echo(as_one_line({"account_id": str(account_id), "email": email, "done": what}))
    else:
        click.echo(printable(f"account {email} ({account_id}) {what}"))


def _first_line() -> str:
    return sys.stdin.readline().rstrip("\r\n")
