"""Transactions of a command, begun anew where the database ended them in favour of another."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar
from uuid import UUID

from sqlalchemy.orm import Session

from shared.models import db
from shared.queueing.transactions import in_transaction

Result = TypeVar("Result")


def committed(work: Callable[[Session], Result]) -> Result:
    """Do work in a transaction of the application's database; see ``in_transaction``."""
    return in_transaction(partial(Session, db.engine), work)


def committed_by_batch(
    change: Callable[[Session, Sequence[UUID]], Sequence[UUID]], chosen: Sequence[UUID], number: int
) -> list[UUID]:
    """Change rows, so many in a transaction.

    Returns:
        Those that were changed.
    """

    def changed(batch: Sequence[UUID]) -> Sequence[UUID]:
        return committed(lambda session: change(session, batch))

    batches = (chosen[start : start + number] for start in range(0, len(chosen), number))
    return [one for batch in batches for one in changed(batch)]
