"""Every sealed secret is sealed anew with today's ``SECRET_KEY``, a batch a transaction.

What is sealed with it already is left alone: a run that was cut short goes on where it
stopped. What no key opens is reported; it is invalidated only when that is asked for.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from sqlalchemy import Text, Uuid, select, table, text, update
from sqlalchemy import column as sql_column
from sqlalchemy.orm import Session, sessionmaker

from shared.errors import ConfigurationError
from shared.submitting.sealing import SealingKeys
from shared.submitting.trace_configs import cancel_waiting

_BATCH = 500
_MOST_SHOWN = 100
_GONE = "its secrets were sealed with a SECRET_KEY that is gone"


@dataclass(frozen=True, slots=True)
class SealedColumn:
    """Where secrets lie.

    Attributes:
        key: the table's primary key.
        invalidate: takes the secret away from the row ``:id``, and says so where it can.
    """

    table: str
    key: str
    column: str
    invalidate: str


SEALED = (
    SealedColumn(
        "trace_configs",
        "id",
        "secrets",
        "UPDATE trace_configs SET secrets = NULL, is_enabled = false, version = version + 1, "
        "updated_at = statement_timestamp() WHERE id = :id",
    ),
    SealedColumn(
        "mail_deliveries",
        "id",
        "secrets",
        "UPDATE mail_deliveries SET secrets = NULL, status = 'failed', error = :reason, "
        "ended_at = coalesce(ended_at, statement_timestamp()), lease_token = lease_token + 1, "
        "lease_expires_at = NULL, lease_owner = NULL WHERE id = :id",
    ),
    SealedColumn(
        "tenant_chat_models",
        "tenant_id",
        "sealed_key",
        "UPDATE tenant_chat_models SET sealed_key = NULL WHERE tenant_id = :id",
    ),
)


@dataclass(slots=True)
class Resealed:
    """What became of a table's secrets.

    Attributes:
        current: sealed with today's key already.
        unreadable: opened by no key; ``ids`` names the first of them.
        invalidated: of those, now without a secret.
    """

    table: str
    renewed: int = 0
    current: int = 0
    unreadable: int = 0
    invalidated: int = 0
    ids: list[str] = field(default_factory=list)


def reseal(
    sessions: sessionmaker[Session],
    keys: SealingKeys,
    *,
    invalidate: bool = False,
    is_trial: bool = False,
) -> Iterator[Resealed]:
    """Seal everything anew; yields each table's result as it is done.

    Args:
        sessions: makes sessions.
        keys: the new key, and those it replaces.
        invalidate: take away what no key opens: a provider is switched off and what waits
            for it cancelled, a mail fails, a chat model is asked for its key again.
        is_trial: change nothing.

    Raises:
        ConfigurationError: there is no SECRET_KEY.
    """
    if not keys.current.get_secret_value():
        raise ConfigurationError("SECRET_KEY is empty: set it to 32 or more random bytes")
    for column in SEALED:
        yield _Table(sessions, keys, column, invalidate=invalidate, is_trial=is_trial).run()


class _Table:
    def __init__(
        self,
        sessions: sessionmaker[Session],
        keys: SealingKeys,
        column: SealedColumn,
        *,
        invalidate: bool,
        is_trial: bool,
    ) -> None:
        self._sessions = sessions
        self._keys = keys
        self._column = column
        self._invalidates = invalidate and not is_trial
        self._is_trial = is_trial
        self._result = Resealed(column.table)
        self._table = table(
            column.table, sql_column(column.key, Uuid), sql_column(column.column, Text)
        )

    def run(self) -> Resealed:
        after = None
        while True:
            with self._sessions.begin() as session:
                rows = session.execute(self._next(after)).all()
                for row in rows:
                    self._one(session, row)
            if len(rows) < _BATCH:
                return self._result
            after = rows[-1].id

    def _next(self, after: UUID | None) -> Any:
        key, sealed = self._table.c[self._column.key], self._table.c[self._column.column]
        query = select(key.label("id"), sealed.label("sealed")).where(sealed.is_not(None))
        if after is not None:
            query = query.where(key > after)
        return query.order_by(key).limit(_BATCH).with_for_update()

    def _one(self, session: Session, row: Any) -> None:
        try:
            renewed = self._keys.renewed(row.sealed)
        except ConfigurationError:
            self._unreadable(session, row)
            return
        if renewed is None:
            self._result.current += 1
            return
        self._result.renewed += 1
        if not self._is_trial:
            values = {self._column.column: renewed}
            is_this = self._table.c[self._column.key] == row.id
            session.execute(update(self._table).where(is_this).values(values))

    def _unreadable(self, session: Session, row: Any) -> None:
        self._result.unreadable += 1
        if len(self._result.ids) < _MOST_SHOWN:
            self._result.ids.append(str(row.id))
        if not self._invalidates:
            return
        # Each statement takes the values it names.
        statement = text(self._column.invalidate)
        reason = {"reason": _GONE} if ":reason" in self._column.invalidate else {}
        session.execute(statement, {"id": row.id, **reason})
        if self._column.table == "trace_configs":
            cancel_waiting(session, row.id, _GONE)
        self._result.invalidated += 1
