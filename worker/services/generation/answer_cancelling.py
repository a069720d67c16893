"""Stops an answer that nobody wants any more, also while its model is silent.

One thread a process asks the database about every answer that is being written there;
the row is what says so, and Redis may be away.
"""

import logging
import math
import os
import threading
import time
from collections.abc import Callable
from contextvars import Context
from typing import TypeVar
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session, sessionmaker

from shared.errors import AnswerCancelled
from shared.queueing import task_context
from shared.queueing.task_context import TaskContext
from worker.delivery.interruption import Interruptible, interruptible

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

#: An order that was swallowed is repeated; what cleans up meanwhile is left in peace.
_AGAIN_SECONDS = 2.0
_CANCELLED = text("""
    SELECT id FROM messages
    WHERE id = ANY(CAST(:ids AS uuid[])) AND cancel_requested_at IS NOT NULL
""")


class CancelWatch:
    """The answers that this process writes.

    Args:
        sessions: the database.
        period_seconds: how often it is asked.
    """

    def __init__(self, sessions: "sessionmaker[Session]", period_seconds: float) -> None:
        self._sessions = sessions
        self._period_seconds = period_seconds
        self._flows: dict[UUID, Interruptible] = {}
        self._contexts: dict[UUID, TaskContext | None] = {}
        self._ordered: dict[UUID, float] = {}
        self._begun = threading.Event()
        self._pid: int | None = None

    def run(self, message_id: UUID, work: Callable[[], Result]) -> Result:
        """Do the work of an answer, which ends where it is when it is cancelled.

        In the threads pool a call into C is not broken off: there a silent model is
        waited for as long as its silence is.

        Raises:
            AnswerCancelled: (superseded) it is not wanted any more.
        """
        self._ensure_running()
        flow = interruptible()
        self._flows[message_id] = flow
        self._contexts[message_id] = task_context.current()
        self._begun.set()
        try:
            return flow.run(work)
        finally:
            self._flows.pop(message_id, None)
            self._ordered.pop(message_id, None)
            self._contexts.pop(message_id, None)

    def _ensure_running(self) -> None:
        if self._pid == os.getpid():
            return
        # After a fork: the parent's thread is not here, and its answers are not ours.
        self._pid = os.getpid()
        self._flows, self._ordered, self._begun = {}, {}, threading.Event()
        thread = threading.Thread(target=self._watch, name="answer-cancels", daemon=True)
        # It outlives the task it is started in.
        Context().run(thread.start)

    def _watch(self) -> None:
        while True:
            self._begun.wait()
            self._begun.clear()
            while self._flows:
                try:
                    self.look()
                except SQLAlchemyError as error:
                    for context in list(self._contexts.copy().values()):
                        with task_context.entered(context):
                            logger.warning(
                                "not known whether the answer is cancelled: %s",
                                error,
                                extra={"action": "answer.cancels_unknown"},
                            )
                time.sleep(self._period_seconds)

    def look(self) -> None:
        """Stop what is cancelled.

        Raises:
            SQLAlchemyError: the database does not answer.
        """
        ids = [str(message_id) for message_id in self._flows.copy()]
        with self._sessions() as session:
            cancelled = session.scalars(_CANCELLED, {"ids": ids}).all()
        now = time.monotonic()
        for message_id in cancelled:
            flow = self._flows.get(message_id)
            if (
                flow is not None
                and now - self._ordered.get(message_id, -math.inf) >= _AGAIN_SECONDS
            ):
                self._ordered[message_id] = now
                flow.interrupt(AnswerCancelled())
