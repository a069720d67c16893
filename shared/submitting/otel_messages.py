"""What went into a model and what came out, by whichever convention a span says it.

Sources: OpenTelemetry's GenAI conventions, new (``gen_ai.input.messages``) and old
(``gen_ai.prompt.0.content``, message events), and Arize-ai/openinference.
"""

from collections.abc import Iterable
from typing import Any

from shared.submitting.otel_values import Attributes, parsed

_INPUT_EVENTS = {
    "gen_ai.system.message": "system",
    "gen_ai.user.message": "user",
    "gen_ai.assistant.message": "assistant",
    "gen_ai.tool.message": "tool",
}
_OUTPUT_EVENT = "gen_ai.choice"
Events = Iterable[tuple[str, dict[str, Any]]]


def input_of(attributes: Attributes, events: Events) -> Any:
    """What went in; messages before the plain value, which often repeats the last one."""
    found = [
        attributes.json("gen_ai.input.messages"),
        _openinference(attributes.listed("llm.input_messages.")),
        _numbered(attributes.listed("gen_ai.prompt.")),
        [_message(role, body) for name, body in events if (role := _INPUT_EVENTS.get(name))],
        attributes.json("input.value"),
        attributes.json("gen_ai.tool.call.arguments"),
        attributes.json("gen_ai.prompt"),
        attributes.json("traceloop.entity.input"),
        attributes.first("gen_ai.retrieval.query.text"),
    ]
    attributes.first("input.mime_type")
    return _first(found)


def output_of(attributes: Attributes, events: Events) -> Any:
    """What came out."""
    found = [
        attributes.json("gen_ai.output.messages"),
        _openinference(attributes.listed("llm.output_messages.")),
        _numbered(attributes.listed("gen_ai.completion.")),
        [_choice(body) for name, body in events if name == _OUTPUT_EVENT],
        attributes.json("output.value"),
        attributes.json("gen_ai.tool.call.result"),
        attributes.json("gen_ai.completion"),
        attributes.json("traceloop.entity.output"),
    ]
    attributes.first("output.mime_type")
    return _first(found)


def is_message_event(name: str) -> bool:
    """Whether an event is a message, and so in the input or the output already."""
    return name in _INPUT_EVENTS or name == _OUTPUT_EVENT


def _first(found: list[Any]) -> Any:
    return next((one for one in found if one not in (None, [], "")), None)


def _openinference(several: list[Any]) -> list[Any]:
    return [_inner(one, "message") for one in several]


def _inner(value: Any, name: str) -> Any:
    if not isinstance(value, dict):
        return value
    inner = value.get(name, value)
    if not isinstance(inner, dict):
        return inner
    made = dict(inner)
    for key, wrapper in (("tool_calls", "tool_call"), ("contents", "message_content")):
        if isinstance(made.get(key), list):
            made[key] = [_inner(one, wrapper) for one in made[key]]
    return made


def _numbered(several: list[Any]) -> list[Any]:
    return [
        {key: parsed(one) if key == "tool_calls" else one for key, one in message.items()}
        for message in several
        if isinstance(message, dict)
    ]


def _message(role: str, body: dict[str, Any]) -> dict[str, Any]:
    kept = {key: parsed(value) for key, value in body.items() if key != "gen_ai.system"}
    return {"role": role, **kept}


def _choice(body: dict[str, Any]) -> Any:
    message = parsed(body.get("message"))
    if isinstance(message, dict):
        return {"role": "assistant", **message}
    return _message("assistant", body)
