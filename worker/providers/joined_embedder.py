"""An embedder whose calls share requests: see ``joined_requests``."""

import threading
from collections.abc import Callable, Iterator, Sequence

from shared.queueing import task_context
from worker.providers.embedder import Embeddings, Part, gathered
from worker.providers.embedding_requests import RequestEmbedder, parts_of
from worker.providers.joined_calls import Call
from worker.providers.joined_requests import JoinedRequests, Pace


class JoinedEmbedder:
    """Joins calls that come at about the same time; safe in threads, greenlets, forked children.

    A call that nobody can join goes through as it is.

    Args:
        embedder: asks the provider, with one key for everybody.
        company: how many there are, at most, whose calls may come at the same time.
    """

    is_costly = True

    def __init__(self, embedder: RequestEmbedder, company: Callable[[], int]) -> None:
        self._embedder = embedder
        self._company = company
        self._pace = Pace()
        self._starting = threading.Lock()
        self._requests: JoinedRequests | None = None

    @property
    def model(self) -> str:
        """The embedder's."""
        return self._embedder.model

    @property
    def dimension(self) -> int | None:
        """The embedder's."""
        return self._embedder.dimension

    def count_tokens(self, text: str) -> int:
        """How many tokens ``text`` is."""
        return self._embedder.count_tokens(text)

    def embed(self, texts: Sequence[str]) -> Embeddings:
        """Embed a batch; see ``Embedder.embed``."""
        return gathered(len(texts), self.embed_parts(texts), self.dimension)

    def embed_parts(self, texts: Sequence[str]) -> Iterator[Part]:
        """Embed in parts; see ``PartwiseEmbedder.embed_parts``."""
        if not texts or self._company() <= 1:
            yield from self._embedder.embed_parts(texts)
            return
        call = Call(texts, [self._embedder.count_tokens(text) for text in texts])
        requests = self._joined(call)
        try:
            yield from parts_of(call.arrivals(), self.model)
        finally:
            requests.leave(call)

    def close(self) -> None:
        """Close the embedder's connections."""
        self._embedder.close()

    def _joined(self, call: Call) -> JoinedRequests:
        with self._starting:
            found = self._requests
            if found is None or not found.take(call):
                found = JoinedRequests(self._embedder, self._company, self._pace)
                found.take(call)
                # A thread for all tasks, which belongs to none of them.
                with task_context.entered(None):
                    found.start()
                self._requests = found
            return found
