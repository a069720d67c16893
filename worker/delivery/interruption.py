"""Ending running work from the outside, in every pool: prefork, solo, threads and gevent.

::

    flow runs on                 the error gets in by           does not reach
    the main thread              a signal whose handler raises  C code that waits on through EINTR
    a greenlet of the main hub   the hub, or the same signal    the same
    another thread               an asynchronous exception      any C call, until it returns

What is raised inside is a ``BaseException`` of our own, so that no ``except
Exception`` of a library takes it for one of its errors. It becomes the caller's
error where it leaves the block.
"""

import ctypes
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, ClassVar, Self, TypeVar

from gevent import monkey
from greenlet import getcurrent, greenlet

Result = TypeVar("Result")

# The kernel sends it for out-of-band data only, Celery and billiard leave it alone,
# and where no handler is installed it is ignored: one that comes too late harms nobody.
SIGNAL = signal.SIGURG

# A function object of our own: argument types set on the shared one would be everybody's.
_raise_in_thread = ctypes.pythonapi["PyThreadState_SetAsyncExc"]
_raise_in_thread.argtypes = (ctypes.c_ulong, ctypes.py_object)
_NOTHING = ctypes.py_object()


class _Interruption(BaseException):
    """The order to stop, on its way out of the work."""


class Interruptible:
    """The flow of control (thread or greenlet) that runs one task, as something to stop.

    A context manager: ``with Interruptible.current() as flow``. Inside it can be
    interrupted, and where the block ends the door closes: what is late is not
    delivered to whatever runs next on the same thread.

    Blocks may nest, and each is interrupted by itself: the order for an outer one
    passes through the inner. The end of an inner block can lose an order that was
    under way to the outer one: the next repetition arrives.
    """

    def __init__(self, thread_id: int) -> None:
        self._thread_id = thread_id
        self._error: BaseException | None = None
        self._finished = False

    @classmethod
    def current(cls) -> "Interruptible":
        """The calling thread or greenlet; close it with ``with`` or :meth:`finish`."""
        # Under gevent the patched one gives the greenlet's number.
        thread_id: int = monkey.get_original("_thread", "get_ident")()
        hub = _main_hub(thread_id)
        if hub is not None:
            return _GreenFlow(thread_id, hub)
        if thread_id == threading.main_thread().ident:
            return _SignalledFlow(thread_id)
        return _ThreadFlow(thread_id)

    def interrupt(self, error: BaseException) -> None:
        """Make ``error`` be raised inside the flow as soon as possible.

        From any thread or greenlet of the process. Repeat it, each second say, until
        the flow has ended: work that swallows ``BaseException``, or a finaliser in which
        the order arrives, goes on as if nothing had been, and is hit again by the next
        call. The newest error given is the one that leaves the block, that very
        instance, also when the cleaning up raised another on the way. A flow that never
        ends is in C code that nothing here can reach.
        """
        if not self._finished:
            self._error = error
            self._send()

    def run(self, work: Callable[[], Result]) -> Result:
        """Call ``work``, and close the door behind it without a gap.

        A plain block on a thread of a pool has one: after a wait in C that is no call
        (``for line in pipe``) the next look of the interpreter can be at the first
        instruction of an ``__exit__``. Inside of a block this may be called once.

        Raises:
            BaseException: the error given to :meth:`interrupt`; what ``work`` raised otherwise.
        """
        try:
            with self:
                return work()
        except _Interruption as raised:
            if not self._finished:
                # It came as ``__exit__`` began. As there: at most one more comes.
                self._finished = True
                try:
                    self.finish()
                except _Interruption:
                    self.finish()
                self.__exit__(type(raised), raised, raised.__traceback__)
            raise

    def finish(self) -> None:
        """Close the door, from inside: no interrupt is raised in the flow after this returned."""
        self._finished = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        raised: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # The interpreter raises what comes from outside at calls and jumps only: none is
        # between the flag and the ``try``, and then at most one more comes, which was
        # being sent when the door closed.
        self._finished = True
        try:
            self.finish()
        except _Interruption as late:
            self.finish()
            raised = raised or late
        error, self._error = self._error, None
        try:
            if error is not None and raised is not None and _comes_of_interruption(raised):
                cause = None if isinstance(raised, _Interruption) else raised
                raise error.with_traceback(raised.__traceback__) from cause
        finally:
            # The error's traceback knows this frame: no circle that keeps the work's locals.
            del error, raised, traceback

    def _send(self) -> None:
        raise NotImplementedError


#: See ``_is_on_an_edge``.
_EXIT = Interruptible.__exit__.__code__


def interruptible() -> Interruptible:
    """Make a block something to stop from outside; see the class."""
    return Interruptible.current()


class _ThreadFlow(Interruptible):
    """A thread other than the main one: the interpreter raises a class there at its next look."""

    def __init__(self, thread_id: int) -> None:
        super().__init__(thread_id)
        self._sending = monkey.get_original("_thread", "allocate_lock")()

    def finish(self) -> None:
        super().finish()
        with self._sending:
            _raise_in_thread(self._thread_id, _NOTHING)

    def _send(self) -> None:
        with self._sending:
            # From the look at the thread to the order no other thread gets its turn: those
            # change places at calls and jumps, and the look is the loop's own step.
            for frames in iter(sys._current_frames, None):  # noqa: SLF001 - its public name
                if self._thread_id in frames:
                    frame = frames[self._thread_id]
                    if not (
                        self._finished
                        or frame.f_code is _EXIT
                        or frame.f_globals["__name__"] == "contextlib"
                    ):
                        _raise_in_thread(self._thread_id, _Interruption)
                return


class _SignalledFlow(Interruptible):
    """The main thread: the handler of a signal raises there, and breaks sleeps and reads too."""

    running: ClassVar[dict[greenlet, "_SignalledFlow"]] = {}

    def __init__(self, thread_id: int) -> None:
        super().__init__(thread_id)
        _Handler.install()
        self._greenlet = getcurrent()
        self._requested = False
        self.outer = self.running.get(self._greenlet)
        self.running[self._greenlet] = self

    def finish(self) -> None:
        super().finish()
        if self.outer is not None:
            self.running[self._greenlet] = self.outer
        else:
            self.running.pop(self._greenlet, None)

    def take(self, frame: FrameType | None) -> bool:
        """Whether an order is open that may be raised in this frame; it is then taken."""
        taken = self._requested and not self._finished and self._may_raise_in(frame)
        if taken:
            self._requested = False
        return taken

    def _may_raise_in(self, frame: FrameType | None) -> bool:
        return not _is_on_an_edge(frame)

    def _send(self) -> None:
        self._requested = True
        _Handler.signal(self._thread_id)


class _GreenFlow(_SignalledFlow):
    """A greenlet of the main thread's hub: the hub throws into it where it waits.

    One that computes and never yields blocks the hub. The signal reaches it all the
    same: its handler runs in whichever greenlet has the thread, and knows which.
    """

    def __init__(self, thread_id: int, hub: Any) -> None:
        super().__init__(thread_id)
        self._hub = hub

    def _may_raise_in(self, frame: FrameType | None) -> bool:
        # Between registering a wait and waiting, gevent is not made for it: the hub throws.
        return super()._may_raise_in(frame) and not (
            frame is not None and _module_of(frame).startswith("gevent.")
        )

    def _send(self) -> None:
        super()._send()
        self._hub.loop.run_callback_threadsafe(self._throw)

    def _throw(self) -> None:
        if self._requested and not self._finished:
            self._requested = False
            self._greenlet.throw(_Interruption)


class _Handler:
    """The handler of our signal, in the main thread of each process that runs such a flow."""

    previous: ClassVar[Any] = None
    expected: ClassVar[bool] = False

    @classmethod
    def install(cls) -> None:
        """Put it in place, before whatever handler is there."""
        found = signal.getsignal(SIGNAL)
        if found is not _on_signal:
            cls.previous = found
            signal.signal(SIGNAL, _on_signal)

    @classmethod
    def signal(cls, thread_id: int) -> None:
        """Wake the main thread."""
        cls.expected = True
        signal.pthread_kill(thread_id, SIGNAL)


def _on_signal(number: int, frame: FrameType | None) -> None:
    ours, _Handler.expected = _Handler.expected, False
    flow = _SignalledFlow.running.get(getcurrent())
    while flow is not None:
        if flow.take(frame):
            raise _Interruption
        flow = flow.outer
    if not ours and callable(_Handler.previous):
        _Handler.previous(number, frame)


def _main_hub(thread_id: int) -> Any:
    """The hub, if greenlets share this thread and it is the main one."""
    if not monkey.is_module_patched("threading"):
        return None
    from gevent.hub import MAIN_THREAD_IDENT, get_hub  # type: ignore[attr-defined]

    return get_hub() if thread_id == MAIN_THREAD_IDENT else None


def _is_on_an_edge(frame: FrameType | None) -> bool:
    """Whether the flow may be about to leave its block: the next repetition tells.

    An exception in the very first instruction of an ``__exit__``, ours or that of a
    ``contextmanager`` around ours, would leave the block past all of our code.
    """
    return frame is not None and (frame.f_code is _EXIT or _module_of(frame) == "contextlib")


def _module_of(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__"))


def _comes_of_interruption(raised: BaseException) -> bool:
    """Whether the order itself is leaving, or an error of the cleaning up that it caused."""
    seen: set[int] = set()
    cause: BaseException | None = raised
    while cause is not None and id(cause) not in seen:
        if isinstance(cause, _Interruption):
            return True
        seen.add(id(cause))
        cause = cause.__cause__ or cause.__context__
    return False
