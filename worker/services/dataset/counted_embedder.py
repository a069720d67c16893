"""Counts the tokens that a model turns into vectors, for the metrics."""

from collections.abc import Callable, Iterator, Sequence

from worker.providers.embedder import (
    Embedder,
    Embeddings,
    Part,
    PartwiseEmbedder,
    TextTooLong,
)

#: Told of every batch: how many tokens.
Count = Callable[[int], None]


class CountedEmbedder:
    """An embedder that says how much it did.

    Args:
        embedder: does it.
        count: told after each batch, also of what was made before a refusal.
    """

    def __init__(self, embedder: Embedder, count: Count) -> None:
        self._embedder = embedder
        self._count = count

    @property
    def model(self) -> str:
        """The embedder's."""
        return self._embedder.model

    @property
    def dimension(self) -> int | None:
        """The embedder's."""
        return self._embedder.dimension

    @property
    def is_costly(self) -> bool:
        """The embedder's."""
        return self._embedder.is_costly

    def count_tokens(self, text: str) -> int:
        """How many tokens ``text`` is."""
        return self._embedder.count_tokens(text)

    def embed(self, texts: Sequence[str]) -> Embeddings:
        """Embed a batch; see ``Embedder.embed``."""
        try:
            made = self._embedder.embed(texts)
        except TextTooLong as error:
            if error.made is not None:
                self._count(sum(error.made.tokens))
            raise
        self._count(sum(made.tokens))
        return made


class CountedPartwiseEmbedder(CountedEmbedder):
    """The same of a costly model: each part counts when it is there."""

    def __init__(self, embedder: PartwiseEmbedder, count: Count) -> None:
        super().__init__(embedder, count)
        self._parts_of = embedder.embed_parts
        self._close = embedder.close

    def embed_parts(self, texts: Sequence[str]) -> Iterator[Part]:
        """Embed in parts; see ``PartwiseEmbedder.embed_parts``."""
        for part in self._parts_of(texts):
            self._count(sum(part.embeddings.tokens))
            yield part

    def close(self) -> None:
        """Close its connections."""
        self._close()
