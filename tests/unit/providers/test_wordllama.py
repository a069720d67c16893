import random
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer

from shared.errors import ConfigurationError
from worker.providers.wordllama import MODELS, WordLlamaEmbedder
from worker.providers.wordllama_tokens import WordLlamaTokens

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


#: Borders of all kinds, what the vocabulary has across them, and what it has not at all.
_BITS = [
    *("<s>", "</s>", "<unk>", "<0x0A>", "²", "²,", "²).", "“", "”.", "»).", "__", "(self", "()."),
    *(" ", "  ", "\n", "\n\n", "\t", "\r\n", "\u2581", "\u0301", "\x00", "\u200b", "\ud7ff"),
    *("a", "B", "é", "été", "1", "12", "红隼", "😀", "का", "word", "ing", "Word", "https://", "ß"),
]


def test_pieces_have_the_tokens_that_the_models_own_tokenizer_gives_the_text():
    (folder,) = find_spec("wordllama").submodule_search_locations
    stored = str(Path(folder) / "tokenizers" / MODELS["l2_supercat_256"][1])
    whole, pieces = Tokenizer.from_file(stored), WordLlamaTokens(Tokenizer.from_file(stored))
    whole.no_truncation()
    chosen = random.Random(5)
    vocabulary = [one.replace("\u2581", " ") for one in whole.get_vocab()]
    for number in range(6000):
        bits = _BITS if number % 2 else vocabulary
        text = "".join(chosen.choices(bits, k=chosen.randint(0, 14)))
        assert pieces.ids(text) == whole.encode(text, add_special_tokens=False).ids, text


def test_more_words_than_are_kept_have_their_tokens_too(embedder, monkeypatch):
    monkeypatch.setattr("worker.providers.wordllama_tokens._MOST_KEPT", 3)
    text = "Seven boats and nine men went out, and seven boats and nine men came home."
    few = embedder.embed([text] * 3)
    assert len({vector.tobytes() for vector in few.vectors}) == 1
    assert few.tokens == [embedder.count_tokens(text)] * 3
