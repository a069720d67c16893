"""The event loop of remote storages where threads are greenlets: in a thread of the system.

As a greenlet it would run in the thread of all others, and each of them would look to asyncio
as if it were called by the loop itself.
"""

import asyncio
import importlib
import sys
from collections.abc import Callable
from typing import Any

import fsspec.asyn

#: Between two looks whether the thread has begun.
_LOOK_SECONDS = 0.001


class _Loop(asyncio.SelectorEventLoop):
    """What would go to a pool of threads goes to a greenlet: Python waits for pools as it ends."""

    def run_in_executor(  # type: ignore[override]
        self,
        executor: object,  # noqa: ARG002 - asyncio's signature
        func: Callable[..., Any],
        *args: Any,
    ) -> "asyncio.Future[Any]":
        import gevent

        future = self.create_future()

        def end(give: Callable[[Any], None], value: object) -> None:
            if not future.done():
                give(value)

        def work() -> None:
            try:
                value = func(*args)
            except Exception as error:  # noqa: BLE001 - it is whose who waits
                self.call_soon_threadsafe(end, future.set_exception, error)
            else:
                self.call_soon_threadsafe(end, future.set_result, value)

        gevent.spawn(work)
        return future


def run_beside_greenlets() -> None:
    """Start the loop for this process, unless there is one or threads are threads."""
    monkey: Any = sys.modules.get("gevent.monkey")
    if monkey is None or not monkey.is_module_patched("threading") or fsspec.asyn.loop[0]:
        return
    import gevent

    # What both threads use is there before there are two.
    gevent.get_hub()
    importlib.import_module("gevent.selectors")
    made: list[asyncio.AbstractEventLoop] = []

    def run() -> None:
        # Made where it runs: it waits by the greenlets' hub of its own thread.
        loop = _Loop()
        loop.call_soon(made.append, loop)
        loop.run_forever()

    monkey.get_original("_thread", "start_new_thread")(run, ())
    while not made:
        gevent.sleep(_LOOK_SECONDS)
    (fsspec.asyn.loop[0],) = made
