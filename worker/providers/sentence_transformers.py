"""Models of the sentence-transformers library, in the worker itself; an extra of the package."""

import threading
from collections.abc import Iterator, Sequence
from importlib import import_module
from typing import Any

import numpy as np

from shared.errors import ConfigurationError
from worker.providers.embedder import Embeddings, Part, TextTooLong, gathered

EXTRA = "rag-worker[sentence-transformers]"


class SentenceTransformersEmbedder:
    """One local model; loaded when it is made, from the library's cache or by download.

    Args:
        name: as the library knows it, or a folder.
        batch_texts: texts in one pass through the model.

    Raises:
        ConfigurationError: the extra is not installed, or there is no such model.
    """

    #: A transformer takes milliseconds for a text: to look a vector up is cheaper.
    is_costly = True

    def __init__(self, name: str, batch_texts: int) -> None:
        self.model = f"sentence_transformers/{name}"
        self._model = _load(name)
        self._batch_texts = batch_texts
        self.dimension = int(self._model.get_sentence_embedding_dimension())
        # Its tokenizer keeps settings of the call before, and must not be used by two at once.
        self._turn = threading.Lock()

    def count_tokens(self, text: str) -> int:
        """How many tokens ``text`` is, those included that the model adds itself."""
        with self._turn:
            return len(self._model.tokenizer.encode(text, truncation=False, verbose=False))

    def embed(self, texts: Sequence[str]) -> Embeddings:
        """Embed a batch; order is kept and no text is skipped.

        Raises:
            TextTooLong: (permanent) some pass the model's length; carries the others.
        """
        return gathered(len(texts), self.embed_parts(texts), self.dimension)

    def embed_parts(self, texts: Sequence[str]) -> Iterator[Part]:
        """Embed in passes of a bounded size; each is yielded when it is done.

        Raises:
            TextTooLong: (permanent) some texts pass the model's length, of which the
                library would embed the beginning without a word.
        """
        tokens = [self.count_tokens(text) for text in texts]
        longest = self._model.max_seq_length or max(tokens, default=0)
        fitting = [place for place, count in enumerate(tokens) if count <= longest]
        for start in range(0, len(fitting), self._batch_texts):
            places = fitting[start : start + self._batch_texts]
            with self._turn:
                vectors = self._model.encode(
                    [texts[place] for place in places],
                    batch_size=self._batch_texts,
                    convert_to_numpy=True,
                    normalize_embeddings=True,
                    show_progress_bar=False,
                )
            made = Embeddings(vectors.astype(np.float32), [tokens[place] for place in places])
            yield Part(places, made)
        refused = [place for place, count in enumerate(tokens) if count > longest]
        if refused:
            raise TextTooLong(refused, message=f"{self.model} takes no more than {longest} tokens")

    def close(self) -> None:
        """Nothing is open."""


def _load(name: str) -> Any:
    try:
        library = import_module("sentence_transformers")
    except ImportError as error:
        raise ConfigurationError(
            f"EMBEDDING_PROVIDER: sentence_transformers is an extra: pip install '{EXTRA}'"
        ) from error
    try:
        return library.SentenceTransformer(name)
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"EMBEDDING_MODEL: sentence_transformers cannot load {name!r}: {error}"
        ) from error
