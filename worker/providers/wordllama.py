"""WordLlama: static token embeddings, 16 MB, in the wheel; no download, no torch.

The weights and the tokenizer are read as files: the package's own loader
looks for its bundled tokenizer in the wrong folder, configures the root logger
on import and brings an HTTP client with it.
"""

from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file
from tokenizers import Tokenizer

from shared.errors import ConfigurationError
from worker.providers.embedder import Embeddings
from worker.providers.wordllama_tokens import WordLlamaTokens

MODELS = {"l2_supercat_256": ("l2_supercat_256.safetensors", "l2_supercat_tokenizer_config.json")}


class WordLlamaEmbedder:
    """The mean of the token vectors, scaled to unit length."""

    #: A vector takes less time than to look one up, and its tokens are counted on the way.
    is_costly = False

    def __init__(self, name: str) -> None:
        self.model = f"wordllama/{name}"
        self._table, self._tokens = _load(name)
        self.dimension = int(self._table.shape[1])

    def embed(self, texts: Sequence[str]) -> Embeddings:
        """Embed a batch; order is kept and no text is skipped."""
        vectors = np.zeros((len(texts), self.dimension), dtype=np.float32)
        tokens: list[int] = []
        for row, text in enumerate(texts):
            ids = self._tokens.ids(text)
            tokens.append(len(ids))
            if ids:
                # The sum: scaled to unit length it is the mean.
                rows = self._table.take(ids, axis=0, mode="clip")
                np.add.reduce(rows, axis=0, out=vectors[row])
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        vectors /= np.maximum(lengths, np.finfo(np.float32).tiny)
        return Embeddings(vectors, tokens)

    def count_tokens(self, text: str) -> int:
        """How many tokens ``text`` is."""
        return len(self._tokens.ids(text))


@cache
def _load(name: str) -> tuple[NDArray[np.float32], WordLlamaTokens]:
    if name not in MODELS:
        known = ", ".join(MODELS)
        raise ConfigurationError(f"EMBEDDING_MODEL: wordllama has no {name!r}, only: {known}")
    spec = find_spec("wordllama")
    if spec is None or not spec.submodule_search_locations:
        raise ConfigurationError("EMBEDDING_PROVIDER: the package wordllama is not installed")
    folder = Path(spec.submodule_search_locations[0])
    weights, tokenizer_file = MODELS[name]
    table = load_file(folder / "weights" / weights)["embedding.weight"].astype(np.float32)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizers" / tokenizer_file))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return np.ascontiguousarray(table), WordLlamaTokens(tokenizer)
