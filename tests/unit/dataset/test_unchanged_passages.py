import numpy as np

from worker.providers.embedder import Embeddings
from worker.providers.parser import Block
from worker.services.dataset.embedding import Known, embed_passages
from worker.services.dataset.splitting import SplitRule, split

RULE = SplitRule(max_tokens=50, overlap_tokens=5)


class CountingEmbedder:
    """A vector costs it nothing, and it notes each text that it was asked for."""

    model = "counting"
    dimension = 2
    is_costly = False

    def __init__(self):
        self.embedded = []
        self.batches = 0

    def count_tokens(self, text):
        return -(-len(text) // 4) + 3 * text.count("|")

    def embed(self, texts):
        self.embedded += texts
        self.batches += 1
        vectors = np.full((len(texts), 2), 0.5, np.float32)
        return Embeddings(vectors, [self.count_tokens(text) for text in texts])


class CostlyEmbedder(CountingEmbedder):
    is_costly = True


def test_a_costly_model_is_asked_once_however_many_passages_are_split_for_their_length():
    lines = [f"line {number} of words" + "|" * (number % 97 > 90) * 30 for number in range(2_000)]
    embedder, cheap = CostlyEmbedder(), CountingEmbedder()
    passages = list(split([Block("\n".join(lines))], RULE, embedder.count_tokens))

    made = embed_passages(passages, RULE, embedder, lambda _: {})

    assert embedder.batches == 1
    assert embedder.embedded == [one.passage.text for one in made]
    assert max(one.tokens for one in made) <= RULE.max_tokens
    assert [one.content_hash for one in made] == [
        one.content_hash for one in embed_passages(passages, RULE, cheap, lambda _: {})
    ]
    assert cheap.batches > 1


def test_an_unchanged_document_is_not_embedded_again_not_even_what_was_split_for_its_length():
    # Tables that no sample saw: passages of them are too long, and split after embedding.
    lines = [f"line {number} of words" + "|" * (number % 97 > 90) * 30 for number in range(2_000)]
    embedder = CountingEmbedder()
    text = "\n".join(lines)
    passages = list(split([Block(text)], RULE, embedder.count_tokens))
    first = embed_passages(passages, RULE, embedder, lambda _: {})
    assert len(embedder.embedded) > len(first)
    known = {one.content_hash: Known(one.vector, one.tokens) for one in first}
    embedder.embedded.clear()

    again = embed_passages(
        passages,
        RULE,
        embedder,
        lambda hashes: {digest: known[digest] for digest in hashes if digest in known},
    )

    assert embedder.embedded == []
    assert [one.content_hash for one in again] == [one.content_hash for one in first]
