"""No statement is written that MariaDB could not be given."""

import importlib
import pkgutil
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest
from sqlalchemy import TextClause

import shared
import worker
from shared.mysql.execution import in_words_of_mariadb

#: What is run on PostgreSQL only.
_POSTGRESQL = ("shared.migrations", "worker.stores.pgvector")
#: Words of statements that only PostgreSQL is given.
_ITS_OWN = ("pg_", "set_config", "FROM STDIN", "segment_vectors", "LISTEN")
#: What PostgreSQL alone is given: of its index of words, and where MariaDB's way is another.
_ELSEWHERE = {
    ("worker.services.dataset.keyword_statistics", "_MEASURE"),
    ("worker.delivery.taking", "_TAKE"),
}


def _modules() -> Iterator[ModuleType]:
    for package in (shared, worker):
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not found.name.startswith(_POSTGRESQL):
                yield importlib.import_module(found.name)


def _statements() -> Iterator[tuple[str, str, TextClause]]:
    for module in _modules():
        for name, value in vars(module).items():
            for one in _within(value):
                if (module.__name__, name) not in _ELSEWHERE and not any(
                    word in one.text for word in _ITS_OWN
                ):
                    yield module.__name__, name, one


def _within(value: Any) -> Iterator[TextClause]:
    if isinstance(value, TextClause):
        yield value
    elif isinstance(value, dict):
        for one in value.values():
            yield from _within(one)
    elif isinstance(value, (list, tuple)):
        for one in value:
            yield from _within(one)


def test_every_statement_has_words_for_mariadb() -> None:
    count, missing = 0, []
    for module, name, statement in _statements():
        count += 1
        try:
            in_words_of_mariadb(statement)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is told with its place
            missing.append(f"{module}.{name}: {error!r}")
    assert missing == []
    assert count > 200


@pytest.mark.parametrize("foreign", ["LATERAL", "::", "unnest(", "= ANY", "array_agg("])
def test_nothing_of_postgresqls_own_is_left(foreign: str) -> None:
    left = [
        f"{module}.{name}"
        for module, name, statement in _statements()
        if foreign.lower() in in_words_of_mariadb(statement).lower()
    ]
    assert left == []
