"""``rag-worker health``: is all well? With ``--live`` and ``--ready``, a container's probes."""

import click

from worker.cli.failures import ReportsOwnFailures


@click.command(cls=ReportsOwnFailures)
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.option("--live", is_flag=True, help="Is the worker of this host alive? Asks no server.")
@click.option("--ready", is_flag=True, help="Do the servers answer, and does it consume?")
@click.option(
    "--timeout",
    "timeout_seconds",
    type=click.FloatRange(min=0, min_open=True),
    default=0.3,
    show_default=True,
    help="With --ready: seconds that the servers have to answer.",
)
@click.option(
    "--worker",
    "name",
    is_flag=False,
    flag_value="",
    metavar="[NAME]",
    help="Look at one worker only: this name, or the one of this host.",
)
@click.option("--restart", is_flag=True, help="With --live or --worker: end it if it hangs.")
@click.pass_context
def health(
    context: click.Context,
    *,
    as_json: bool,
    live: bool,
    ready: bool,
    timeout_seconds: float,
    name: str | None,
    restart: bool,
) -> None:
    """Say whether all is well; a probe for containers.

    Exit code 5: the database or the broker does not answer. 6: a worker is wedged
    (connected, with a free slot, and taking nothing while messages wait), or a queue
    holds messages that no live worker takes. Each problem is a line on stderr, and so
    is each queue without a worker, which is none while it is empty.

    With --live it is a liveness probe of a second: 6 when the worker of this host is
    gone or hangs, 0 otherwise, also while a server is away: a restart would not bring
    it back. With --ready, a readiness probe of a second: 5 when a server does not answer,
    6 when the worker of this host does not consume. Both take --worker NAME where
    several run.

    With --worker alone it looks as closely as without, at this worker: 6 when it is wedged
    or gone. Whoever started the worker starts it again after --restart.
    """
    # Imported here: a probe is to answer within a second, most of which are imports.
    if live and ready:
        raise click.UsageError("--live and --ready are two probes: ask for one of them")
    if restart and (ready or (name is None and not live)):
        raise click.UsageError("--restart needs --live or --worker: it ends a worker of this host")
    if live or ready:
        from worker.cli import probing

        probe = probing.Live(restart=restart) if live else probing.Ready(timeout_seconds)
        context.exit(probing.report(probe.look(name or ""), as_json=as_json))
    from worker.cli.condition import show_condition

    context.invoke(show_condition, as_json=as_json, name=name, restart=restart)
