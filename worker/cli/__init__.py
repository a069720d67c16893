"""``main``, the ``rag-worker`` command, and ``rag``, the same commands in any Flask app.

They are made when they are asked for: a probe, which comes every few seconds and has one
to answer, needs neither them nor Flask.
"""

from typing import Any


def __getattr__(name: str) -> Any:
    if name not in {"main", "rag"}:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from worker.cli import groups

    return getattr(groups, name)
