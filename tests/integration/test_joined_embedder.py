"""Calls that share requests to an embedding server, and what they do not share."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from shared.errors import ProviderRefused, RateLimited, ServiceAway, ServiceUnavailable
from shared.settings.embedding import EmbeddingSettings
from tests.fixtures.embedding_server import (
    Answer,
    Asked,
    EmbeddingServer,
    Step,
    refusing,
    vector_of,
    well,
)
from tests.fixtures.waiting import eventually
from worker.providers.embedder import Embeddings, TextTooLong
from worker.providers.joined_embedder import JoinedEmbedder
from worker.providers.openai_compatible import OpenAICompatibleEmbedder
from worker.providers.pacing import Unlimited

SECONDS = 60
#: More than any test has calls: whoever comes has to wait for company, for its while.
MANY = 1_000
Make = Callable[..., JoinedEmbedder]
Start = Callable[..., "list[Future[Embeddings]]"]


@pytest.fixture
def make(embedding_server: EmbeddingServer) -> Iterator[Make]:
    made: list[JoinedEmbedder] = []

    def joined(company: int = MANY, **settings: Any) -> JoinedEmbedder:
        given = {
            "embedding_base_url": embedding_server.url,
            "embedding_timeout_seconds": SECONDS,
            "embedding_max_batch_texts": 100,
            "embedding_concurrency": 1,
        }
        base = OpenAICompatibleEmbedder("m", EmbeddingSettings(**given | settings), Unlimited())
        made.append(JoinedEmbedder(base, lambda: company))
        return made[-1]

    yield joined
    for one in made:
        one.close()


class Gate:
    """Holds up a server's first request, so that what comes meanwhile waits together."""

    def __init__(self, server: EmbeddingServer) -> None:
        self.is_reached = threading.Event()
        self.opened = threading.Event()
        self.server = server
        server.steps.append(self.hold)

    def hold(self, asked: Asked) -> Answer:
        self.is_reached.set()
        assert self.opened.wait(SECONDS)
        return well(asked)


@pytest.fixture
def start(embedding_server: EmbeddingServer) -> Iterator[Start]:
    """Starts calls that wait together behind one that the server holds up."""
    with ThreadPoolExecutor(20) as pool:
        gates: list[Gate] = []

        def hold_up(embedder: JoinedEmbedder, *calls: list[str]) -> "list[Future[Embeddings]]":
            gate = Gate(embedding_server)
            gates.append(gate)
            first = pool.submit(embedder.embed, ["first"])
            assert gate.is_reached.wait(SECONDS)
            futures = []
            for number, call in enumerate(calls, start=1):
                futures.append(pool.submit(embedder.embed, call))
                eventually(lambda wanted=number: len(waiting(embedder)) == wanted, SECONDS)
            gate.opened.set()
            first.result(SECONDS)
            return futures

        yield hold_up
        for gate in gates:
            gate.opened.set()


def waiting(embedder: JoinedEmbedder) -> list[Any]:
    requests = embedder._requests
    return [] if requests is None else [one for one in list(requests._waiting) if not one.is_sent]


def assert_own(texts: list[str], made: Embeddings) -> None:
    for text, vector in zip(texts, made.vectors, strict=True):
        expected = np.array(vector_of(text))
        assert np.allclose(vector, expected / np.linalg.norm(expected), atol=1e-6), text


def texts_of(number: int, count: int = 5) -> list[str]:
    return [f"call {number} text {text}" for text in range(count)]


def refusing_if(part: str, step: Step) -> Step:
    def answer(asked: Asked) -> Answer:
        return (step if any(part in text for text in asked.texts) else well)(asked)

    return answer


def test_calls_that_wait_together_share_one_request_and_each_gets_its_own(
    make: Make, start: Start, embedding_server: EmbeddingServer
) -> None:
    embedder = make()
    calls = [texts_of(number, number + 1) for number in range(6)]

    made = [one.result(SECONDS) for one in start(embedder, *calls)]

    assert [len(asked.texts) for asked in embedding_server.asked] == [1, 21]
    for texts, vectors in zip(calls, made, strict=True):
        assert_own(texts, vectors)
        assert vectors.tokens == [embedder.count_tokens(text) for text in texts]


def test_requests_are_filled_across_calls_and_never_passed(
    make: Make, start: Start, embedding_server: EmbeddingServer
) -> None:
    embedder = make(embedding_max_batch_texts=8)
    calls = [texts_of(number) for number in range(5)]

    made = [one.result(SECONDS) for one in start(embedder, *calls)]

    assert [len(asked.texts) for asked in embedding_server.asked] == [1, 8, 8, 8, 1]
    for texts, vectors in zip(calls, made, strict=True):
        assert_own(texts, vectors)


def test_tokens_bound_a_request_too_and_a_longer_text_goes_alone(
    make: Make, start: Start, embedding_server: EmbeddingServer
) -> None:
    embedder = make(embedding_max_batch_tokens=10)
    calls = [["one two three four"], ["one two three"], ["word " * 30], ["a b c d e f"]]

    made = [one.result(SECONDS) for one in start(embedder, *calls)]

    assert len(embedding_server.asked) == 4
    for asked in embedding_server.asked:
        tokens = [embedder.count_tokens(text) for text in asked.texts]
        assert sum(tokens) <= 10 or len(tokens) == 1
    for texts, vectors in zip(calls, made, strict=True):
        assert_own(texts, vectors)


@pytest.mark.parametrize(
    ("step", "kind"),
    [
        (refusing(400, "no such text"), ProviderRefused),
        (refusing(500, "a bug"), ServiceUnavailable),
        (lambda asked: Answer(body=b"no json"), ServiceUnavailable),
        (lambda asked: Answer(body=b'{"data": [', cut=5), ServiceUnavailable),
    ],
)
def test_a_text_that_spoils_its_request_fails_its_own_call_only(
    make: Make, start: Start, embedding_server: EmbeddingServer, step: Step, kind: type[Exception]
) -> None:
    embedding_server.always = refusing_if("poison", step)
    calls = [texts_of(1), ["good", "poison", "fine"], texts_of(2)]

    first, spoilt, last = start(make(), *calls)

    assert_own(calls[0], first.result(SECONDS))
    assert_own(calls[2], last.result(SECONDS))
    with pytest.raises(kind):
        spoilt.result(SECONDS)


@pytest.mark.parametrize(
    ("step", "kind"),
    [
        (refusing(429, "slow down", Retry_After="7"), RateLimited),
        (refusing(503, "away", Retry_After="7"), ServiceAway),
        (refusing(500, "restarting", Retry_After="7"), ServiceUnavailable),
    ],
)
def test_what_is_no_texts_fault_is_everybodys_and_nobody_asks_before_he_is_told_to(
    make: Make, start: Start, embedding_server: EmbeddingServer, step: Step, kind: type[Exception]
) -> None:
    embedding_server.always = step
    calls = [texts_of(number) for number in range(3)]

    failed = [one.exception(SECONDS) for one in start(make(), *calls)]

    assert len(embedding_server.asked) == 2
    assert [type(error) for error in failed] == [kind] * 3
    assert {getattr(error, "retry_after_seconds", None) for error in failed} == {7.0}
    assert len({id(error) for error in failed}) == 3, "each raises its own"


def test_a_text_that_is_too_long_is_found_out_and_is_its_own_calls_only(
    make: Make, start: Start, embedding_server: EmbeddingServer
) -> None:
    too_long = refusing(400, "maximum context length is 9 tokens")
    embedding_server.always = refusing_if("endless", too_long)
    calls = [texts_of(1), ["good", "endless", "fine"], texts_of(2)]

    first, longer, last = start(make(), *calls)

    assert_own(calls[0], first.result(SECONDS))
    assert_own(calls[2], last.result(SECONDS))
    with pytest.raises(TextTooLong) as raised:
        longer.result(SECONDS)
    assert raised.value.positions == (1,)
    assert raised.value.made is not None
    assert_own(["good"], Embeddings(raised.value.made.vectors[:1], [1]))


def test_after_a_failure_nothing_more_of_a_call_is_sent_and_others_go_on(
    make: Make, start: Start, embedding_server: EmbeddingServer
) -> None:
    embedding_server.always = refusing_if("poison", refusing(401, "bad key"))
    spoilt, good = ["poison", *texts_of(1, 20)], texts_of(2, 3)

    failed, made = start(make(embedding_max_batch_texts=4), spoilt, good)

    assert isinstance(failed.exception(SECONDS), ProviderRefused)
    assert_own(good, made.result(SECONDS))
    assert set(embedding_server.texts) == {"first", *spoilt[:4], *good}
    assert embedding_server.texts.count("poison") == 1


def test_what_nobody_waits_for_any_more_is_not_asked_for(
    make: Make, start: Start, embedding_server: EmbeddingServer
) -> None:
    embedder = make()
    gate = Gate(embedding_server)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(embedder.embed, ["first"])
        assert gate.is_reached.wait(SECONDS)
        staying = pool.submit(embedder.embed, ["stays"])
        eventually(lambda: len(waiting(embedder)) == 1, SECONDS)
        leaving = embedder.embed_parts(["leaves"])
        leaver = threading.Thread(target=lambda: next(leaving, None))
        leaver.start()
        eventually(lambda: len(waiting(embedder)) == 2, SECONDS)
        _, withdrawn = waiting(embedder)
        requests = embedder._requests
        assert requests is not None
        requests.leave(withdrawn)
        leaver.join(SECONDS)
        gate.opened.set()
        assert_own(["first"], first.result(SECONDS))
        assert_own(["stays"], staying.result(SECONDS))

    assert embedding_server.texts == ["first", "stays"]


def test_no_more_requests_are_on_their_way_than_the_process_may_have(
    make: Make, embedding_server: EmbeddingServer
) -> None:
    embedder = make(embedding_max_batch_texts=2, embedding_concurrency=3)
    met = threading.Barrier(3, timeout=SECONDS)

    def meet(asked: Asked) -> Answer:
        met.wait()  # breaks, and fails the request, unless three are here at once
        return well(asked)

    embedding_server.always = meet
    with ThreadPoolExecutor(9) as pool:
        calls = [texts_of(number, 4) for number in range(9)]
        futures = [pool.submit(embedder.embed, call) for call in calls]
        for texts, one in zip(calls, futures, strict=True):
            assert_own(texts, one.result(SECONDS))

    assert embedding_server.most_at_once == 3


def test_who_is_alone_waits_for_nobody_and_one_joiner_follows_another(
    make: Make, embedding_server: EmbeddingServer
) -> None:
    alone, busy = make(company=1), make()
    assert_own(["alone"], alone.embed(["alone"]))
    assert alone._requests is None

    for number in range(5):
        assert_own(texts_of(number), busy.embed(texts_of(number)))
    assert busy.embed([]).tokens == []
    requests = busy._requests
    assert requests is not None
    eventually(lambda: requests._is_over, SECONDS)
    assert_own(["again"], busy.embed(["again"]))


def test_when_everybody_waits_nobody_waits_longer(
    make: Make, embedding_server: EmbeddingServer
) -> None:
    from worker.providers import joined_requests

    embedder = make(company=2, embedding_concurrency=2)
    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(2) as pool:
        patch.setattr(joined_requests, "_MOST_WAIT_SECONDS", 1e6)
        patch.setattr(joined_requests, "_WAIT_FRACTION", 1e9)
        embedder._pace.note(1.0)
        made = [pool.submit(embedder.embed, [text]) for text in ("one", "two")]
        for text, one in zip(("one", "two"), made, strict=True):
            assert_own([text], one.result(SECONDS))
    assert [len(asked.texts) for asked in embedding_server.asked] == [2]


def test_without_threads_to_be_had_the_callers_say_so(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    embedder = make()
    monkeypatch.setattr(ThreadPoolExecutor, "submit", refuse)

    with pytest.raises(ServiceUnavailable, match="can't start new thread"):
        embedder.embed(["text"])
