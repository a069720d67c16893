"""Results on MariaDB and MySQL: one upsert a result, each by itself."""

from collections.abc import Mapping
from typing import Any

from celery import states
from sqlalchemy import Engine, Table


class RowWriter:
    """Writes rows that a finished one is not overwritten by.

    Args:
        engine: runs the statements, in autocommit.
        table: one of Celery's result tables.
        key: the column that carries the task's or the group's id.
        keep: a column whose value an update without one leaves in place.
    """

    def __init__(self, engine: Engine, table: Table, key: str, keep: str | None = None) -> None:
        self._engine = engine
        names = [column.name for column in table.columns if column.name != "id"]
        new = {name: f"VALUES({name})" for name in names if name != key}
        if keep is not None:
            new[keep] = f"coalesce(VALUES({keep}), {keep})"
        if "status" in new:
            is_done = f"status <=> '{states.SUCCESS}'"
            # They are assigned one after the other, and each reads the status: that goes last.
            new = {name: f"IF({is_done}, {name}, {new[name]})" for name in _last(new, "status")}
        marks = ", ".join(f"%({name})s" for name in names)
        changes = ", ".join(f"{name} = {value}" for name, value in new.items())
        self.statement = (
            f"INSERT INTO {table.name} ({', '.join(names)}) VALUES ({marks}) "  # noqa: S608
            f"ON DUPLICATE KEY UPDATE {changes}"
        )

    def start_afresh(self) -> None:
        """Nothing waits here that a forked child could have."""

    def store(self, row: Mapping[str, Any]) -> None:
        """Return once ``row``, keyed by column, is stored.

        Raises:
            sqlalchemy.exc.DBAPIError: the database is away, or refuses this row.
            sqlalchemy.exc.TimeoutError: no connection came free.
        """
        with self._engine.connect() as connection:
            connection.exec_driver_sql(self.statement, dict(row))


def _last(names: Mapping[str, str], name: str) -> list[str]:
    return [*(one for one in names if one != name), name]
