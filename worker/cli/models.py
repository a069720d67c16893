"""``rag-worker models``: which chat model serves a tenant, and what it may spend."""

from collections.abc import Callable
from typing import Any, TextIO

import click
from flask import current_app
from pydantic import SecretStr
from sqlalchemy.orm import Session

from shared.errors import InvalidRequest
from shared.models import db
from shared.settings import Settings
from shared.submitting.chat_models import (
    ChatModelChange,
    chat_model_of,
    delete_chat_model,
    set_chat_model,
    spent_today,
    tenant_named,
)
from shared.submitting.datasets import ensure_tenant
from shared.submitting.sealing import SealingKeys
from worker.cli.application import in_application
from worker.cli.documents import DEFAULT_NAME, as_one_line, json_option
from worker.cli.printing import printable

tenant_option: Callable[[Any], Any] = click.option(
    "--tenant", default=DEFAULT_NAME, show_default=True, help="Whose."
)


@click.group()
def models() -> None:
    """Set, show or delete tenants' chat models.

    A tenant without one of its own has that of the settings (GENERATION_MODEL); without
    either, sentences of the texts themselves are picked.
    """


@models.command("set")
@tenant_option
@click.option("--base-url", help="Where it answers, up to the version: http://host:8000/v1.")
@click.option("--model", help="Its name there.")
@click.option("--key-file", type=click.File(), help="Holds its key; - reads it from stdin.")
@click.option("--context-tokens", type=int, help="What it takes, its answer included.")
@click.option("--tokens-per-day", type=int, help="The tenant's budget a day of UTC; 0: none.")
@click.option(
    "--input-cost", "input_cost_per_million", type=float, help="Of a million tokens sent."
)
@click.option(
    "--output-cost", "output_cost_per_million", type=float, help="Of a million tokens written."
)
@json_option
@in_application
def set_one(
    context: click.Context,  # noqa: ARG001 - every command in an application gets it
    /,
    tenant: str,
    key_file: TextIO | None,
    *,
    as_json: bool,
    **values: Any,
) -> None:
    """Give a tenant a model, a budget or prices of its own.

    What is not named stays as it is. A new --base-url drops the key of the old one.
    """
    key = None if key_file is None else _key(key_file)
    if key is None and all(value is None for value in values.values()):
        raise click.UsageError("name what to set: --model, --base-url, --tokens-per-day …")
    with Session(db.engine) as session, session.begin():
        tenant_id = ensure_tenant(session, tenant)
        change = ChatModelChange(key=key, **values)
        set_chat_model(session, tenant_id, change, _settings().application.secret_key)
    _show(tenant, as_json=as_json)


@models.command("show")
@tenant_option
@json_option
@in_application
def show_one(
    context: click.Context,  # noqa: ARG001 - every command in an application gets it
    tenant: str,
    *,
    as_json: bool,
) -> None:
    """Show what serves a tenant, and what it spent today."""
    _show(tenant, as_json=as_json)


@models.command("delete")
@tenant_option
@json_option
@in_application
def delete_one(
    context: click.Context,  # noqa: ARG001 - every command in an application gets it
    tenant: str,
    *,
    as_json: bool,
) -> None:
    """Leave a tenant to the settings again."""
    with Session(db.engine) as session, session.begin():
        had_one = delete_chat_model(session, tenant_named(session, tenant))
    if as_json:
        click.echo(as_one_line({"tenant": tenant, "deleted": had_one}))
    else:
        what = "has the settings' model again" if had_one else "had none of its own"
        click.echo(f"{printable(tenant)}  {what}")


def _show(tenant: str, *, as_json: bool) -> None:
    settings = _settings()
    with Session(db.engine) as session:
        tenant_id = tenant_named(session, tenant)
        keys = SealingKeys.of(settings.application)
        choice = chat_model_of(session, tenant_id, settings.generation, keys)
        spent = spent_today(session, tenant_id)
    shown: dict[str, object] = {
        "tenant": tenant,
        "model": choice.model or None,
        "base_url": choice.base_url if choice.model else None,
        "has_key": bool(choice.key.get_secret_value()),
        "is_own": choice.is_own,
        "context_tokens": choice.context_tokens,
        "tokens_per_day": choice.tokens_per_day or None,
        "tokens_today": spent.tokens,
        "cost_today": float(spent.cost),
    }
    if as_json:
        click.echo(as_one_line(shown))
        return
    budget = f" of {choice.tokens_per_day:,}" if choice.tokens_per_day else ""
    click.echo(
        f"{printable(tenant)}  {printable(choice.model or 'no model: sentences are picked')}"
        + (f" at {choice.base_url}" if choice.model else "")
        + (", with a key" if choice.model and shown["has_key"] else "")
        + f"; today {spent.tokens:,}{budget} tokens, cost {spent.cost:.4f}"
    )


def _key(source: TextIO) -> SecretStr:
    key = source.readline().strip()
    if not key or not key.isascii() or not key.isprintable():
        raise InvalidRequest("--key-file: its first line is no key")
    return SecretStr(key)


def _settings() -> Settings:
    settings: Settings = current_app.extensions["settings"]
    return settings
