"""Spans that come later join their trace while it still waits."""

from typing import Any

from pydantic import ValidationError

from shared.submitting.trace_schema import Trace

_SINGLE = ("app_id", "user_id", "session_id", "environment", "release")


def merged(earlier: Trace, later: Trace) -> Trace | None:
    """Both as one; of a span that is in both, the later one.

    Returns:
        ``None`` when they do not go together: the spans would be no tree.
    """
    spans = {span.span_id: span for span in (*earlier.spans, *later.spans)}
    # Whoever has the root knows what the whole is called.
    named = later if later.has_root or not earlier.has_root else earlier
    single: dict[str, Any] = {
        name: getattr(later, name) or getattr(earlier, name) for name in _SINGLE
    }
    try:
        return Trace(
            trace_id=earlier.trace_id,
            name=named.name,
            kind=named.kind,
            spans=tuple(spans.values()),
            continues=earlier.continues or later.continues,
            tags=tuple(dict.fromkeys((*earlier.tags, *later.tags))),
            metadata={**earlier.metadata, **later.metadata},
            feedback=tuple(_once((*earlier.feedback, *later.feedback))),
            **single,
        )
    except ValidationError:
        return None


def _once(several: tuple[Any, ...]) -> list[Any]:
    kept: list[Any] = []
    for one in several:
        if one not in kept:
            kept.append(one)
    return kept
