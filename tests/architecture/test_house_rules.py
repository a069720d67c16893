"""Rules of the house that no import contract can say."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from shared.contract import QUEUES, TASKS
from shared.extensions import MIGRATION_ORDER, ORDER
from shared.settings import env_example

ROOT = Path(__file__).parents[2]
HEAVY = (
    "kreuzberg",
    "numpy",
    "openai",
    "pgvector",
    "pypdfium2",
    "qdrant_client",
    "rjieba",
    "Stemmer",
    "tokenizers",
    "wordllama",
)


def test_env_example_is_what_the_settings_say() -> None:
    assert (ROOT / ".env.example").read_text() == env_example()


def test_the_changelog_knows_the_version() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    headings = re.findall(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert headings[0] == "Unreleased"
    assert version in headings[1:]


def test_every_extension_comes_after_what_it_needs() -> None:
    names = [module.rpartition(".")[2] for module, _ in ORDER]
    needs = [
        ("logging", "database"),
        ("database", "migrate"),
        ("redis", "celery"),
        ("storage", "celery"),
        ("database", "celery"),
        ("logging", "sentry"),
        ("celery", "telemetry"),
    ]
    assert [pair for pair in needs if names.index(pair[0]) > names.index(pair[1])] == []
    assert names[-1] == "telemetry"
    assert [module.rpartition(".")[2] for module, _ in MIGRATION_ORDER] == [
        "logging",
        "database",
        "migrate",
    ]


@pytest.mark.parametrize("module", ["worker.tasks.dataset", "shared.submitting.dataset"])
def test_a_producer_loads_no_parser_no_model_no_llm_client(module: str) -> None:
    script = f"import sys, {module}; print([m for m in {HEAVY!r} if m in sys.modules])"
    loaded = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert loaded.stdout.strip() == "[]"


def test_importing_anything_opens_no_connection_and_reads_no_setting() -> None:
    script = (
        "import pkgutil, importlib, os, socket\n"
        "socket.socket.connect = lambda *_: (_ for _ in ()).throw(RuntimeError('connected'))\n"
        "os.environ['REDIS_PORT'] = 'not a port'\n"
        "import shared, worker\n"
        "skipped = ('worker.celery_app', 'worker.web_app', 'shared.migrations')\n"
        "for package in (shared, worker):\n"
        "    for found in pkgutil.walk_packages(package.__path__, package.__name__ + '.'):\n"
        "        if not found.name.startswith(skipped):\n"
        "            importlib.import_module(found.name)\n"
        "print('imported')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip() == "imported", done.stderr


def test_the_contract_names_served_queues_and_the_tasks_the_worker_registers() -> None:
    script = (
        "from worker.celery_app import app; app.loader.import_default_modules();"
        "print('\\n'.join(sorted(n for n in app.tasks if n.startswith('worker.'))))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == sorted(task.name for task in TASKS)
    assert {task.queue for task in TASKS} <= set(QUEUES)


def test_every_known_failure_names_a_test_that_exists() -> None:
    named = re.findall(r"`(tests/[^`:]+)(?:::(\w+))?`", (ROOT / "docs/failures.md").read_text())
    assert len(named) > 1
    missing = [
        f"{path}::{test}"
        for path, test in named
        if not (ROOT / path).exists() or (test and f"def {test}(" not in (ROOT / path).read_text())
    ]
    assert missing == []
