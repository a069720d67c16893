"""Queues are declared once: whatever else names them says what ``shared.contract`` says."""

import re
from pathlib import Path

import pytest

from shared.contract import QUEUES, TASKS

ROOT = Path(__file__).parents[2]

#: Where a worker is started, or said how: -Q dataset,mail and ["-Q", "dataset,mail"] and
#: CELERY_WORKER_QUEUES=dataset,mail.
_NAMED = re.compile(
    r"""(?:(?<![\w-])-Q|--queues|[A-Z_]*QUEUES)["']?[\s:=,]*["']?([a-z][a-z_]*(?:,[a-z][a-z_]*)*)"""
)
#: What deploys the service: together, each of them serves every queue.
_DEPLOYS = re.compile(r"(^|/)(docker-)?compose[^/]*\.ya?ml$|(^|/)Procfile$")


def queues_named_in(text: str) -> set[str]:
    """The queues that a file tells workers to serve."""
    return {queue for found in _NAMED.findall(text) for queue in found.split(",")}


def files_that_name_queues() -> list[Path]:
    """Documents, examples, and everything that deploys workers."""
    folders = ("docs", "examples", "deploy", "docker", "scripts", ".ci")
    found = [one for folder in folders for one in (ROOT / folder).rglob("*") if one.is_file()]
    texts = {".md", ".yaml", ".yml", ".sh", ".py", ".service", ".conf", ".json", ".toml", ""}
    return [
        *(one for one in found if one.suffix in texts),
        *(one for one in ROOT.iterdir() if _DEPLOYS.search(one.name)),
        ROOT / "README.md",
        ROOT / "Makefile",
    ]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("celery -A worker.celery_app worker -Q dataset,mail -c 2", {"dataset", "mail"}),
        ('command: ["celery", "worker", "-Q", "dataset,ops_trace"]', {"dataset", "ops_trace"}),
        ("  CELERY_WORKER_QUEUES: mail", {"mail"}),
        ("--queues=generation", {"generation"}),
        ("nothing of the kind", set()),
    ],
)
def test_how_queues_are_named(text: str, wanted: set[str]) -> None:
    assert queues_named_in(text) == wanted


def test_no_file_names_a_queue_there_is_not() -> None:
    unknown = {
        str(path.relative_to(ROOT)): wrong
        for path in files_that_name_queues()
        if (wrong := queues_named_in(path.read_text(errors="replace")) - set(QUEUES))
    }
    assert unknown == {}


def test_what_deploys_the_service_serves_every_queue() -> None:
    missing = {}
    for path in files_that_name_queues():
        if not _DEPLOYS.search(path.relative_to(ROOT).as_posix()):
            continue
        named = queues_named_in(path.read_text(errors="replace"))
        # A worker that is told nothing serves all of them.
        if named and named != set(QUEUES):
            missing[str(path.relative_to(ROOT))] = set(QUEUES) - named
    assert missing == {}


def test_every_task_is_routed_to_a_declared_queue() -> None:
    assert {task.queue for task in TASKS} <= set(QUEUES)
    assert len(set(QUEUES)) == len(QUEUES)
