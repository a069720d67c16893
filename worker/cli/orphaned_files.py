"""``rag-worker clear-orphaned-files``: what lies in the storage, and what should."""

from dataclasses import asdict, dataclass, field

import click

from worker.cli.application import in_application
from worker.cli.documents import as_one_line, json_option
from worker.cli.duration import Duration
from worker.cli.printing import printable

#: Named in a JSON object; of more it says how many.
_MOST_NAMED = 1000


@dataclass(slots=True)
class _Report:
    """What was found; each is printed at once, or kept for one object."""

    as_json: bool
    is_trial: bool
    found: int = 0
    missing: int = 0
    files: list[str] = field(default_factory=list)
    rows: list[dict[str, object]] = field(default_factory=list)

    def orphan(self, key: str) -> None:
        self.found += 1
        if not self.as_json:
            click.echo(f"{'orphaned' if self.is_trial else 'removed'}  {printable(key)}")
        elif len(self.files) < _MOST_NAMED:
            self.files.append(key)

    def lacking(self, row: dict[str, object]) -> None:
        self.missing += 1
        if not self.as_json:
            named = f" ({row['name']})" if row["name"] else ""
            line = printable(f"{row['key']}, of {row['kind']} {row['id']}{named}")
            click.echo(f"missing  {line}")
        elif len(self.rows) < _MOST_NAMED:
            self.rows.append(row)


@click.command("clear-orphaned-files")
@click.option(
    "--older-than",
    "older_than_seconds",
    type=Duration(),
    default="24h",
    show_default=True,
    help="Leave younger ones: their rows may be about to be written. 90s, 30m, 24h or 7d.",
)
@click.option("--dry-run", "is_trial", is_flag=True, help="Name them, and leave them.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
@in_application
def clear_orphaned_files(
    context: click.Context,  # noqa: ARG001 - every command gets it
    older_than_seconds: float,
    *,
    is_trial: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Remove stored files that no row names.

    They are set aside first, and deleted after REMOVAL_FILE_GRACE_SECONDS: a producer that
    submits the same content at this moment loses nothing. Rows whose file is missing are
    named and left. Do not use it where another database names files in the same storage.
    """
    from worker.wiring import orphaned_files

    if not yes and not is_trial:
        click.confirm("Remove the stored files that no row names?", abort=True, err=True)
    report = _Report(as_json, is_trial)
    orphaned_files.clear(older_than_seconds, report.orphan, deletes=not is_trial)
    for one in orphaned_files.missing():
        report.lacking(asdict(one))
    if as_json:
        click.echo(
            as_one_line(
                {
                    "found": report.found,
                    "removed": 0 if is_trial else report.found,
                    "files": report.files,
                    "missing": report.missing,
                    "rows": report.rows,
                }
            )
        )
        return
    done = "orphaned" if is_trial else "removed"
    click.echo(f"{report.found} files {done}, {report.missing} rows without their file")
