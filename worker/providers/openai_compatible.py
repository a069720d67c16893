"""Any server with OpenAI's ``/v1/embeddings``: OpenAI, Azure, vLLM, TEI, Ollama, llama.cpp.

A request is sent once: what fails goes back into the queue with the provider's
``Retry-After``, so that no worker's slot waits for it.
"""

import logging
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

import httpx
import numpy as np
import orjson
from numpy.typing import NDArray

from shared.errors import ConfigurationError, RagWorkerError, RateLimited
from shared.settings.embedding import EmbeddingSettings
from worker.providers.embedder import Embeddings, Part, gathered
from worker.providers.embedding_answers import read_vectors
from worker.providers.embedding_connection import EmbeddingConnections
from worker.providers.embedding_requests import Outcome, RequestLimits, batched, parts_of
from worker.providers.http_failures import failure, is_too_long, provider_words
from worker.providers.pacing import Rate, wait_for_turn
from worker.providers.token_estimate import estimate_tokens

logger = logging.getLogger(__name__)

#: How long a call waits, at least, for the requests of others before it.
_SLOT_SECONDS = 120.0
#: Larger than any embedding of a text in JSON; an endless answer must not fill the memory.
_ANSWER_BYTES_PER_TEXT = 512 * 1024
_ANSWER_BYTES = 1024 * 1024


class _TooLong(Exception):
    """The provider says that a request, or a text in it, is too long."""


class OpenAICompatibleEmbedder:
    """One model of one server; safe in threads, greenlets and forked children.

    Args:
        name: the model's, as the server knows it.
        settings: where the server is, and how much it is asked.
        rate: shared by all workers.

    Raises:
        ConfigurationError: EMBEDDING_BASE_URL is not set.
    """

    is_costly = True

    def __init__(self, name: str, settings: EmbeddingSettings, rate: Rate) -> None:
        if not settings.embedding_base_url:
            raise ConfigurationError("EMBEDDING_BASE_URL: openai_compatible needs the server's URL")
        self._name = name
        self._settings = settings
        self._rate = rate
        self._dimension = settings.embedding_dimensions or None
        suffix = f"#{self._dimension}" if self._dimension else ""
        self.model = f"openai_compatible/{name}@{settings.embedding_base_url}{suffix}"
        self._slots = threading.BoundedSemaphore(settings.embedding_concurrency)
        self._connections = EmbeddingConnections(settings)
        self.limits = _limits(settings)

    @property
    def dimension(self) -> int | None:
        """Length of a vector; ``None`` until the first answer, unless the settings say it."""
        return self._dimension

    def count_tokens(self, text: str) -> int:
        """About how many tokens ``text`` is: the tokenizer is the server's."""
        return estimate_tokens(text)

    def embed(self, texts: Sequence[str]) -> Embeddings:
        """Embed a batch; order is kept and no text is skipped.

        Raises:
            TextTooLong: (permanent) the model refuses the length of some; carries the others.
            RateLimited: (transient) its rate is used up; carries ``retry_after_seconds``.
            ServiceUnavailable: (transient) the provider does not answer, or not properly.
            ProviderRefused: (permanent) it refuses; its words say why.
        """
        return gathered(len(texts), self.embed_parts(texts), self._dimension)

    def embed_parts(self, texts: Sequence[str]) -> Iterator[Part]:
        """Embed in requests of a bounded size, several at a time; each is yielded when done.

        Raises:
            RagWorkerError: what ``embed`` raises, after all that succeeded was yielded.
        """
        tokens = [estimate_tokens(text) for text in texts]
        yield from parts_of(self._outcomes(texts, tokens), self._name)

    def close(self) -> None:
        """Close the connections."""
        self._connections.close()

    def ask(self, texts: Sequence[str], tokens: Sequence[int]) -> Outcome:
        """Embed what fits one request, when it is its turn; in halves if the provider says so.

        Args:
            texts: within ``limits``.
            tokens: of each.

        Returns:
            What came of it, by the texts' places; raises nothing that is the provider's.
        """
        everything = range(len(texts))
        not_admitted = self._admit(everything, tokens)
        if not_admitted is not None:
            return Outcome(failure=not_admitted)
        try:
            return self._embed_batch(everything, texts, tokens)
        finally:
            self._slots.release()

    def _outcomes(self, texts: Sequence[str], tokens: Sequence[int]) -> Iterator[Outcome]:
        batches = list(batched(tokens, self.limits.tokens, self.limits.texts))
        if len(batches) == 1:
            yield self.ask(texts, tokens)
        if len(batches) < 2:  # noqa: PLR2004 - there is nothing to do at the same time
            return
        # Threads of this call only, greenlets under gevent; they end with their request.
        pool = ThreadPoolExecutor(min(len(batches), self.limits.requests))
        running: set[Future[Outcome]] = set()
        try:
            for batch in batches:
                not_admitted = self._admit(batch, tokens)
                done, running = wait(running, timeout=0, return_when=FIRST_COMPLETED)
                outcomes = [one.result() for one in done]
                yield from outcomes
                if not_admitted is not None:
                    yield Outcome(failure=not_admitted)
                    break
                if any(one.failure for one in outcomes):
                    self._slots.release()
                    break
                future = pool.submit(self._embed_batch, batch, texts, tokens)
                future.add_done_callback(self._free_slot)
                running.add(future)
            # What is on its way is paid for: it is waited for also after a failure.
            for future in list(running):
                yield future.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def _free_slot(self, _: "Future[Outcome]") -> None:
        self._slots.release()

    def _admit(self, batch: Sequence[int], tokens: Sequence[int]) -> RagWorkerError | None:
        """Take one of this process's slots and a place in everybody's rate, or say why not."""
        seconds = max(_SLOT_SECONDS, 2 * self._settings.embedding_timeout_seconds)
        if not self._slots.acquire(timeout=seconds):
            return RateLimited(
                f"all requests of this worker (EMBEDDING_CONCURRENCY) were busy for {seconds:g} s",
                retry_after_seconds=1.0,
            )
        try:
            wait_for_turn(self._rate, sum(tokens[position] for position in batch))
        except BaseException as error:
            self._slots.release()
            if isinstance(error, RagWorkerError):
                return error
            raise
        return None

    def _embed_batch(
        self, positions: Sequence[int], texts: Sequence[str], tokens: Sequence[int]
    ) -> Outcome:
        """Embed the texts at these positions; what is too long together goes in two halves."""
        outcome, waiting = Outcome(), [list(positions)]
        try:
            while waiting:
                batch = waiting.pop()
                try:
                    vectors = self._request([texts[position] for position in batch])
                except _TooLong as words:
                    if len(batch) == 1:
                        outcome.refused += batch
                        continue
                    logger.warning(
                        "%s: %d texts in halves (EMBEDDING_MAX_BATCH_TEXTS, "
                        "EMBEDDING_MAX_BATCH_TOKENS): %s",
                        self.model, len(batch), words, extra={"action": "embedding.halved"},
                    )  # fmt: skip
                    half = len(batch) // 2
                    waiting += [batch[half:], batch[:half]]
                    wait_for_turn(self._rate, sum(tokens[position] for position in batch))
                    continue
                made = Embeddings(vectors, [tokens[position] for position in batch])
                outcome.parts.append(Part(batch, made))
        except RagWorkerError as error:
            outcome.failure = error
        return outcome

    def _request(self, texts: Sequence[str]) -> NDArray[np.float32]:
        most_bytes = _ANSWER_BYTES + len(texts) * _ANSWER_BYTES_PER_TEXT
        status, headers, body = self._connections.post(self._question(texts), most_bytes)
        if status == httpx.codes.OK:
            vectors = read_vectors(body, len(texts), self._dimension)
            self._dimension = int(vectors.shape[1])
            return vectors
        words = provider_words(body, self._settings.embedding_api_key.get_secret_value())
        if is_too_long(status, words):
            raise _TooLong(words)
        error = failure(status, headers, words)
        if isinstance(error, RateLimited) and error.retry_after_seconds:
            self._rate.hold(error.retry_after_seconds)
        raise error

    def _question(self, texts: Sequence[str]) -> bytes:
        question: dict[str, object] = {
            "model": self._name,
            "input": list(texts),
            "encoding_format": self._settings.embedding_encoding_format,
        }
        if self._settings.embedding_dimensions:
            question["dimensions"] = self._settings.embedding_dimensions
        return orjson.dumps(question)


def _limits(settings: EmbeddingSettings) -> RequestLimits:
    tokens = settings.embedding_max_batch_tokens
    if settings.embedding_tokens_per_minute:
        # One that costs the rate of more than a second would make the next wait for longer.
        tokens = min(tokens, max(settings.embedding_tokens_per_minute // 60, 1))
    return RequestLimits(settings.embedding_max_batch_texts, tokens, settings.embedding_concurrency)
