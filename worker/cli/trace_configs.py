"""``rag-worker traces config``: the providers that a tenant's or an app's traces go to."""

import json
import sys
from contextlib import suppress
from typing import Any
from uuid import UUID

import click
from flask import current_app
from sqlalchemy import select
from sqlalchemy.orm import Session

from shared.errors import NotFound
from shared.models import Tenant, TraceConfig, db
from shared.settings import Settings
from shared.submitting.sealing import SealingKeys
from shared.submitting.trace_configs import (
    ConfigDraft,
    delete_trace_config,
    set_trace_config,
    shown_config,
    target_of,
    trace_configs,
)
from shared.submitting.trace_providers import PROVIDERS
from worker.cli.application import in_application
from worker.cli.documents import as_one_line, json_option
from worker.cli.json_file import JsonFile
from worker.cli.printing import printable

_DEFAULT_TENANT = "default"

provider_argument = click.argument("provider", type=click.Choice(list(PROVIDERS)))
tenant_option = click.option(
    "--tenant", default=_DEFAULT_TENANT, show_default=True, help="Its name or its id."
)
app_option = click.option("--app", "app_id", help="Of this app only; else of the whole tenant.")


@click.group()
def config() -> None:
    """Set, show, test or delete where traces go."""


@config.command("set")
@provider_argument
@tenant_option
@app_option
@click.option("--endpoint", help="The provider's address; its own cloud, when unset.")
@click.option(
    "--secrets",
    type=JsonFile(),
    help="A JSON file of the secrets, - for standard input; asked for, when unset.",
)
@click.option("--option", "pairs", multiple=True, metavar="NAME=VALUE", help="Once for each.")
@click.option("--redact-key", "redact_keys", multiple=True, help="A key to be masked as well.")
@click.option("--no-content", is_flag=True, help="Inputs and outputs stay here.")
@click.option("--disabled", is_flag=True, help="Keep it, and send nothing.")
@json_option
@in_application
def set_(
    context: click.Context,  # noqa: ARG001 - every command in an application gets it
    /,
    provider: str,
    tenant: str,
    app_id: str | None,
    *,
    as_json: bool,
    **given: Any,
) -> None:
    """Make or change a configuration; what waits for the old one is cancelled.

    Secrets that are not given stay as they were, for the same endpoint. The options are
    all there are afterwards.
    """
    options: dict[str, Any] = dict(map(_pair, given["pairs"]))
    if given["redact_keys"]:
        options["redact_keys"] = list(given["redact_keys"])
    if given["no_content"]:
        options["capture_content"] = False
    with Session(db.engine) as session, session.begin():
        tenant_id = found_tenant(session, tenant)
        secrets = given["secrets"]
        if secrets is None:
            secrets = (
                _asked(provider) if _find(session, tenant_id, provider, app_id) is None else {}
            )
        draft = ConfigDraft(
            provider, app_id, given["endpoint"], secrets, options, not given["disabled"]
        )
        change = set_trace_config(session, tenant_id, draft, keys=_keys())
    if as_json:
        click.echo(
            as_one_line(
                {
                    "id": change.config_id,
                    "version": change.version,
                    "is_changed": change.is_changed,
                    "cancelled": change.cancelled,
                }
            )
        )
        return
    said = f"version {change.version}" if change.is_changed else "unchanged"
    click.echo(f"{provider}: {said}{_cancelled(change.cancelled)}")


@config.command()
@click.option("--tenant", help="Only this tenant's: its name or its id.")
@json_option
@in_application
def show(
    context: click.Context,  # noqa: ARG001 - every command in an application gets it
    tenant: str | None,
    *,
    as_json: bool,
) -> None:
    """Show configurations; secrets stay hidden."""
    with Session(db.engine) as session:
        tenant_id = found_tenant(session, tenant) if tenant else None
        found = [shown_config(one, _keys()) for one in trace_configs(session, tenant_id)]
    if as_json:
        click.echo(as_one_line({"configs": found}))
        return
    for one in found:
        whose = f"tenant {one['tenant_id']}" + (f", app {one['app_id']}" if one["app_id"] else "")
        state = "" if one["is_enabled"] else " (switched off)"
        click.echo(f"{one['provider']}{state}  {printable(whose)}")
        for name in ("endpoint", "secrets", "options", "version", "updated_at"):
            if one[name]:
                value = one[name] if isinstance(one[name], str) else json.dumps(one[name])
                click.echo(f"    {name}: {printable(value)}")
    if not found:
        click.echo("no configurations")


@config.command()
@provider_argument
@tenant_option
@app_option
@json_option
@in_application
def test(
    context: click.Context,  # noqa: ARG001 - every command in an application gets it
    provider: str,
    tenant: str,
    app_id: str | None,
    *,
    as_json: bool,
) -> None:
    """Send one span now, and say what the provider said."""
    from worker.wiring import probe_provider

    with Session(db.engine) as session:
        tenant_id = found_tenant(session, tenant)
        row = _find(session, tenant_id, provider, app_id)
        if row is None:
            raise NotFound(f"there is no configuration of {provider}: `traces config set` it")
        target = target_of(row, _keys())
    probe = probe_provider(target)
    if as_json:
        click.echo(as_one_line({"trace_id": probe.trace_id, "words": probe.words}))
        return
    said = f": {printable(probe.words)}" if probe.words else ""
    click.echo(f"{provider} took trace {probe.trace_id}{said}")


@config.command()
@provider_argument
@tenant_option
@app_option
@json_option
@in_application
def delete(
    context: click.Context,  # noqa: ARG001 - every command in an application gets it
    provider: str,
    tenant: str,
    app_id: str | None,
    *,
    as_json: bool,
) -> None:
    """Delete a configuration; what waits for it is cancelled."""
    with Session(db.engine) as session, session.begin():
        tenant_id = found_tenant(session, tenant)
        cancelled = delete_trace_config(session, tenant_id, provider, app_id=app_id)
    if as_json:
        click.echo(as_one_line({"cancelled": cancelled}))
        return
    click.echo(f"{provider}: deleted{_cancelled(cancelled)}")


def found_tenant(session: Session, named: str) -> UUID:
    """A tenant's id, by its name or its id.

    Raises:
        NotFound: there is none.
    """
    query = select(Tenant.id).where(Tenant.name == named)
    with suppress(ValueError):
        query = select(Tenant.id).where(Tenant.id == UUID(named))
    found = session.scalars(query).one_or_none()
    if found is None:
        raise NotFound(f"there is no tenant {named}")
    return found


def _find(
    session: Session, tenant_id: UUID, provider: str, app_id: str | None
) -> TraceConfig | None:
    return next(
        (
            one
            for one in trace_configs(session, tenant_id)
            if (one.provider, one.app_id) == (provider, app_id)
        ),
        None,
    )


def _pair(given: str) -> tuple[str, str]:
    name, sign, value = given.partition("=")
    if not sign or not name:
        raise click.BadParameter(f"{name}: write NAME=VALUE", param_hint="--option")
    return name, value


def _asked(provider: str) -> dict[str, str]:
    # Not as arguments: everybody on the machine could read those.
    if not sys.stdin.isatty():
        return {}
    return {
        name: click.prompt(name, hide_input=True, err=True) for name in PROVIDERS[provider].secrets
    }


def _cancelled(count: int) -> str:
    return f", {count} waiting traces cancelled" if count else ""


def _keys() -> SealingKeys:
    settings: Settings = current_app.extensions["settings"]
    return SealingKeys.of(settings.application)
