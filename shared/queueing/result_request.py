"""What a stored result says of the message it answers; content that a task masks stays out."""

from collections.abc import Callable
from typing import Any


def request_columns(app: Any, request: Any, encode: Callable[[Any], bytes]) -> dict[str, Any]:
    """The columns of a result that come from the request."""
    delivery = getattr(request, "delivery_info", None) or {}
    name = getattr(request, "task", None)
    args, kwargs = getattr(request, "args", None), getattr(request, "kwargs", None)
    shown = getattr(app.tasks.get(name), "shown", None)
    if shown is not None and args is not None:
        args, kwargs = shown(args, kwargs or {})
    return {
        "name": name,
        "args": encode(args),
        "kwargs": encode(kwargs),
        "worker": getattr(request, "hostname", None),
        "retries": getattr(request, "retries", None),
        "queue": delivery.get("routing_key"),
        "stamps": _stamps(request, encode),
    }


def _stamps(request: Any, encode: Callable[[Any], bytes]) -> bytes | None:
    headers = getattr(request, "stamped_headers", None)
    if not headers:
        return None
    values = getattr(request, "stamps", None) or {}
    stamps = {header: values[header] for header in headers if header in values}
    return encode({"stamped_headers": headers, "stamps": stamps})
