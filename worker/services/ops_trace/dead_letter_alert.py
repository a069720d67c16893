"""New dead letters are told of once."""

from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session, sessionmaker

from worker.delivery.alone import Done, Turn
from worker.services.ops_trace.alerts import AlertNeeds, alert

_NAMED = 10

_NEW = text("""
    SELECT task, count(*) AS letters, min(reason) AS reason
    FROM dead_letters
    WHERE created_at > CAST(:since AS timestamptz) AND created_at <= CAST(:until AS timestamptz)
    GROUP BY task ORDER BY letters DESC, task
""")
#: Dead letters younger than this are looked at next time: their transactions are over by then.
_UNTIL = text("SELECT CAST(statement_timestamp() - interval '1 minute' AS text)")


def alert_of_dead_letters(sessions: sessionmaker[Session], turn: Turn, needs: AlertNeeds) -> Done:
    """Tell of dead letters written since the run before, and note how far it looked."""
    with sessions() as session:
        until = str(session.scalar(_UNTIL))
        since = turn.position or "-infinity"
        found: list[Any] = list(session.execute(_NEW, {"since": since, "until": until}))
    number = sum(row.letters for row in found)
    if number:
        tasks = "; ".join(
            f"{row.letters} x {row.task.rpartition('.')[2]}, such as: {row.reason}"
            for row in found[:_NAMED]
        )
        line = f"{number} new: {tasks}. See `rag-worker dead-letters list`"
        alert("dead letters", line, needs)
    turn.reach(until)
    return Done(number, f"{number} new dead letters")
