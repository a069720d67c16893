"""The command line starts with what it needs: every ``flask`` command of a user imports it."""

import subprocess
import sys

import pytest

from shared import errors
from worker.cli.failures import EXIT_CODES, exit_code

HEAVY = {"alembic", "celery", "flask_sqlalchemy", "kombu", "redis", "rich", "sqlalchemy"}


def imported(statement: str) -> set[str]:
    """The top-level packages a fresh interpreter has imported after a statement."""
    done = subprocess.run(
        [sys.executable, "-c", f"import sys\n{statement}\nprint(*sys.modules, sep='\\n')"],
        check=True,
        capture_output=True,
        text=True,
    )
    return {line.partition(".")[0] for line in done.stdout.splitlines()}


@pytest.mark.parametrize(
    "statement",
    ["import worker.cli", "from worker.cli import main\nmain(['--help'], standalone_mode=False)"],
)
def test_a_help_page_needs_neither_database_nor_broker(statement: str) -> None:
    assert imported(statement) & HEAVY == set()


@pytest.mark.parametrize(
    ("probe", "left_out"),
    [("--live", HEAVY | {"flask", "gevent"}), ("--ready", HEAVY - {"redis"})],
)
def test_a_probe_has_a_second_and_spends_it_on_no_framework(probe: str, left_out: set[str]) -> None:
    run = f"sys.argv = ['rag-worker', 'health', {probe!r}]"
    start = "from worker.cli.start import start\ntry:\n    start()\nexcept SystemExit: pass"
    found = imported(f"{run}\n{start}")
    assert found & (left_out | {"flask", "gevent"}) == set()
    assert "psutil" in found, "it did look"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.ConfigurationError(), 3),
        (errors.NotFound(), 4),
        (errors.LeaseLost(), 4),
        (errors.ServiceUnavailable(), 5),
        (errors.EmptyFile(), 1),
        (errors.RagWorkerError(), 1),
    ],
)
def test_a_family_has_its_exit_code(error: errors.RagWorkerError, code: int) -> None:
    assert exit_code(error) == code


def test_every_family_has_an_exit_code() -> None:
    assert {family for family, _ in EXIT_CODES} >= set(errors.RagWorkerError.__subclasses__())
