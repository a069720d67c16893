"""MariaDB and MySQL: what a connection is told when it opens."""

import math
from collections.abc import Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sqlalchemy import URL

PORT = 3306
#: Of each scheme.
DRIVERS = {"mysql": "mysql+pymysql", "mariadb": "mariadb+pymysql"}
#: Needed for aggregates of rows as one value, which end at a megabyte otherwise.
_LONGEST_GROUP_BYTES = 1_073_741_824
_SQL_MODE = (
    "STRICT_ALL_TABLES,NO_ZERO_IN_DATE,NO_ZERO_DATE,"
    "ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION"
)
#: Rows of a series, which end at a thousand otherwise; MariaDB's own is more than that.
_LONGEST_SERIES = 1_000_000
#: What a lock may be waited for when statements have no limit: the servers' own is a year.
_LONGEST_WAIT_SECONDS = 31_536_000
#: Between a statement's limit and the moment its connection is given up.
_SPARE_SECONDS = 30


def is_mysql(drivername: str) -> bool:
    """Whether a URI's scheme names MariaDB or MySQL."""
    return drivername.partition("+")[0] in DRIVERS


def require_driver(drivername: str) -> None:
    """Say which driver is used, and which extra brings it.

    Raises:
        ValueError: it is another, or not installed.
    """
    if drivername not in {*DRIVERS, *DRIVERS.values()}:
        raise ValueError(f"{drivername} is not supported: write mariadb:// or mysql://")
    missing = [name for name in ("pymysql", "sqlglot") if find_spec(name) is None]
    if missing:
        raise ValueError(
            f"MariaDB and MySQL need {' and '.join(missing)}: install rag-worker[mysql]"
        )


def engine_options(
    query: Mapping[str, Any], connect_seconds: int, statement_seconds: float
) -> dict[str, Any]:
    """Keyword arguments of ``create_engine``, besides those of the pool.

    Args:
        query: what the URI says itself, which wins.
        connect_seconds: how long opening a connection may take.
        statement_seconds: how long a statement may; 0 is for ever.
    """
    ours = {
        "charset": "utf8mb4",
        "collation": "utf8mb4_bin",
        "connect_timeout": connect_seconds,
        # A statement is ended by the server; this is for a server that vanished.
        "write_timeout": statement_seconds + _SPARE_SECONDS if statement_seconds else None,
        "read_timeout": statement_seconds + _SPARE_SECONDS if statement_seconds else None,
        "init_command": _session(statement_seconds),
        "program_name": "rag-worker",
    }
    return {
        # PostgreSQL's own: a statement sees what was committed before it began.
        "isolation_level": "READ COMMITTED",
        "connect_args": {name: value for name, value in ours.items() if name not in query},
    }


def connect_arguments(url: "URL", options: Mapping[str, Any]) -> dict[str, Any]:
    """Keyword arguments of PyMySQL's ``connect``, for whoever needs no engine."""
    _, arguments = url.get_dialect()().create_connect_args(url)
    return {**arguments, **options["connect_args"]}


def _session(statement_seconds: float) -> str:
    wait_seconds = math.ceil(statement_seconds) or _LONGEST_WAIT_SECONDS
    milliseconds = math.ceil(statement_seconds * 1000)
    return (
        f"SET SESSION time_zone = '+00:00', SESSION sql_mode = '{_SQL_MODE}', "
        f"SESSION group_concat_max_len = {_LONGEST_GROUP_BYTES}, "
        f"SESSION innodb_lock_wait_timeout = {wait_seconds} "
        # Each server reads its own, and passes over the other's.
        f"/*M!100300 , SESSION max_statement_time = {statement_seconds:g}, "
        # What an UPDATE reads is what was there before it, as everywhere else.
        f"SESSION sql_mode = '{_SQL_MODE},SIMULTANEOUS_ASSIGNMENT' */"
        f"/*!50708 , SESSION max_execution_time = {milliseconds}, "
        f"SESSION cte_max_recursion_depth = {_LONGEST_SERIES} */"
    )
