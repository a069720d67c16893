"""Messages in a worker, as monitors see them: without what their task masks."""

from typing import Any

from worker.delivery.bootstep import Request


class MaskedRequest(Request):
    """A message of a task that takes content; whoever published it, nobody is shown that."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._argsrepr, self._kwargsrepr = map(repr, self._masked())
        self.request_dict.update(argsrepr=self._argsrepr, kwargsrepr=self._kwargsrepr)

    def info(self, safe: bool = False) -> Any:  # noqa: ARG002, FBT001, FBT002 - Celery's signature
        """What ``celery inspect active`` and Flower ask for."""
        return super().info(safe=True)

    def _masked(self) -> Any:
        task: Any = self.task
        return task.shown(self.args, self.kwargs)
