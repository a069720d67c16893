"""How a line of the log looks: the ids of its task beside it, and no secret in it."""

import logging
from typing import Any, Literal

from pythonjsonlogger.json import JsonFormatter

from shared.queueing import task_context
from shared.settings.redaction import redacted, redacted_value

TEXT_FORMAT = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"
_JSON_FORMAT = "%(asctime)s %(levelname)s %(name)s %(message)s"
_JSON_NAMES = {"asctime": "time", "levelname": "level", "name": "logger"}
#: What Celery says once more, arguments included.
_REPEATED = "data"


def handler(stream: Any, kind: Literal["json", "text"]) -> logging.Handler:
    """A handler that writes to a stream in one of the two formats."""
    made = logging.StreamHandler(stream)
    made.addFilter(name_task)
    made.setFormatter(JsonLines() if kind == "json" else TextLines(TEXT_FORMAT))
    return made


def name_task(record: logging.LogRecord) -> bool:
    """Give a record the ids of the task that wrote it, unless it says others itself."""
    for name, value in task_context.fields().items():
        record.__dict__.setdefault(name, value)
    return True


class JsonLines(JsonFormatter):
    """One object a line, for a log collector."""

    def __init__(self) -> None:
        super().__init__(
            _JSON_FORMAT, rename_fields=_JSON_NAMES, reserved_attrs=[*_reserved(), _REPEATED]
        )

    def process_log_record(self, log_data: dict[str, Any]) -> dict[str, Any]:
        """Mask what is secret."""
        shown: dict[str, Any] = redacted_value(super().process_log_record(log_data))
        return shown


class TextLines(logging.Formatter):
    """For people: the message first, the ids behind it."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, and a traceback below it."""
        return redacted(super().format(record))

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's
        """The line itself."""
        ids = " ".join(
            f"{name}={record.__dict__[name]}" for name in _SUFFIX if record.__dict__.get(name)
        )
        line = super().formatMessage(record)
        return f"{line} [{ids}]" if ids and hasattr(record, "task_id") else line


_SUFFIX = ("task", "task_id", "queue", "tenant_id", "document_id", "trace_id")


def _reserved() -> list[str]:
    from pythonjsonlogger.core import RESERVED_ATTRS

    return list(RESERVED_ATTRS)
