"""Transactions that are begun anew when the database ended them in favour of another."""

import logging
import random
import time
from collections.abc import Callable
from typing import TypeVar

from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from shared.queueing.outage import mysql_number

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

#: PostgreSQL: a deadlock, two serializable transactions that met.
_STATES = {"40P01", "40001"}
#: MariaDB and MySQL: a deadlock, a lock that was waited for too long.
_NUMBERS = {1213, 1205}
_ATTEMPTS = 6
_BASE_SECONDS = 0.05


def in_transaction(sessions: Callable[[], Session], work: Callable[[Session], Result]) -> Result:
    """Do ``work`` in a session's transaction and commit it.

    When the database ends the transaction in favour of another, all of it is taken back, and done
    again after a moment in a new session: six times at most. MariaDB and MySQL end some that
    PostgreSQL lets wait.

    Args:
        sessions: makes a session: a ``sessionmaker``, or ``partial(Session, engine)``.
        work: is called with the session, again with each new one; commits nothing itself.

    Raises:
        OperationalError: the database ended the last attempt, too, or does not answer.
    """
    for attempt in range(1, _ATTEMPTS):
        try:
            return _once(sessions, work)
        except DBAPIError as error:
            if not was_in_favour_of_another(error):
                raise
            seconds = random.uniform(0, _BASE_SECONDS * 2**attempt)  # noqa: S311 - spreading load, not a secret
            logger.info(
                "a transaction is begun anew in %.2f s: %s",
                seconds,
                error.orig,
                extra={"action": "transaction.again"},
            )
            time.sleep(seconds)
    return _once(sessions, work)


def was_in_favour_of_another(error: DBAPIError) -> bool:
    """Whether the same transaction can succeed when it is begun anew: it met another's locks."""
    driver = error.orig
    return getattr(driver, "pgcode", None) in _STATES or mysql_number(driver) in _NUMBERS


def _once(sessions: Callable[[], Session], work: Callable[[Session], Result]) -> Result:
    with sessions() as session, session.begin():
        return work(session)
