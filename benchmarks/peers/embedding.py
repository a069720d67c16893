"""The embedder that all frameworks are given: WordLlama's model from its wheel, or one over HTTP.

``EMBEDDING_URL`` names a server that speaks OpenAI's protocol; without it WordLlama embeds in
the process. The wheel's own loader looks for its tokenizer in the wrong folder and would
download it: the folder is named.
"""

import os
from pathlib import Path

import httpx
import wordllama

DIMENSIONS = 256


class Embedder:
    """One call, one batch."""

    def __init__(self) -> None:
        self._url = os.environ.get("EMBEDDING_URL")
        if self._url:
            self._client = httpx.Client(timeout=60)
        else:
            folder = Path(wordllama.__file__).parent
            self._model = wordllama.WordLlama.load(
                dim=DIMENSIONS, cache_dir=folder, disable_download=True
            )

    def embed(self, texts: list[str]) -> list[list[float]]:
        """A vector a text, in order."""
        if not self._url:
            return self._model.embed(texts, norm=True).tolist()
        asked = {"model": "slow", "input": texts}
        answer = self._client.post(f"{self._url}/embeddings", json=asked)
        return [one["embedding"] for one in answer.raise_for_status().json()["data"]]
