"""Which task a line of the log belongs to: known wherever the task's work leads.

A task's own thread or greenlet has it, and so have threads that it starts
(``worker.patches``) and parser processes, which are told with each request.
"""

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from shared.contract import TASKS
from shared.queueing import trace_context

_IDS = {task.name: task.ids for task in TASKS}
_NOBODY = str(UUID(int=0))


@dataclass(eq=False, slots=True)
class TaskContext:
    """What every line of a running task says.

    Shared by all its threads, so that each knows the document in work.

    Attributes:
        headers: of the trace it belongs to.
        outer: the context it runs in: of the same message, or of a task that called it.
        is_over: a thread that outlives its task is no longer part of it.
    """

    task_id: str
    task: str
    trace_id: str
    queue: str | None = None
    tenant_id: str | None = None
    document_id: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    outer: "TaskContext | None" = None
    is_over: bool = False

    def fields(self) -> dict[str, str]:
        """By the names that the log has."""
        found = {
            "task": self.task,
            "task_id": self.task_id,
            "queue": self.queue,
            "tenant_id": self.tenant_id,
            "document_id": self.document_id,
            "trace_id": trace_context.current_trace_id() or self.trace_id,
            "request_id": self.headers.get(trace_context.REQUEST_ID),
        }
        return {name: value for name, value in found.items() if value}


_current: ContextVar[TaskContext | None] = ContextVar("task_context", default=None)


def current() -> TaskContext | None:
    """Of the calling task; ``None`` outside of any."""
    found = _current.get()
    return None if found is None or found.is_over else found


def fields() -> dict[str, str]:
    """What a line of the log that is written here says of its task; empty outside of any."""
    found = current()
    return {} if found is None else found.fields()


@contextmanager
def entered(context: TaskContext | None) -> Iterator[None]:
    """Let the block belong to a task, in whatever thread."""
    token = _current.set(context)
    try:
        with trace_context.continuing(_continued(context) if context is not None else {}):
            yield
    finally:
        _current.reset(token)


def begin(context: TaskContext, *, is_nested: bool = False) -> None:
    """Let what follows belong to a task, until ``end``; its messages belong to its trace."""
    outer = current()
    if outer is not None and (is_nested or outer.task_id == context.task_id):
        context.outer = outer
    _current.set(context)
    trace_context.continue_trace(_continued(context))


def end(task_id: str) -> None:
    """End what ``begin`` began."""
    found = _current.get()
    if found is None or found.task_id != task_id:
        return
    found.is_over = True
    _current.set(found.outer)
    trace_context.continue_trace(_continued(found.outer) if found.outer else {})


@contextmanager
def about(
    document_id: "UUID | str | None" = None, tenant_id: "UUID | str | None" = None
) -> Iterator[None]:
    """The subject in work; what is ``None`` stays as it is."""
    found = current()
    if found is None:
        yield
        return
    before = found.document_id, found.tenant_id
    note(document_id, tenant_id)
    try:
        yield
    finally:
        found.document_id, found.tenant_id = before


def note(document_id: "UUID | str | None" = None, tenant_id: "UUID | str | None" = None) -> None:
    """Say what the running task is found to be about; what is ``None`` stays as it is."""
    found = current()
    if found is None:
        return
    if document_id is not None:
        found.document_id = str(document_id)
    if tenant_id is not None and str(tenant_id) != _NOBODY:
        found.tenant_id = str(tenant_id)


def context_of_message(
    headers: Mapping[str, Any],
    *,
    task: str,
    task_id: str,
    queue: str | None,
    args: Any = (),
    kwargs: Mapping[str, Any] | None = None,
) -> TaskContext:
    """What a message's headers and arguments say."""
    carried, root_id = trace_context.sound(headers), headers.get("root_id")
    made = TaskContext(
        task_id,
        task,
        # Where nobody traces, what hangs together has the id of the task it began with.
        trace_id=trace_context.trace_id_of(
            carried, root_id if isinstance(root_id, str) and root_id else task_id
        ),
        queue=queue,
        tenant_id=_tenant(headers),
        headers=carried,
    )
    named = dict(zip(_IDS.get(task, ()), args or (), strict=False)) | dict(kwargs or {})
    made.document_id = _one_id(named.get("document_id")) or _one_id(named.get("document_ids"))
    made.tenant_id = made.tenant_id or _one_id(named.get("tenant_id"))
    return made


def in_this_context(work: Callable[..., Any]) -> Callable[..., Any]:
    """The same work, belonging to the calling task and its span, for another thread."""
    context, api = _current.get(), sys.modules.get("opentelemetry.context")
    spans: Any = api.get_current() if api is not None and hasattr(api, "attach") else None

    def run(*args: Any, **kwargs: Any) -> Any:
        with entered(context):
            token = api.attach(spans) if api is not None and spans is not None else None
            try:
                return work(*args, **kwargs)
            finally:
                if api is not None and token is not None:
                    api.detach(token)

    return run


def _continued(context: TaskContext) -> dict[str, str]:
    return dict(context.headers) or trace_context.sound(
        {trace_context.REQUEST_ID: context.trace_id}
    )


def _tenant(headers: Mapping[str, Any]) -> str | None:
    found = _one_id(headers.get("tenant_id"))
    return None if found == _NOBODY else found


def _one_id(value: Any) -> str | None:
    if isinstance(value, (list, tuple)) and len(value) == 1:
        value = value[0]
    try:
        return str(UUID(value)) if isinstance(value, str) else None
    except ValueError:
        return None
