"""What a server that went away raises: as transient as our own family."""

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from shared.errors import RateLimited, ServiceAway, ShuttingDown, Transient

SERVER_LOST = (
    OperationalError,
    InterfaceError,
    PoolTimeoutError,
    RedisConnectionError,
    RedisTimeoutError,
)

#: What stops an attempt through no fault of the work: it counts for nothing.
UNCOUNTED = (ShuttingDown, RateLimited, ServiceAway)

#: Everything after which the same work can succeed later.
RETRYABLE = (Transient, *SERVER_LOST)


def mysql_number(error: BaseException | None) -> object:
    """The number that MariaDB or MySQL gave an error of the driver's; else none of theirs."""
    arguments = error.args if error is not None else ()
    return arguments[0] if arguments else None
