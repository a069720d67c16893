"""What an embedding server can do wrong, and what is said of it."""

import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import numpy as np
import pytest
from pydantic import SecretStr

from shared.errors import (
    ConfigurationError,
    ProviderRefused,
    RagWorkerError,
    RateLimited,
    ServiceAway,
    ServiceUnavailable,
)
from shared.settings.embedding import EmbeddingSettings
from tests.fixtures.embedding_server import (
    DIMENSION,
    KEY,
    Answer,
    Asked,
    EmbeddingServer,
    Step,
    answered,
    changed,
    entries,
    refusing,
    vector_of,
    well,
)
from worker.providers.embedder import Part, TextTooLong
from worker.providers.embedding_requests import batched
from worker.providers.openai_compatible import OpenAICompatibleEmbedder
from worker.providers.pacing import Unlimited

TEXTS = [f"Text number {number}." for number in range(10)]
Make = Callable[..., OpenAICompatibleEmbedder]


@pytest.fixture
def make(embedding_server: EmbeddingServer) -> Iterator[Make]:
    made: list[OpenAICompatibleEmbedder] = []

    def embedder(**settings: Any) -> OpenAICompatibleEmbedder:
        given = EmbeddingSettings(
            **{
                "embedding_base_url": embedding_server.url,
                "embedding_api_key": SecretStr(KEY),
                "embedding_timeout_seconds": 10,
            }
            | settings
        )
        made.append(OpenAICompatibleEmbedder("model-x", given, Unlimited()))
        return made[-1]

    yield embedder
    for one in made:
        one.close()


def unit(text: str) -> Any:
    vector = np.array(vector_of(text))
    return vector / np.linalg.norm(vector)


def without_one(data: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return data[:-1]


def twice_the_first(data: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [data[0], *data[:-1]]


def far_index(data: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [*data[:-1], data[-1] | {"index": 99}]


def value_in_third(value: Any) -> Callable[[list[dict[str, Any]]], list[dict[str, Any]]]:
    def change(data: list[dict[str, Any]]) -> list[dict[str, Any]]:
        data[2]["embedding"][5] = value
        return data

    return change


def zeros_in_third(data: list[dict[str, Any]]) -> list[dict[str, Any]]:
    data[2]["embedding"] = [0.0] * DIMENSION
    return data


def shorter(data: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [one | {"embedding": one["embedding"][:-1]} for one in data]


def ragged(data: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [data[0] | {"embedding": [1.0]}, *data[1:]]


def truncated(asked: Asked) -> Answer:
    return answered(entries(asked), cut=100)


def no_json(_: Asked) -> Answer:
    return Answer(body=b"<html>bad gateway</html>")


IN_A_DAY = format_datetime(datetime.now(UTC) + timedelta(days=1), usegmt=True)

FAULTS: list[tuple[str, Step, type[RagWorkerError], str]] = [
    ("500", refusing(500, "out of order"), ServiceUnavailable, "500: out of order"),
    ("503", refusing(503, "busy"), ServiceAway, "503: busy"),
    ("408", refusing(408), ServiceUnavailable, "408"),
    ("429", refusing(429, "slow down"), RateLimited, "429: slow down"),
    ("quota", refusing(429, "insufficient_quota: pay"), ServiceUnavailable, "pay"),
    ("truncated", truncated, ServiceUnavailable, "broke off"),
    ("no JSON", no_json, ServiceUnavailable, "no list of embeddings"),
    ("no list", lambda _: Answer(body=b'{"data": 7}'), ServiceUnavailable, "no list"),
    ("a count", changed(without_one), ServiceUnavailable, "9 vectors to 10 texts"),
    ("twice", changed(twice_the_first), ServiceUnavailable, "text 0 of 10 more than once"),
    ("far index", changed(far_index), ServiceUnavailable, "text 99 of 10"),
    ("NaN", changed(value_in_third(float("nan"))), ServiceUnavailable, "NaN .* of text 2 of 10"),
    ("infinity", changed(value_in_third(float("inf"))), ServiceUnavailable, "infinity"),
    ("null", changed(value_in_third(None)), ServiceUnavailable, "NaN"),
    ("a word", changed(value_in_third("x")), ServiceUnavailable, "cannot be read"),
    ("zeros", changed(zeros_in_third), ServiceUnavailable, "zeros only for text 2 of 10"),
    ("ragged", changed(ragged), ServiceUnavailable, r"\[1, 48\] dimensions at once"),
    ("400", refusing(400, "no such option"), ProviderRefused, "400: no such option"),
    ("401", refusing(401, "bad key"), ProviderRefused, "bad key; see EMBEDDING_API_KEY"),
    ("403", refusing(403), ProviderRefused, "EMBEDDING_API_KEY"),
    ("404", refusing(404, "no model-x"), ProviderRefused, "no model-x; see EMBEDDING_BASE_URL"),
    ("302", refusing(302, location="http://127.0.0.1:1/"), ProviderRefused, "EMBEDDING_BASE_URL"),
]


@pytest.mark.parametrize(
    ("step", "kind", "words"), [f[1:] for f in FAULTS], ids=[f[0] for f in FAULTS]
)
def test_a_fault_has_its_family_and_its_words_and_is_over_with_the_next_call(
    make: Make, embedding_server: EmbeddingServer, step: Step, kind: type, words: str
) -> None:
    embedder = make()
    embedding_server.steps.append(step)

    with pytest.raises(kind, match=words) as raised:
        embedder.embed(TEXTS)

    assert type(raised.value) is kind
    assert KEY not in str(raised.value)
    assert embedder.embed(TEXTS).vectors.shape == (10, DIMENSION)


@pytest.mark.parametrize(
    ("headers", "least", "most"),
    [
        ({"Retry_After": "7"}, 7, 7),
        ({"Retry_After": IN_A_DAY}, 80_000, 86_400),
        ({"retry_after_ms": "1500", "Retry_After": "2"}, 1.5, 1.5),
        ({"Retry_After": "Mon, 01 Jan 2001 00:00:00 GMT"}, 0, 0),
    ],
)
@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_is_handed_on(
    make: Make,
    embedding_server: EmbeddingServer,
    status: int,
    headers: dict[str, str],
    least: float,
    most: float,
) -> None:
    embedding_server.steps.append(refusing(status, **headers))

    with pytest.raises((RateLimited, ServiceUnavailable)) as raised:
        make().embed(TEXTS)

    assert least <= raised.value.retry_after_seconds <= most


@pytest.mark.parametrize("wanted", ["soon", "", "nan o'clock"])
def test_a_retry_after_that_says_nothing_is_none(
    make: Make, embedding_server: EmbeddingServer, wanted: str
) -> None:
    embedding_server.steps.append(refusing(429, Retry_After=wanted))

    with pytest.raises(RateLimited) as raised:
        make().embed(TEXTS)

    assert raised.value.retry_after_seconds is None


def test_a_server_that_does_not_answer_in_time_is_unavailable(
    make: Make, embedding_server: EmbeddingServer
) -> None:
    release = threading.Event()

    def hang(asked: Asked) -> Answer:
        release.wait(30)
        return well(asked)

    embedding_server.steps.append(hang)
    try:
        with pytest.raises(ServiceUnavailable, match=r"did not answer within 0\.2 s"):
            make(embedding_timeout_seconds=0.2).embed(TEXTS)
    finally:
        release.set()


def test_a_server_that_is_not_there_is_unavailable(make: Make) -> None:
    with pytest.raises(ServiceUnavailable, match="cannot be reached"):
        make(embedding_base_url="http://127.0.0.1:9/v1").embed(TEXTS)


def test_vectors_that_change_their_dimension_are_refused(
    make: Make, embedding_server: EmbeddingServer
) -> None:
    embedder = make()
    embedder.embed(TEXTS)
    embedding_server.steps.append(changed(shorter))
    with pytest.raises(ProviderRefused, match="47 dimensions in place of 48"):
        embedder.embed(TEXTS)

    asking = make(embedding_dimensions=12)
    with pytest.raises(ProviderRefused, match="48 dimensions in place of 12"):
        asking.embed(TEXTS)
    assert embedding_server.asked[-1].body["dimensions"] == 12


def test_the_answers_order_does_not_matter(make: Make, embedding_server: EmbeddingServer) -> None:
    embedding_server.always = changed(lambda data: data[::-1])

    made = make().embed(TEXTS)

    for text, vector in zip(TEXTS, made.vectors, strict=True):
        assert np.allclose(vector, unit(text), atol=1e-6)


def test_what_is_asked(make: Make, embedding_server: EmbeddingServer) -> None:
    make().embed(TEXTS[:2])
    make(embedding_api_key=SecretStr("")).embed(TEXTS[:2])

    first, second = embedding_server.asked
    assert first.body == {"model": "model-x", "input": TEXTS[:2], "encoding_format": "float"}
    assert first.key == f"Bearer {KEY}"
    assert second.key == ""


def test_the_key_is_told_to_nobody(
    make: Make, embedding_server: EmbeddingServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    embedder = make()
    embedding_server.steps.append(refusing(401, f"Incorrect API key provided: {KEY}"))

    with pytest.raises(ProviderRefused) as raised:
        embedder.embed(TEXTS)

    chain = [repr(error) + str(error) for error in (raised.value, raised.value.__context__)]
    shown = [
        *chain,
        repr(embedder),
        str(vars(embedder)),
        str(vars(embedder._connections)),
        caplog.text,
    ]
    assert [one for one in shown if KEY in one] == []
    assert "********" in str(raised.value)


def test_requests_are_bounded_by_texts_and_by_tokens(
    make: Make, embedding_server: EmbeddingServer
) -> None:
    embedder = make(embedding_max_batch_texts=4)
    embedder.embed(TEXTS)
    assert sorted(len(asked.texts) for asked in embedding_server.asked) == [2, 4, 4]

    embedding_server.asked.clear()
    cost = embedder.count_tokens(TEXTS[0])
    make(embedding_max_batch_tokens=3 * cost).embed(TEXTS)
    assert sorted(len(asked.texts) for asked in embedding_server.asked) == [1, 3, 3, 3]


@pytest.mark.parametrize(
    ("tokens", "batches"),
    [
        ([], []),
        ([5, 5, 5], [[0, 1], [2]]),
        ([99, 1, 99], [[0], [1], [2]]),
        ([1, 1, 1, 1], [[0, 1, 2], [3]]),
        ([10], [[0]]),
    ],
)
def test_batches_follow_each_other_and_none_is_empty(
    tokens: list[int], batches: list[list[int]]
) -> None:
    assert list(batched(tokens, max_tokens=10, max_texts=3)) == batches


def test_requests_overlap_up_to_the_bound_and_never_beyond(
    make: Make, embedding_server: EmbeddingServer
) -> None:
    met = threading.Barrier(4, timeout=300)

    def meet(asked: Asked) -> Answer:
        met.wait()  # breaks, and fails the request, unless four are here at once
        return well(asked)

    embedding_server.always = meet
    embedder = make(embedding_max_batch_texts=1, embedding_concurrency=4)

    made = embedder.embed(TEXTS[:8])

    assert embedding_server.most_at_once == 4
    for text, vector in zip(TEXTS, made.vectors, strict=False):
        assert np.allclose(vector, unit(text), atol=1e-6)


def test_calls_of_one_process_share_the_bound(
    make: Make, embedding_server: EmbeddingServer
) -> None:
    embedder = make(embedding_max_batch_texts=1, embedding_concurrency=2)
    calls = [threading.Thread(target=embedder.embed, args=(TEXTS,)) for _ in range(6)]
    for call in calls:
        call.start()
    for call in calls:
        call.join()

    assert len(embedding_server.asked) == 60
    assert embedding_server.most_at_once <= 2


def test_what_succeeded_before_a_failure_is_handed_out(
    make: Make, embedding_server: EmbeddingServer
) -> None:
    embedding_server.steps.extend([well, refusing(500)])
    embedder = make(embedding_max_batch_texts=2, embedding_concurrency=1)

    parts: list[Part] = []
    with pytest.raises(ServiceUnavailable):
        parts.extend(embedder.embed_parts(TEXTS))  # what came before the failure stays

    assert [list(part.positions) for part in parts] == [[0, 1]]
    assert len(embedding_server.asked) == 2, "nothing is sent after a failure"


def of_at_most(characters: int) -> Step:
    def step(asked: Asked) -> Answer:
        if max(len(text) for text in asked.texts) > characters:
            return refusing(400, "This model's maximum context length is 9 tokens")(asked)
        return well(asked)

    return step


def test_a_text_that_is_too_long_is_found_out_and_the_others_keep_their_places(
    make: Make, embedding_server: EmbeddingServer
) -> None:
    embedding_server.always = of_at_most(40)
    texts = [*TEXTS[:5], "long " * 20, *TEXTS[5:]]

    with pytest.raises(TextTooLong) as raised:
        make().embed(texts)

    made = raised.value.made
    assert raised.value.positions == (5,)
    assert made is not None
    assert not made.vectors[5].any()
    for place in {*range(11)} - {5}:
        assert np.allclose(made.vectors[place], unit(texts[place]), atol=1e-6)


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (422, "batch size 32 > maximum allowed batch size 3"),
        (413, "Payload too large"),
        (400, "Invalid 'input': array too long. Expected an array with maximum length 3"),
        (400, "Requested 350000 tokens, max 300000 tokens per request"),
    ],
)
def test_a_server_that_takes_less_at_once_gets_less_at_once(
    make: Make, embedding_server: EmbeddingServer, status: int, words: str
) -> None:
    def at_most_three(asked: Asked) -> Answer:
        return well(asked) if len(asked.texts) <= 3 else refusing(status, words)(asked)

    embedding_server.always = at_most_three

    made = make().embed(TEXTS)

    assert np.allclose(made.vectors[9], unit(TEXTS[9]), atol=1e-6)
    assert made.vectors.shape == (10, DIMENSION)


def test_an_endless_answer_is_not_read_to_its_end(
    make: Make, embedding_server: EmbeddingServer
) -> None:
    embedding_server.steps.append(lambda _: Answer(body=b" " * 8_000_000))

    with pytest.raises(ServiceUnavailable, match="longer than"):
        make().embed(TEXTS[:1])


def test_without_a_url_it_says_which_setting_is_missing(make: Make) -> None:
    with pytest.raises(ConfigurationError, match="EMBEDDING_BASE_URL"):
        make(embedding_base_url="")


def test_an_answer_that_drips_is_given_up(make: Make, embedding_server: EmbeddingServer) -> None:
    embedding_server.steps.append(lambda _: Answer(body=b" " * 400, drip_seconds=0.05))

    with pytest.raises(ServiceUnavailable, match=r"within 0\.3 s"):
        make(embedding_timeout_seconds=0.3).embed(TEXTS[:1])
