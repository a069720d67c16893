"""Fixtures by theme, and every test away from the developer's own ``.env``."""

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from celery import _state as celery_state

from shared.settings import load_settings

pytest_plugins = [
    "tests.fixtures.mysql_server",
    "tests.fixtures.servers",
    "tests.fixtures.vector_stores",
    "tests.fixtures.application",
    "tests.fixtures.chat_server",
    "tests.fixtures.embedding_server",
    "tests.fixtures.messages",
    "tests.fixtures.worker_process",
    "tests.fixtures.commands",
    "tests.fixtures.flower",
    "tests.fixtures.browser",
    "tests.fixtures.object_storage",
    "tests.fixtures.oauth_provider",
    "tests.fixtures.outbox_rows",
    "tests.fixtures.mail_servers",
    "tests.fixtures.mails",
    "tests.fixtures.removals",
    "tests.fixtures.sentry_server",
    "tests.fixtures.trace_receiver",
    "tests.fixtures.traced",
    "tests.fixtures.trace_deliveries",
    "tests.fixtures.web_server",
    "tests.fixtures.questions",
]

# A shell that runs the suite in the background has Ctrl-C ignored in all that it starts;
# the commands under test are to hear it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

#: Where a test starts processes and waits for them: begun last they would be waited for.
_SLOW = {"chaos", "drills", "e2e", "migration"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give each process of xdist its share of the slow tests, and those first.

    They begin with a part each of this order, equally long.
    """
    count = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    if count == 1:
        return
    tests = Path(__file__).parent
    slow, rest = [], []
    for one in items:
        (slow if one.path.relative_to(tests).parts[0] in _SLOW else rest).append(one)
    ends = [len(rest) * number // count for number in range(count + 1)]
    parts = ([*slow[n::count], *rest[ends[n] : ends[n + 1]]] for n in range(count))
    items[:] = [one for part in parts for one in part]


@pytest.fixture(scope="session", autouse=True)
def _compiled_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Where bytecode is switched off, the dozens of child processes share what one compiled."""
    with pytest.MonkeyPatch.context() as environment:
        if sys.dont_write_bytecode:
            environment.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
            environment.setenv("PYTHONPYCACHEPREFIX", str(tmp_path_factory.mktemp("bytecode")))
        yield


@pytest.fixture(autouse=True)
def _no_current_celery_app() -> Iterator[None]:
    """A Celery app that a test makes its thread's current one is not the next test's."""
    yield
    celery_state._set_current_app(None)


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in load_settings(()).shown():
        if name in os.environ:
            monkeypatch.delenv(name)
