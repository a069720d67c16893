"""Traces are sent together, and apart where a provider does not take them together.

Some providers refuse a whole request for one span. What was refused is sent again in
halves, until the culprit is alone.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from uuid import UUID

from shared.errors import SpansRefused
from worker.delivery import runs
from worker.providers.otlp_encoding import EncodedTrace, joined, only
from worker.providers.trace_presets import Preset
from worker.providers.trace_sender import Receipt
from worker.services.ops_trace.trace_recording import Outcome

#: After so many refusals, and nothing taken, it is not this or that span.
_HOPELESS = 8


@dataclass(frozen=True, slots=True)
class Piece:
    """A trace, or some of its spans, on the way."""

    row_id: UUID
    encoded: EncodedTrace


def requests(pieces: Sequence[Piece], preset: Preset) -> Iterator[list[Piece]]:
    """Pieces in their order, as many together as the provider takes in a request."""
    request: list[Piece] = []
    size = spans = 0
    for piece in pieces:
        length, count = len(piece.encoded.content), piece.encoded.span_count
        is_full = size + length > preset.max_bytes or spans + count > preset.max_spans
        if request and is_full:
            yield request
            request, size, spans = [], 0, 0
        request.append(piece)
        size += length
        spans += count
    if request:
        yield request


class Book:
    """What became of each trace of a batch.

    Attributes:
        is_answered: whether the provider said anything but "later".
    """

    def __init__(self, outcomes: dict[UUID, Outcome]) -> None:
        self.outcomes = outcomes
        self.taken_requests = 0
        self.is_answered = False
        self._refused = 0

    @property
    def is_hopeless(self) -> bool:
        """Whether the provider refuses everything."""
        return not self.taken_requests and self._refused >= _HOPELESS

    def take(self, request: Sequence[Piece], receipt: Receipt) -> None:
        """The provider took a request, or part of it; none of it is ever sent again."""
        self.taken_requests += 1
        self.is_answered = True
        total = sum(piece.encoded.span_count for piece in request)
        words, count = receipt.words, min(receipt.rejected_spans, total)
        if count:
            count = self._reject_named(request, words, count, total)
        for piece in request:
            self.outcomes[piece.row_id].take(piece.encoded.span_ids, words)
        if not count:
            return
        reason = words or "the provider does not say why"
        if len(request) == 1:
            self.outcomes[request[0].row_id].reject_unnamed(count, reason)
            return
        said = f"{count} of {total} spans of its request were refused, it is not said which"
        for piece in request:
            self.outcomes[piece.row_id].reject_unnamed(0, f"{said}: {reason}")

    def refuse(self, request: Sequence[Piece], refusal: SpansRefused) -> None:
        """The provider does not take these, alone or not."""
        self._refused += 1
        for piece in request:
            self.outcomes[piece.row_id].reject(piece.encoded.span_ids, str(refusal))

    def _reject_named(self, request: Sequence[Piece], words: str, count: int, total: int) -> int:
        """Reject what the provider's words name, or everything; returns how many are left over."""
        said = words.lower()
        for piece in request:
            ids = piece.encoded.span_ids
            refused = ids if count == total else [one for one in ids if one in said]
            self.outcomes[piece.row_id].reject(refused, words or "refused without a word")
            count -= len(refused)
            total -= len(ids)
        return max(count, 0)


def send_split(
    request: Sequence[Piece], send: Callable[[bytes], Receipt], book: Book, *, keeps_whole: bool
) -> None:
    """Send a request, in ever smaller parts as long as it is refused.

    Args:
        request: what goes together.
        send: one attempt.
        book: told of each part's end, in the order they end in.
        keeps_whole: the spans of a trace are never parted.

    Raises:
        RateLimited: (transient) the provider asks for patience; the rest was not sent.
        TracesDeferred: (transient) likewise, it is not there.
        ProviderRefused: (permanent) it takes no request at all.
    """
    waiting = [list(request)]
    while waiting:
        part = waiting.pop()
        runs.checkpoint()
        try:
            receipt = send(joined(piece.encoded for piece in part))
        except SpansRefused as refusal:
            book.is_answered = True
            halves = [] if book.is_hopeless else halved(part, keeps_whole=keeps_whole)
            if not halves:
                book.refuse(part, refusal)
            # The first half goes first: parents stand before their children.
            waiting += reversed(halves)
        else:
            book.take(part, receipt)


def halved(request: Sequence[Piece], *, keeps_whole: bool) -> list[list[Piece]]:
    """Two halves of a request; nothing when it cannot be parted."""
    half = len(request) // 2
    if half:
        return [list(request[:half]), list(request[half:])]
    (piece,) = request
    ids = piece.encoded.span_ids
    half = len(ids) // 2
    if keeps_whole or not half:
        return []
    return [[Piece(piece.row_id, only(piece.encoded, some))] for some in (ids[:half], ids[half:])]
