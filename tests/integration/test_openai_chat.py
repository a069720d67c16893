"""The chat client against a server that speaks OpenAI's protocol, well and badly."""

import time
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
from pydantic import BaseModel, SecretStr

from shared.errors import (
    AnswerUnusable,
    ModelRefused,
    PromptTooLong,
    ProviderRefused,
    RagWorkerError,
    RateLimited,
    ServiceUnavailable,
)
from tests.fixtures.chat_server import (
    JSON,
    KEY,
    Answer,
    ChatServer,
    answer_with,
    chunk,
    declining,
    frame,
    raw,
    refusing,
    saying,
)
from tests.fixtures.waiting import eventually
from worker.providers.chat import ChatChunk, ChatMessage, Spending, Usage
from worker.providers.chat_connection import ChatConnection, Endpoint
from worker.providers.openai_chat import OpenAIChat
from worker.providers.pacing import Unlimited

PROMPT = [ChatMessage("system", "Be brief."), ChatMessage("user", "Who keeps the lamp?")]
GZIP = {"Content-Encoding": "gzip"}
TEN_MEGABYTES = "lamp " * 2_000_000


class Pairs(BaseModel):
    pairs: list[tuple[str, str]]


class Books:
    """A meter that remembers."""

    def __init__(self) -> None:
        self.spent: list[Usage] = []

    @contextmanager
    def spend(self, model: str, input_tokens: int, max_output_tokens: int) -> Iterator[Spending]:
        spending = Spending(Usage())
        try:
            yield spending
        finally:
            self.spent.append(spending.usage)


class Held(Unlimited):
    """A rate that remembers how long everybody has to wait."""

    seconds = 0.0

    def hold(self, seconds: float) -> None:
        self.seconds = seconds


@pytest.fixture
def endpoint(chat_server: ChatServer) -> Endpoint:
    return Endpoint(
        url=chat_server.url,
        model="lamp-1",
        key=SecretStr(KEY),
        context_tokens=8192,
        silence_seconds=5.0,
        call_seconds=20.0,
        max_answer_bytes=100_000,
        connections=8,
    )


@pytest.fixture
def books() -> Books:
    return Books()


@pytest.fixture
def rate() -> Held:
    return Held()


@contextmanager
def opened(endpoint: Endpoint, books: Books, rate: Held) -> Iterator[OpenAIChat]:
    connection = ChatConnection(endpoint, rate)
    yield OpenAIChat(connection, books)
    connection.close()


@pytest.fixture
def chat(endpoint: Endpoint, books: Books, rate: Held) -> Iterator[OpenAIChat]:
    with opened(endpoint, books, rate) as made:
        yield made


def complete(chat: OpenAIChat) -> str:
    return chat.complete(PROMPT, max_output_tokens=100).text


def streamed(chat: OpenAIChat) -> list[ChatChunk]:
    with chat.stream(PROMPT, max_output_tokens=100) as chunks:
        return list(chunks)


def test_a_whole_answer_says_what_it_cost(
    chat: OpenAIChat, chat_server: ChatServer, books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_ORG_ID", "the-operator's-own")
    chat_server.steps.append(saying("The keeper does."))

    completion = chat.complete(PROMPT, max_output_tokens=100, temperature=0.5)

    assert completion.text == "The keeper does."
    assert (completion.finish_reason, completion.usage) == ("stop", Usage(6, 3))
    assert books.spent == [Usage(6, 3)]
    asked = chat_server.asked[0]
    assert asked.key == f"Bearer {KEY}"
    assert asked.body["model"] == "lamp-1"
    assert (asked.body["max_tokens"], asked.body["temperature"]) == (100, 0.5)
    assert asked.messages == [{"role": one.role, "content": one.content} for one in PROMPT]


def test_without_a_key_none_is_sent(
    endpoint: Endpoint, chat_server: ChatServer, books: Books, rate: Held
) -> None:
    with opened(replace(endpoint, key=SecretStr("")), books, rate) as chat:
        complete(chat)
    assert chat_server.asked[0].key == ""


def test_a_streamed_answer_comes_piece_by_piece_and_ends_with_its_cost(
    chat: OpenAIChat, chat_server: ChatServer, books: Books
) -> None:
    chat_server.steps.append(saying("The keeper does. 看灯人。", pause_seconds=0.05))

    with chat.stream(PROMPT, max_output_tokens=100) as chunks:
        arrived = [(time.monotonic(), one) for one in chunks]

    assert "".join(one.text for _, one in arrived) == "The keeper does. 看灯人。"
    assert arrived[-1][1] == ChatChunk("", "stop", Usage(6, 4))
    assert arrived[-1][0] - arrived[0][0] > 0.1, "all of it came at once"
    assert books.spent == [Usage(6, 4)]


def test_usage_that_is_not_told_is_counted(
    chat: OpenAIChat, chat_server: ChatServer, books: Books
) -> None:
    chat_server.steps += [saying("one two three", tell_usage=False)] * 2

    complete(chat)
    streamed(chat)

    assert all(one.is_estimated and one.input_tokens > 5 for one in books.spent)
    assert [one.output_tokens for one in books.spent] == [3, 3]


def test_leaving_the_block_ends_the_request_upstream_and_what_came_is_paid(
    chat: OpenAIChat, chat_server: ChatServer, books: Books
) -> None:
    chat_server.steps.append(saying("word " * 500, pause_seconds=0.05))

    with chat.stream(PROMPT, max_output_tokens=1000) as chunks:
        assert next(chunks).text
        left_at = time.monotonic()

    eventually(lambda: chat_server.asked[0].gone_at is not None, 5)
    assert (chat_server.asked[0].gone_at or 0) - left_at < 1
    assert books.spent[0].is_estimated
    assert books.spent[0].output_tokens >= 1


def test_an_answer_in_a_form_is_validated_and_repaired_once(
    chat: OpenAIChat, chat_server: ChatServer, books: Books
) -> None:
    chat_server.steps += [
        saying('{"pairs": "none"}'),
        saying('```json\n{"pairs": [["q", "a"]]}\n```'),
    ]

    completion = chat.complete(PROMPT, max_output_tokens=100, schema=Pairs)

    assert completion.parsed == Pairs(pairs=[("q", "a")])
    assert len(books.spent) == 2, "each call is paid"
    assert completion.usage.input_tokens == sum(one.input_tokens for one in books.spent)
    assert "pairs" in chat_server.asked[1].messages[-1]["content"]
    assert chat_server.asked[0].body["response_format"]["type"] == "json_schema"


def test_an_answer_that_keeps_no_form_twice_is_an_error(
    chat: OpenAIChat, chat_server: ChatServer, books: Books
) -> None:
    chat_server.always = saying("I would rather write prose.")

    with pytest.raises(AnswerUnusable, match="does not keep to the form"):
        chat.complete(PROMPT, max_output_tokens=100, schema=Pairs)

    assert len(chat_server.asked) == len(books.spent) == 2


def test_parameters_that_the_server_refuses_are_left_out_once_and_for_all(
    chat: OpenAIChat, chat_server: ChatServer
) -> None:
    chat_server.steps += [
        refusing(400, "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."),
        refusing(400, "'temperature' does not support 0.0 with this model."),
        refusing(422, "response_format: extra fields not permitted"),
        saying('{"pairs": []}'),
        saying("plain"),
    ]

    assert chat.complete(PROMPT, max_output_tokens=9, schema=Pairs).parsed == Pairs(pairs=[])
    assert complete(chat) == "plain"

    last = chat_server.asked[-1].body
    assert last["max_completion_tokens"] == 100
    assert {"max_tokens", "temperature", "response_format"}.isdisjoint(last)
    assert len(chat_server.asked) == 5


@pytest.mark.parametrize(
    ("step", "family", "words"),
    [
        (refusing(429, "slow down", retry_after="7"), RateLimited, "slow down"),
        (refusing(429, "pay", code="insufficient_quota"), ServiceUnavailable, "pay"),
        (refusing(503, "overloaded", retry_after="9"), ServiceUnavailable, "overloaded"),
        (refusing(401, f"Incorrect API key: {KEY}"), ProviderRefused, r"\*{4}.*rag-worker"),
        (refusing(404, "no such model"), ProviderRefused, "GENERATION_MODEL"),
        (refusing(400, "maximum context length is 8192"), PromptTooLong, "CONTEXT_TOKENS"),
        (refusing(301, location="http://elsewhere/"), RagWorkerError, "301|no answer|nothing"),
        (declining("I cannot help with that."), ModelRefused, "I cannot help"),
        (saying("Half of", reason="content_filter"), ModelRefused, "filter"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("call", [complete, streamed])
def test_a_refusal_is_a_family_of_errors_in_the_providers_words(
    chat: OpenAIChat, chat_server: ChatServer, rate: Held, call, step, family, words
) -> None:  # type: ignore[no-untyped-def]
    chat_server.always = step

    with pytest.raises(family, match=words) as caught:
        call(chat)

    assert KEY not in str(caught.value)
    assert len(chat_server.asked) == 1, "a request is sent once"
    if getattr(caught.value, "retry_after_seconds", None) == 7:
        assert rate.seconds == 7, "everybody waits"


def test_what_costs_nothing_is_not_recorded_as_spent(
    chat: OpenAIChat, chat_server: ChatServer, books: Books
) -> None:
    chat_server.always = refusing(500, "down")
    for call in (complete, streamed):
        with pytest.raises(ServiceUnavailable):
            call(chat)
    assert books.spent == [Usage(), Usage()]


@pytest.mark.parametrize(
    ("step", "family"),
    [
        (saying("one two three four", cut=3), ServiceUnavailable),
        (raw(chunk("one "), chunk("two ")), ServiceUnavailable),  # ends, and never said so
        (raw(chunk("one "), b"data: {not json\n\n"), AnswerUnusable),
        (raw(chunk("one "), frame({"error": {"message": "lost a node"}})), ServiceUnavailable),
        (raw(chunk("one "), frame(["no", "object"])), RagWorkerError),
        (raw(chunk("one "), b"data: \xff\xfe{}\n\n"), RagWorkerError),
        (saying("one two", pause_seconds=3.0), ServiceUnavailable),  # silent for too long
        (raw(b"data: " + b"x" * 3_000_000), AnswerUnusable),  # one line without an end
        (raw(), ServiceUnavailable),
    ],
)  # fmt: skip
def test_a_broken_stream_is_an_error_and_never_a_whole_answer(
    endpoint: Endpoint, chat_server: ChatServer, books: Books, rate: Held, step, family
) -> None:  # type: ignore[no-untyped-def]
    chat_server.always = step
    with opened(replace(endpoint, silence_seconds=1.0), books, rate) as chat:
        with pytest.raises(family):
            streamed(chat)
        chat_server.always = saying("well again")
        assert streamed(chat)[-1].finish_reason == "stop"


@pytest.mark.parametrize(
    "step",
    [
        raw(b"{not json", stream=False),
        raw(b"[]", stream=False),
        raw(b'{"choices": []}', stream=False),
        raw(b'{"choices": [{"message": null}]}', stream=False),
        raw(b'{"choices": "none", "usage": []}', stream=False),
        raw(b"null", stream=False),
        lambda _: Answer([b"<html>login</html>"], headers={"Content-Type": "text/html"}),
        saying(""),
        lambda asked: Answer(answer_with(asked, "x").pieces, headers=JSON | GZIP),
    ],
)  # fmt: skip
def test_an_answer_that_is_none_is_an_error(
    chat: OpenAIChat, chat_server: ChatServer, step
) -> None:  # type: ignore[no-untyped-def]
    chat_server.always = step
    with pytest.raises(AnswerUnusable):
        complete(chat)


def test_ten_megabytes_are_not_read_whole_and_a_stream_of_them_is_cut(
    chat: OpenAIChat, chat_server: ChatServer
) -> None:
    chat_server.always = lambda asked: answer_with(asked, TEN_MEGABYTES)
    with pytest.raises(AnswerUnusable, match="more than"):
        complete(chat)

    piece = chunk("lamp " * 1000)
    chat_server.always = raw(*[piece] * 2000, chunk(reason="stop"))
    tracemalloc.start()
    with chat.stream(PROMPT, max_output_tokens=100) as chunks:
        size, last = 0, None
        for last in chunks:
            size += len(last.text.encode())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert size == 100_000
    assert last is not None
    assert last.finish_reason == "length"
    assert peak < 5_000_000
    eventually(lambda: chat_server.asked[-1].gone_at is not None, 5)


def test_a_drip_that_never_ends_is_ended(
    endpoint: Endpoint, chat_server: ChatServer, books: Books, rate: Held
) -> None:
    chat_server.always = saying("word " * 500, pause_seconds=0.05)
    with (
        opened(replace(endpoint, call_seconds=0.5), books, rate) as chat,
        pytest.raises(ServiceUnavailable, match=r"longer than 0\.5 s"),
    ):
        streamed(chat)


def test_a_server_that_is_not_there_is_said_to_be_away(
    endpoint: Endpoint, books: Books, rate: Held
) -> None:
    with (
        opened(replace(endpoint, url="http://127.0.0.1:9/v1"), books, rate) as chat,
        pytest.raises(ServiceUnavailable, match="cannot be reached"),
    ):
        complete(chat)
    assert books.spent == [Usage()]
