"""What every embedder keeps, whoever makes the vectors."""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec

import numpy as np
import pytest
from pydantic import SecretStr

from shared.errors import ConfigurationError
from shared.settings.embedding import EmbeddingSettings
from tests.fixtures.embedding_server import KEY, EmbeddingServer
from worker.providers.embedder import Embedder
from worker.providers.joined_embedder import JoinedEmbedder
from worker.providers.openai_compatible import OpenAICompatibleEmbedder
from worker.providers.pacing import Unlimited
from worker.providers.sentence_transformers import SentenceTransformersEmbedder
from worker.providers.wordllama import WordLlamaEmbedder

TEXTS = [
    "The ferry leaves the harbour at nine.",
    "The ferry sails from the harbour at nine in the morning.",
    "Ammonia must be stored below ten degrees.",
    "红隼岛研究站",
    "🚢",
    "x" * 5_000,
    "The ferry leaves the harbour at nine.",
]


def sentence_transformers_model() -> Embedder:
    name = os.environ.get("RAG_WORKER_TEST_SENTENCE_TRANSFORMERS")
    if find_spec("sentence_transformers") is None or name is None:
        pytest.skip(
            "needs the extra sentence-transformers, and a model of it (longest text at least "
            "5,000 characters) named by RAG_WORKER_TEST_SENTENCE_TRANSFORMERS"
        )
    return SentenceTransformersEmbedder(name, batch_texts=2)


@pytest.fixture(params=["wordllama", "http", "http_base64", "http_joined", "sentence_transformers"])
def embedder(
    request: pytest.FixtureRequest, embedding_server: EmbeddingServer
) -> Iterator[Embedder]:
    if request.param == "wordllama":
        yield WordLlamaEmbedder("l2_supercat_256")
        return
    if request.param == "sentence_transformers":
        yield sentence_transformers_model()
        return
    settings = EmbeddingSettings(
        embedding_base_url=embedding_server.url,
        embedding_api_key=SecretStr(KEY),
        embedding_max_batch_texts=2,
        embedding_encoding_format="base64" if request.param == "http_base64" else "float",
    )
    made = OpenAICompatibleEmbedder("bag-of-words", settings, Unlimited())
    yield JoinedEmbedder(made, lambda: 100) if request.param == "http_joined" else made
    made.close()


def test_vectors_are_of_unit_length_and_of_one_dimension(embedder: Embedder) -> None:
    vectors = embedder.embed(TEXTS).vectors

    assert vectors.shape == (len(TEXTS), embedder.dimension)
    assert vectors.dtype == np.float32
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


def test_each_text_has_its_own_vector_alone_and_in_any_batch(embedder: Embedder) -> None:
    together = embedder.embed(TEXTS * 3)

    for index, text in enumerate(TEXTS * 3):
        alone = embedder.embed([text])
        assert np.array_equal(alone.vectors[0], together.vectors[index])
        assert together.tokens[index] == alone.tokens[0] == embedder.count_tokens(text)
    assert len({vector.tobytes() for vector in together.vectors}) == len(set(TEXTS))


def test_like_means_near(embedder: Embedder) -> None:
    ferry, boat, ammonia, *_ = embedder.embed(TEXTS).vectors

    assert ferry @ boat > ferry @ ammonia + 0.1


def test_an_empty_batch_is_an_empty_answer(embedder: Embedder) -> None:
    made = embedder.embed([])

    assert made.vectors.shape[0] == 0
    assert made.tokens == []


def test_a_longer_text_has_more_tokens_and_none_has_none(embedder: Embedder) -> None:
    counts = [embedder.count_tokens("the lamp turns " * times) for times in (1, 10, 100)]

    assert 0 < counts[0] * 5 < counts[1] < counts[2] / 5


def test_many_threads_can_share_one(embedder: Embedder) -> None:
    expected = embedder.embed(TEXTS).vectors
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: embedder.embed(TEXTS).vectors, range(16)))

    assert all(np.array_equal(vectors, expected) for vectors in made)


def test_its_name_says_provider_and_model(embedder: Embedder) -> None:
    provider, _, model = embedder.model.partition("/")

    assert provider in {"wordllama", "openai_compatible", "sentence_transformers"}
    assert model


@pytest.mark.skipif(
    find_spec("sentence_transformers") is not None, reason="the extra is installed here"
)
def test_a_missing_extra_is_named() -> None:
    with pytest.raises(
        ConfigurationError, match=r"pip install 'rag-worker\[sentence-transformers\]'"
    ):
        SentenceTransformersEmbedder("all-MiniLM-L6-v2", batch_texts=2)
