"""What a parser logs: its process sends it to the worker, whose task it is about."""

import logging
import socket
import threading
from typing import Any

from worker.providers.parsing_frames import Kind, beginning, encoded_text

_MOST_CHARACTERS = 8192
_formatter = logging.Formatter()


class LogToWorker(logging.Handler):
    """Sends records over the socket of the answers, never in the middle of one."""

    def __init__(self, connection: socket.socket, sending: threading.RLock) -> None:
        super().__init__()
        self._connection = connection
        self._sending = sending

    def emit(self, record: logging.LogRecord) -> None:
        """Send a record; the worker formats it."""
        try:
            text = encoded_text(self._text(record)[:_MOST_CHARACTERS])
            start = beginning(Kind.LOG, len(text), logger=record.name, level=record.levelno)
            with self._sending:
                self._connection.sendall(start + text)
        except OSError:
            pass  # the worker is gone
        except Exception:  # noqa: BLE001 - a line that cannot be sent is not worth a file
            self.handleError(record)

    @staticmethod
    def _text(record: logging.LogRecord) -> str:
        text = record.getMessage()
        if record.exc_info:
            text += "\n" + _formatter.formatException(record.exc_info)
        return text


def log_of_parser(header: dict[str, Any], text: str) -> None:
    """Log what a parser did, as a line of the calling task."""
    logging.getLogger(header["logger"]).log(header["level"], "%s", text)
