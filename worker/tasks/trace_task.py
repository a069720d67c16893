"""What becomes of a message about traces shows in their rows."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy.orm import Session

from shared.errors import RagWorkerError
from shared.queueing.task import FlaskTask


class TraceTask(FlaskTask):
    """A task about deliveries of traces: one id, or a list of them."""

    abstract = True
    subject = "trace"

    def abandon(
        self, reason: RagWorkerError, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> None:
        """End the deliveries as ``failed``, with the reason."""
        from worker.services.ops_trace.trace_announcing import delivery_ids
        from worker.services.ops_trace.trace_sweeping import give_up_traces
        from worker.wiring import export_needs

        give_up_traces(delivery_ids(_given(args, kwargs)), export_needs(), str(reason))

    def split_up(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
        """Announce the deliveries one by one."""
        from worker.services.ops_trace.trace_announcing import delivery_ids
        from worker.services.ops_trace.trace_sweeping import send_one_by_one
        from worker.wiring import export_needs

        found = delivery_ids(_given(args, kwargs))
        if len(found) < 2:  # noqa: PLR2004 - several
            return False
        send_one_by_one(found, export_needs())
        return True

    def revive(self, session: Session, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """Let the deliveries wait again."""
        from worker.services.ops_trace.trace_announcing import delivery_ids
        from worker.services.ops_trace.trace_sweeping import revive_traces

        revive_traces(session, delivery_ids(_given(args, kwargs)))


def _given(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    return args[0] if args else kwargs.get("delivery_ids")
