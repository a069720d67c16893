"""``rag-worker traces``: what became of recorded traces, and where they go."""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import click
from flask import current_app
from sqlalchemy import String, cast, or_, select
from sqlalchemy.orm import Session, defer

from shared.errors import InvalidRequest, NotFound
from shared.models import TraceDelivery, TraceStatus, db
from shared.models.trace import REPLAYABLE
from shared.submitting.trace_replaying import replay_trace
from shared.submitting.trace_schema import Span, Trace
from worker.cli.application import in_application
from worker.cli.documents import as_one_line, json_option
from worker.cli.failures import SOME_FAILED
from worker.cli.printing import printable, shortened
from worker.cli.trace_configs import config, found_tenant

_REASON_CHARACTERS = 100
_STATUSES = click.Choice([status.value for status in TraceStatus])
_ENDED = click.Choice([status.value for status in REPLAYABLE])
_NANOSECONDS = 1_000_000_000
_HIDDEN = {"payload"}

any_tenant_option = click.option("--tenant", help="Only this tenant's: its name or its id.")
app_option = click.option("--app", "app_id", help="Only this app's.")


@click.group()
def traces() -> None:
    """List, show or replay traces; set where they go.

    Every trace has a delivery row for each provider. An id is a delivery's or a trace's;
    it may be shortened as long as only one begins so.
    """


traces.add_command(config)


@traces.command("list")
@click.option("--status", type=_STATUSES, help="Only those.")
@any_tenant_option
@app_option
@click.option("--limit", default=100, show_default=True, type=click.IntRange(1), help="The newest.")
@json_option
@in_application
def list_traces(
    context: click.Context,  # noqa: ARG001 - every command in an application gets it
    status: str | None,
    tenant: str | None,
    app_id: str | None,
    limit: int,
    *,
    as_json: bool,
) -> None:
    """Show deliveries, the newest first, and providers that fail."""
    from worker.services.ops_trace.breaking import failing_providers

    with Session(db.engine) as session:
        whose = found_tenant(session, tenant) if tenant else None
        failing = failing_providers(session, whose)
        query = select(TraceDelivery).options(defer(TraceDelivery.payload))
        query = _of(session, query, status, tenant, app_id)
        query = query.order_by(TraceDelivery.created_at.desc()).limit(limit)
        found = [_as_json(one) for one in session.scalars(query)]
    if as_json:
        failed = [{**asdict(one), "words": one.words} for one in failing]
        click.echo(as_one_line({"traces": found, "failing_providers": failed}))
        return
    for one in found:
        click.echo(
            f"{one['id']}  {one['created_at']:%Y-%m-%d %H:%M:%S}  {one['status']:<9}  "
            f"{one['provider'] or '-':<9}  {one['span_count']:>4} spans  {printable(one['name'])}"
        )
        if one["error"]:
            click.echo(f"    {shortened(one['error'], _REASON_CHARACTERS)}")
    if not found:
        click.echo("no traces")
    for provider in failing:
        click.echo(f"tenant {provider.tenant_id}: {printable(provider.words)}")


@traces.command()
@click.argument("identity", metavar="ID")
@click.option("--content", "shows_content", is_flag=True, help="The whole trace, as JSON.")
@json_option
@in_application
def show(
    context: click.Context,  # noqa: ARG001 - every command in an application gets it
    identity: str,
    *,
    shows_content: bool,
    as_json: bool,
) -> None:
    """Show a delivery and its spans."""
    from worker.services.ops_trace.payloads import stored_trace
    from worker.wiring import payload_files

    with Session(db.engine) as session:
        (first, *others) = _found(session, identity)
        row = session.get_one(TraceDelivery, first)
    if others:
        ids = ", ".join(str(one) for one in (first, *others))
        raise InvalidRequest(f"several deliveries begin with {identity}: {ids}")
    trace = stored_trace(row.payload, row.storage_key, payload_files())
    if as_json or shows_content:
        shown: dict[str, object] = {**_as_json(row)}
        if shows_content:
            shown["trace"] = trace.model_dump(mode="json", exclude_defaults=True)
        click.echo(as_one_line(shown))
        return
    for name, value in _as_json(row).items():
        if value not in (None, []):
            click.echo(f"{name}: {printable(str(value))}")
    _print_spans(trace)


@traces.command()
@click.argument("ids", nargs=-1, metavar="[ID]...")
@click.option("--all", "is_all", is_flag=True, help="All that ended without being delivered.")
@click.option("--status", type=_ENDED, help="With --all: only those.")
@any_tenant_option
@app_option
@json_option
@in_application
def replay(
    context: click.Context,
    ids: tuple[str, ...],
    status: str | None,
    tenant: str | None,
    app_id: str | None,
    *,
    is_all: bool,
    as_json: bool,
) -> None:
    """Send traces again that failed, were cancelled or had no provider."""
    if bool(ids) == is_all:
        raise click.UsageError("name deliveries, or say --all")
    celery = current_app.extensions["celery"]
    replayed: list[UUID] = []
    left: list[UUID] = []
    for delivery_id in _chosen(ids, status, tenant, app_id):
        with Session(db.engine) as session, session.begin():
            is_replayed = replay_trace(session, delivery_id, celery=celery)
        (replayed if is_replayed else left).append(delivery_id)
    if as_json:
        click.echo(as_one_line({"replayed": replayed, "left_alone": left}))
    else:
        said = "they wait, arrived, or have no configuration still"
        click.echo(
            f"{len(replayed)} replayed" + (f", {len(left)} left alone ({said})" if left else "")
        )
    if ids and not replayed:
        context.exit(SOME_FAILED)


def _chosen(
    ids: Sequence[str], status: str | None, tenant: str | None, app_id: str | None
) -> list[UUID]:
    with Session(db.engine) as session:
        if ids:
            return list(dict.fromkeys(one for given in ids for one in _found(session, given)))
        ended = [one.value for one in REPLAYABLE]
        query = _of(session, select(TraceDelivery.id), status, tenant, app_id)
        query = query.where(TraceDelivery.status.in_(ended)).order_by(TraceDelivery.created_at)
        return list(session.scalars(query))


def _of(
    session: Session, query: Any, status: str | None, tenant: str | None, app_id: str | None
) -> Any:
    if status:
        query = query.where(TraceDelivery.status == status)
    if tenant:
        query = query.where(TraceDelivery.tenant_id == found_tenant(session, tenant))
    return query.where(TraceDelivery.app_id == app_id) if app_id else query


def _found(session: Session, identity: str) -> list[UUID]:
    """The deliveries of a trace, or the one that begins so."""
    beginning = identity.lower()
    whole = select(TraceDelivery.id).where(TraceDelivery.trace_id == beginning)
    of_trace = list(session.scalars(whole.order_by(TraceDelivery.part)))
    if of_trace:
        return of_trace
    begins = or_(
        cast(TraceDelivery.id, String).startswith(beginning, autoescape=True),
        TraceDelivery.trace_id.startswith(beginning, autoescape=True),
    )
    found = list(session.scalars(select(TraceDelivery.id).where(begins).limit(2)))
    if not found or not beginning:
        raise NotFound(f"there is no trace {identity}: see `rag-worker traces list`")
    if len(found) > 1:
        raise InvalidRequest(f"several begin with {identity}: write more of the id")
    return found


def _as_json(row: TraceDelivery) -> dict[str, Any]:
    columns = [column.key for column in TraceDelivery.__table__.columns]
    shown = {name: getattr(row, name) for name in columns if name not in _HIDDEN}
    if row.lease_expires_at is not None and row.lease_expires_at < datetime.now(UTC):
        shown["lease_owner"] = f"{row.lease_owner} (run out)"
    return shown


def _print_spans(trace: Trace) -> None:
    depths: dict[str, int] = {}
    for span in trace.spans:
        depth = depths.get(span.parent_span_id or "", -1) + 1
        depths[span.span_id] = depth
        click.echo(f"{'  ' * (depth + 1)}{printable(span.name)}  {_line(span)}")


def _line(span: Span) -> str:
    parts = [span.kind.value, f"{(span.end_ns - span.start_ns) / _NANOSECONDS:.3f} s"]
    if span.usage is not None and span.usage.total is not None:
        parts.append(f"{span.usage.total} tokens")
    if span.status.value == "error":
        parts.append(f"error: {shortened(span.status_message or '', _REASON_CHARACTERS)}")
    return "  ".join(parts)
