"""Chat messages of a span's input or output, in the shapes that receivers read."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import orjson

_MESSAGE_KEYS = frozenset({"role", "content", "parts", "tool_calls", "tool_call_id"})


def written(value: Any) -> str:
    """A value as one attribute: text as it is, anything else as JSON."""
    if isinstance(value, str):
        return value
    try:
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()
    except orjson.JSONEncodeError:  # a whole number of more than 64 bits
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=True)


def media_type(value: Any) -> str:
    """What ``written`` made of it."""
    return "text/plain" if isinstance(value, str) else "application/json"


def messages_of(value: Any) -> Sequence[Mapping[str, Any]]:
    """The chat messages that a value is; none when it is something else."""
    found = value.get("messages") if isinstance(value, dict) else value
    if isinstance(value, dict) and _is_message(value):
        found = [value]
    if not isinstance(found, list) or not found or not all(_is_message(one) for one in found):
        return ()
    return found


def in_parts(messages: Sequence[Mapping[str, Any]]) -> str:
    """As ``gen_ai.input.messages`` has them: a role and a list of typed parts each."""
    return written([_with_parts(one) for one in messages])


def numbered_old(prefix: str, messages: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    """As the first releases of the conventions had them: ``gen_ai.prompt.0.role``, and so on."""
    for number, message in enumerate(messages):
        yield f"{prefix}.{number}.role", str(message["role"])
        yield f"{prefix}.{number}.content", written(_content(message))


def numbered(prefix: str, messages: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    """As OpenInference has them: ``llm.input_messages.0.message.role``, and so on."""
    for number, message in enumerate(messages):
        name = f"{prefix}.{number}.message"
        yield f"{name}.role", str(message["role"])
        content = _content(message)
        if content not in (None, ""):
            yield f"{name}.content", written(content)
        if message.get("tool_call_id"):
            yield f"{name}.tool_call_id", str(message["tool_call_id"])
        for position, call in enumerate(_calls(message)):
            named = f"{name}.tool_calls.{position}.tool_call"
            yield f"{named}.id", str(call["id"])
            yield f"{named}.function.name", str(call["name"])
            yield f"{named}.function.arguments", written(call["arguments"])


def _is_message(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and isinstance(value.get("role"), str)
        and not _MESSAGE_KEYS.isdisjoint(value.keys() - {"role"})
    )


def _content(message: Mapping[str, Any]) -> Any:
    if "content" in message:
        return message["content"]
    parts = message.get("parts")
    if isinstance(parts, list) and len(parts) == 1 and isinstance(parts[0], dict):
        return parts[0].get("content", parts)
    return parts


def _calls(message: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """A message's calls of tools, said as OpenAI's API does, or plainly."""
    calls = message.get("tool_calls")
    for call in calls if isinstance(calls, list) else ():
        if isinstance(call, dict):
            function = call.get("function")
            said = function if isinstance(function, dict) else call
            yield {
                "id": call.get("id") or "",
                "name": said.get("name") or "",
                "arguments": said.get("arguments"),
            }


def _with_parts(message: Mapping[str, Any]) -> dict[str, Any]:
    made: dict[str, Any] = {"role": message["role"]}
    if isinstance(message.get("parts"), list):
        made["parts"] = message["parts"]
    else:
        made["parts"] = _parts(message)
    if message.get("finish_reason"):
        made["finish_reason"] = message["finish_reason"]
    return made


def _parts(message: Mapping[str, Any]) -> list[dict[str, Any]]:
    content = message.get("content")
    if message.get("tool_call_id"):
        return [{"type": "tool_call_response", "id": message["tool_call_id"], "response": content}]
    pieces = content if isinstance(content, list) else [content]
    parts = [_part(piece) for piece in pieces if piece not in (None, "")]
    parts += [{"type": "tool_call", **call} for call in _calls(message)]
    return parts


def _part(piece: Any) -> dict[str, Any]:
    if isinstance(piece, dict) and "type" in piece:
        text = piece.get("text")
        return {"type": "text", "content": text} if isinstance(text, str) else dict(piece)
    return {"type": "text", "content": piece}
