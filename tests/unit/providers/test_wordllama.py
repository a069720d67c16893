import numpy as np
import pytest

from shared.errors import ConfigurationError
from worker.providers.wordllama import WordLlamaEmbedder

TEXTS = [
    "The ferry leaves the harbour at nine.",
    "The boat sails from the port in the morning.",
    "Ammonia must be stored below ten degrees.",
    "红隼岛研究站",
    "🚢",
    " ",
    "x" * 10_000,
]


@pytest.fixture(scope="module")
def embedder():
    return WordLlamaEmbedder("l2_supercat_256")


def test_vectors_are_of_unit_length_and_of_the_stated_dimension(embedder):
    vectors = embedder.embed(TEXTS).vectors
    assert vectors.shape == (len(TEXTS), embedder.dimension)
    assert vectors.dtype == np.float32
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


def test_a_text_has_the_same_vector_alone_and_in_any_batch(embedder):
    many = TEXTS * 40  # more than one call to the tokenizer
    together = embedder.embed(many)
    for index, text in enumerate(TEXTS):
        alone = embedder.embed([text])
        assert np.array_equal(alone.vectors[0], together.vectors[index])
        assert np.array_equal(alone.vectors[0], together.vectors[-len(TEXTS) + index])
        assert alone.tokens == [together.tokens[index]] == [embedder.count_tokens(text)]


def test_an_empty_text_has_the_zero_vector(embedder):
    made = embedder.embed(["", "boat", ""])
    assert made.tokens[0] == made.tokens[2] == 0
    assert not made.vectors[[0, 2]].any()
    assert not np.isnan(made.vectors).any()


def test_an_empty_batch_is_an_empty_answer(embedder):
    made = embedder.embed([])
    assert made.vectors.shape == (0, embedder.dimension)
    assert made.tokens == []


def test_like_means_near(embedder):
    ferry, boat, ammonia, *_ = embedder.embed(TEXTS).vectors
    assert ferry @ boat > ferry @ ammonia + 0.1


def test_two_embedders_agree(embedder):
    again = WordLlamaEmbedder("l2_supercat_256")
    assert np.array_equal(again.embed(TEXTS).vectors, embedder.embed(TEXTS).vectors)
    assert again.model == "wordllama/l2_supercat_256"


def test_an_unknown_model_is_a_wrong_setting():
    with pytest.raises(ConfigurationError, match="EMBEDDING_MODEL"):
        WordLlamaEmbedder("no-such-model")
