"""The kill switch: a running system holds or skips tasks by name, tenant or id.

Rules are rows. The relay does not publish what is held; a worker that finds a
held message in its hands puts it back. Each process reads the rules at most once
a second, so a rule works within about that time, without a deploy.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import Engine, delete, insert, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from shared.errors import InvalidRequest, NotFound
from shared.models import TaskSwitch
from shared.queueing.publishing import wake_relays

logger = logging.getLogger(__name__)

_KNOWN_FOR_SECONDS = 1.0


class Action(StrEnum):
    """What a rule does to what it matches."""

    HOLD = "hold"  #: waits in the outbox until the rule is released
    SKIP = "skip"  #: ends as a dead letter, without running


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule; what is ``None`` matches everything."""

    id: UUID
    action: Action
    task: str | None
    tenant_id: UUID | None
    subject_id: UUID | None
    reason: str
    queue: str | None = None

    def __str__(self) -> str:
        parts = {
            "task": self.task,
            "queue": self.queue,
            "tenant": self.tenant_id,
            "id": self.subject_id,
        }
        what = ", ".join(f"{name} {value}" for name, value in parts.items() if value is not None)
        return f"{self.action} {what or 'everything'}" + (
            f" ({self.reason})" if self.reason else ""
        )

    def matches(
        self,
        task: str,
        tenant_of: Callable[[], str | None],
        ids: "frozenset[str]",
        queue: str | None = None,
    ) -> bool:
        """Whether a message with this task, tenant, ids and queue falls under the rule."""
        return (
            (self.queue is None or self.queue == queue)
            and (self.task is None or task == self.task or task.endswith("." + self.task))
            and (self.subject_id is None or str(self.subject_id) in ids)
            and (self.tenant_id is None or str(self.tenant_id) == tenant_of())
        )


class Switches:
    """The rules as this process knows them.

    Args:
        engine: the database.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._rules: tuple[Rule, ...] = ()
        self._read_at = -_KNOWN_FOR_SECONDS
        # A hundred greenlets whose knowledge is old ask once, not a hundred times.
        self._reading = threading.Lock()

    def matching(
        self,
        task: str,
        tenant_of: Callable[[], str | None],
        message_id: UUID,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        queue: str | None = None,
    ) -> Rule | None:
        """The rule a message falls under; a hold wins over a skip.

        Args:
            task: its task's name.
            tenant_of: finds out whose it is; asked only if a rule wants to know.
            message_id: its id.
            args: its arguments, ids among them.
            kwargs: the same by name.
            queue: the one it is in.
        """
        rules = self._known()
        if not rules:
            return None
        ids = ids_of(message_id, args, kwargs)
        found = [rule for rule in rules if rule.matches(task, tenant_of, ids, queue)]
        return min(found, key=lambda rule: rule.action, default=None)

    def _known(self) -> tuple[Rule, ...]:
        if self._is_known():
            return self._rules
        with self._reading:
            if not self._is_known():
                self._read()
            return self._rules

    def _is_known(self) -> bool:
        return time.monotonic() - self._read_at < _KNOWN_FOR_SECONDS

    def _read(self) -> None:
        began = time.monotonic()
        try:
            with Session(self._engine) as session:
                self._rules = tuple(rules(session))
        except SQLAlchemyError as error:
            logger.warning("rules not read: %s", error, extra={"action": "switch.not_read"})
        # Only now: a task that starts meanwhile must not go by the rules of before.
        self._read_at = began


def ids_of(message_id: UUID, args: Sequence[Any], kwargs: Mapping[str, Any]) -> "frozenset[str]":
    """The ids that a rule can name a message by: its own, and those in its arguments."""
    return frozenset(_ids([message_id, args, kwargs]))


def _ids(value: Any) -> "list[str]":
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        return [found for one in value for found in _ids(one)]
    return [] if value is None else [str(value)]


def rules(session: Session) -> list[Rule]:
    """Every rule, oldest first."""
    rows = session.scalars(select(TaskSwitch).order_by(TaskSwitch.created_at))
    return [
        Rule(
            row.id,
            Action(row.action),
            row.task,
            row.tenant_id,
            row.subject_id,
            row.reason,
            row.queue,
        )
        for row in rows
    ]


def switch(
    session: Session,
    action: Action,
    *,
    task: str | None = None,
    tenant_id: UUID | None = None,
    subject_id: UUID | None = None,
    queue: str | None = None,
    reason: str = "",
) -> UUID:
    """Hold or skip what matches, from the caller's commit on.

    Raises:
        InvalidRequest: nothing is named: a rule for everything is asked for by ``task="*"``.
    """
    if task is None and tenant_id is None and subject_id is None and queue is None:
        raise InvalidRequest("name a task, a queue, a tenant or an id; task '*' means all tasks")
    values = {
        "action": action.value,
        "task": None if task == "*" else task,
        "tenant_id": tenant_id,
        "subject_id": subject_id,
        "queue": queue,
        "reason": reason,
    }
    made: UUID = session.execute(
        insert(TaskSwitch).values(values).returning(TaskSwitch.id)
    ).scalar_one()
    return made


def release(session: Session, rule_id: UUID) -> None:
    """Take a rule back, from the caller's commit on; what it held goes out.

    Raises:
        NotFound: there is no such rule.
    """
    gone = session.execute(
        delete(TaskSwitch).where(TaskSwitch.id == rule_id).returning(TaskSwitch.id)
    ).one_or_none()
    if gone is None:
        raise NotFound(f"there is no rule {rule_id}: see `rag-worker switches list`")
    wake_relays(session.connection())
