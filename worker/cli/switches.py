"""``rag-worker switches``: hold or skip tasks in a running system, without a deploy."""

from dataclasses import asdict
from uuid import UUID

import click
from sqlalchemy import String, cast, select
from sqlalchemy.orm import Session

from shared.errors import InvalidRequest, NotFound
from shared.models import TaskSwitch, Tenant, db
from worker.cli.application import in_application
from worker.cli.documents import as_one_line, json_option
from worker.cli.printing import printable
from worker.delivery.switches import Action, rules, switch
from worker.delivery.switches import release as release_rule

task_option = click.option("--task", help="A task's name, or the end after a dot; * for all.")
tenant_option = click.option("--tenant", metavar="NAME_OR_ID", help="Whose.")
id_option = click.option(
    "--id", "subject_id", type=click.UUID, help="An id in the arguments, or the message's own."
)
reason_option = click.option("--reason", default="", help="For whoever looks at it later.")


@click.group()
def switches() -> None:
    """Hold or skip tasks in a running system.

    Workers honour a rule within about two seconds. A rule matches what all its
    options match.
    """


@switches.command("list")
@json_option
@in_application
def list_rules(
    context: click.Context,  # noqa: ARG001 - every command in an application gets it
    *,
    as_json: bool,
) -> None:
    """Show the rules, the oldest first."""
    with Session(db.engine) as session:
        found = rules(session)
    if as_json:
        click.echo(as_one_line({"rules": [asdict(one) for one in found]}))
        return
    for one in found:
        click.echo(f"{one.id}  {printable(str(one))}")
    if not found:
        click.echo("no rules: everything runs")


@switches.command()
@task_option
@tenant_option
@id_option
@reason_option
@json_option
@in_application
def hold(
    context: click.Context,  # noqa: ARG001 - every command in an application gets it
    task: str | None,
    tenant: str | None,
    subject_id: UUID | None,
    reason: str,
    *,
    as_json: bool,
) -> None:
    """Let matching messages wait until the rule is released."""
    _make(Action.HOLD, task, tenant, subject_id, reason, as_json=as_json)


@switches.command()
@task_option
@tenant_option
@id_option
@reason_option
@json_option
@in_application
def skip(
    context: click.Context,  # noqa: ARG001 - every command in an application gets it
    task: str | None,
    tenant: str | None,
    subject_id: UUID | None,
    reason: str,
    *,
    as_json: bool,
) -> None:
    """End matching messages as dead letters, without running them."""
    _make(Action.SKIP, task, tenant, subject_id, reason, as_json=as_json)


@switches.command()
@click.argument("rule_id", metavar="ID")
@json_option
@in_application
def release(
    context: click.Context,  # noqa: ARG001 - every command in an application gets it
    rule_id: str,
    *,
    as_json: bool,
) -> None:
    """Take a rule back; what it held goes out."""
    with Session(db.engine) as session, session.begin():
        whole = _rule(session, rule_id)
        release_rule(session, whole)
    click.echo(as_one_line({"released": whole}) if as_json else f"{whole}  released")


def _make(
    action: Action,
    task: str | None,
    tenant: str | None,
    subject_id: UUID | None,
    reason: str,
    *,
    as_json: bool,
) -> None:
    if task is None and tenant is None and subject_id is None:
        raise click.UsageError("name --task, --tenant or --id; --task '*' means every task")
    with Session(db.engine) as session, session.begin():
        made = switch(
            session,
            action,
            task=task,
            tenant_id=None if tenant is None else _tenant(session, tenant),
            subject_id=subject_id,
            reason=reason,
        )
        rule = next(one for one in rules(session) if one.id == made)
    if as_json:
        click.echo(as_one_line(asdict(rule)))
    else:
        click.echo(f"{made}  {printable(str(rule))}")


def _tenant(session: Session, name_or_id: str) -> UUID:
    # By name first: nothing keeps a tenant from being called like an id.
    query = select(Tenant.id).where(
        (Tenant.name == name_or_id) | (cast(Tenant.id, String) == name_or_id.lower())
    )
    found = session.scalars(query.order_by((Tenant.name == name_or_id).desc()).limit(1)).first()
    if found is None:
        raise NotFound(f"there is no tenant {name_or_id!r}")
    return found


def _rule(session: Session, beginning: str) -> UUID:
    query = select(TaskSwitch.id).where(
        cast(TaskSwitch.id, String).startswith(beginning.lower(), autoescape=True)
    )
    found = session.scalars(query.limit(2)).all()
    if not found or not beginning:
        raise NotFound(f"there is no rule {beginning}: see `rag-worker switches list`")
    if len(found) > 1:
        raise InvalidRequest(f"several rules begin with {beginning}: write more of the id")
    return found[0]
