"""Any server with OpenAI's ``/v1/chat/completions``, through the official SDK.

A request is sent once: what fails goes back into the queue with the provider's
``Retry-After``, so that no worker's slot waits for it.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from pydantic import BaseModel, ValidationError

from shared.errors import AnswerUnusable
from worker.providers.chat import ChatChunk, ChatMessage, Completion, Meter, Spending, Usage
from worker.providers.chat_answers import StreamedAnswer, estimated, read_completion, unfenced
from worker.providers.chat_connection import ChatConnection
from worker.providers.pacing import wait_for_turn

_LIMITS = "GENERATION_REQUESTS_PER_MINUTE and GENERATION_TOKENS_PER_MINUTE"
#: Of an answer that is to be repaired, and of what is wrong with it.
_SHOWN_CHARACTERS = 8000
_SHOWN_MISTAKES = 5


class OpenAIChat:
    """One model of one server, for one tenant's purpose.

    Args:
        connection: to the server; shared.
        meter: what records each call.
    """

    def __init__(self, connection: ChatConnection, meter: Meter) -> None:
        self._connection = connection
        self._meter = meter

    @property
    def name(self) -> str:
        """The model's name."""
        return self._connection.endpoint.model

    @property
    def context_tokens(self) -> int:
        """Tokens it takes, its answer included."""
        return self._connection.endpoint.context_tokens

    def complete(
        self,
        messages: Sequence[ChatMessage],
        *,
        max_output_tokens: int,
        temperature: float = 0.0,
        schema: type[BaseModel] | None = None,
    ) -> Completion:
        """The whole answer; see ``ChatModel.complete``."""
        options: dict[str, Any] = {"max_tokens": max_output_tokens, "temperature": temperature}
        if schema is None:
            return self._complete(messages, options)
        form = schema.model_json_schema()
        options["response_format"] = {
            "type": "json_schema",
            "json_schema": {"name": schema.__name__, "schema": form},
        }
        # In words, too: not every server knows the parameter.
        said = f"Answer only with JSON of this schema: {json.dumps(form, ensure_ascii=False)}"
        asked = [ChatMessage("system", said), *messages]
        first = self._complete(asked, options)
        parsed, wrong = _parsed(first.text, schema)
        if parsed is not None:
            return replace(first, parsed=parsed)
        second = self._complete([*asked, *_repairing(first.text, wrong)], options)
        parsed, wrong = _parsed(second.text, schema)
        if parsed is None:
            raise AnswerUnusable(f"{self.name} does not keep to the form asked for: {wrong}")
        return replace(second, parsed=parsed, usage=_both(first.usage, second.usage))

    @contextmanager
    def stream(
        self, messages: Sequence[ChatMessage], *, max_output_tokens: int, temperature: float = 0.0
    ) -> Iterator[Iterator[ChatChunk]]:
        """The answer in pieces; see ``ChatModel.stream``."""
        options = {
            "max_tokens": max_output_tokens,
            "temperature": temperature,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        tokens = estimated(messages)
        with self._spending(tokens, max_output_tokens) as spending:
            upstream = self._connection.ask(messages, options)
            try:
                yield self._chunks(upstream, tokens, spending)
            finally:
                upstream.close()

    def _complete(self, messages: Sequence[ChatMessage], options: dict[str, Any]) -> Completion:
        tokens = estimated(messages)
        with self._spending(tokens, options["max_tokens"]) as spending:
            answer = self._connection.ask(messages, options)
            return read_completion(answer, tokens, spending)

    @contextmanager
    def _spending(self, tokens: int, max_output_tokens: int) -> Iterator[Spending]:
        wait_for_turn(self._connection.rate, tokens + max_output_tokens, _LIMITS)
        with self._meter.spend(self.name, tokens, max_output_tokens) as spending:
            yield spending

    def _chunks(self, upstream: Any, tokens: int, spending: Spending) -> Iterator[ChatChunk]:
        answer = StreamedAnswer(tokens, self._connection.endpoint.max_answer_bytes, spending)
        with self._connection.answering():
            for piece in upstream:
                text = answer.take(piece)
                if text:
                    yield ChatChunk(text)
                if answer.is_full:
                    break
            yield answer.end()


def _parsed(text: str, schema: type[BaseModel]) -> tuple[BaseModel | None, str]:
    """The answer as the schema, or what is wrong with it."""
    try:
        return schema.model_validate_json(unfenced(text)), ""
    except ValidationError as error:
        mistakes = error.errors(include_url=False, include_input=False)[:_SHOWN_MISTAKES]
        return None, "; ".join(
            f"{'.'.join(map(str, one['loc'])) or 'it'}: {one['msg']}" for one in mistakes
        )


def _repairing(text: str, wrong: str) -> list[ChatMessage]:
    return [
        ChatMessage("assistant", text[:_SHOWN_CHARACTERS]),
        ChatMessage("user", f"That does not keep to the schema ({wrong}). Only the right JSON."),
    ]


def _both(first: Usage, second: Usage) -> Usage:
    return Usage(
        first.input_tokens + second.input_tokens,
        first.output_tokens + second.output_tokens,
        first.is_estimated or second.is_estimated,
    )
