"""The economy technique: passages are sized, and nothing is embedded."""

from collections.abc import Sequence

import numpy as np

from worker.providers.embedder import Embeddings
from worker.services.dataset.counting import unspaced_characters

#: Of text with spaces; what tokenizers of English take on average.
_CHARACTERS_PER_TOKEN = 4


class NoEmbedder:
    """Stands where an embedder would: it counts tokens, its vectors have no dimension."""

    model = "none"
    dimension = 0
    is_costly = False

    def embed(self, texts: Sequence[str]) -> Embeddings:
        """Token counts and empty vectors."""
        empty = np.zeros((len(texts), 0), dtype=np.float32)
        return Embeddings(empty, [self.count_tokens(text) for text in texts])

    def count_tokens(self, text: str) -> int:
        """An estimate: a Chinese character is a token, and so are four letters."""
        unspaced = unspaced_characters(text)
        return unspaced + -(-(len(text) - unspaced) // _CHARACTERS_PER_TOKEN)
