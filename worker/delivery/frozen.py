"""A worker that is frozen in the middle of a transaction keeps no row from the others."""

import math
from typing import Any

from sqlalchemy import Engine, event


def end_idle_transactions(engine: Engine, seconds: float) -> None:
    """Let the server end a transaction whose process says nothing for ``seconds``.

    A stopped process keeps its row locks: the next owner of its work would
    wait for them as long as it is stopped. For connections opened from now on;
    what the URI's own ``options`` say wins.
    """
    if engine.dialect.name != "postgresql":
        _end_on_mysql(engine, math.ceil(seconds))
        return
    option = f"-c idle_in_transaction_session_timeout={round(seconds * 1000)}"

    @event.listens_for(engine, "do_connect")
    def connect(_: object, __: object, ___: object, parameters: dict[str, Any]) -> None:
        parameters["options"] = f"{option} {parameters.get('options', '')}".strip()


def _end_on_mysql(engine: Engine, seconds: int) -> None:
    # Each server reads its own. MySQL's ends idle connections of the pool, too, which opens others.
    said = f"/*M!100300 idle_transaction_timeout = {seconds} *//*!50708 wait_timeout = {seconds} */"

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, _: object) -> None:
        with connection.cursor() as cursor:
            cursor.execute(f"SET SESSION {said}")
