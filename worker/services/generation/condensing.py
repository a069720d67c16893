"""Texts of any length become one: each piece is summarized, then the summaries (map-reduce).

What is held at a time is one piece and a few summaries a level: levels grow with the
logarithm of the length. After each call the state is a checkpoint.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from worker.delivery import runs
from worker.providers.chat import ChatModel
from worker.providers.token_estimate import estimate_tokens
from worker.services.generation.quoting import quoting_prompt
from worker.services.generation.sentences import sentences

#: Summaries that become one.
_FAN_IN = 8
#: Of what the model takes, what a piece may be: an estimate may be half of the truth.
_SHARE = 0.5
_OVERHEAD_TOKENS = 300
_LEAST_PIECE_TOKENS = 256

_PART = (
    "Summarize the quoted part of a document in its own language: its statements, names, "
    "numbers and dates. Add nothing of your own. Only the summary, at most eight sentences."
)
_WHOLE = (
    "Summarize the quoted document, or the summaries of its parts in their order, in its own "
    "language: what it is about and its most important statements. Add nothing of your own. "
    "Only the summary, as one paragraph of at most six sentences."
)


@dataclass(slots=True)
class Condensed:
    """How far it has come.

    Attributes:
        next_position: the first text that no summary covers yet.
        levels: summaries that wait for others; of a higher level those of more text.
    """

    next_position: int = 0
    levels: list[list[str]] = field(default_factory=list)

    @property
    def as_json(self) -> dict[str, Any]:
        return {"next_position": self.next_position, "levels": self.levels}

    @classmethod
    def of(cls, state: dict[str, Any]) -> "Condensed":
        return cls(
            int(state.get("next_position", 0)), [list(one) for one in state.get("levels", ())]
        )


class Condenser:
    """Summarizes one document.

    Args:
        model: the tenant's.
        output_tokens: of each summary.
        temperature: of the model.
    """

    def __init__(self, model: ChatModel, output_tokens: int, temperature: float) -> None:
        self._model = model
        self._output_tokens = output_tokens
        self._temperature = temperature
        room = model.context_tokens - output_tokens - _OVERHEAD_TOKENS
        self._piece_tokens = max(int(room * _SHARE), _LEAST_PIECE_TOKENS)

    def condense(
        self,
        texts: Iterator[tuple[int, str]],
        done: Condensed,
        keep: Callable[[Condensed], None],
    ) -> str:
        """One summary of texts.

        Args:
            texts: by position, from ``done.next_position`` on.
            done: what an earlier attempt paid for.
            keep: writes a checkpoint, in a transaction of its own.

        Returns:
            Empty when there is no text.
        """
        self._lift(done, keep)
        pieces = self._pieces(texts)
        piece = next(pieces, None)
        while piece is not None:
            last, text = piece
            piece = next(pieces, None)
            if piece is None and not any(done.levels):
                return self._ask(_WHOLE, text)
            summary = self._ask(_PART, text)
            done.levels = done.levels or [[]]
            done.levels[0].append(summary)
            done.next_position = last + 1
            keep(done)
            self._lift(done, keep)
        left = [one for level in reversed(done.levels) for one in level]
        while len(left) > _FAN_IN:
            left = [self._ask(_PART, _joined(left[:_FAN_IN])), *left[_FAN_IN:]]
        return self._ask(_WHOLE, _joined(left)) if left else ""

    def _lift(self, done: Condensed, keep: Callable[[Condensed], None]) -> None:
        """Make one summary of each level that is full, for the level above it."""
        for level in range(len(done.levels) + 1):
            if level < len(done.levels) and len(done.levels[level]) >= _FAN_IN:
                higher = self._ask(_PART, _joined(done.levels[level]))
                if level + 1 == len(done.levels):
                    done.levels.append([])
                done.levels[level] = []
                done.levels[level + 1].append(higher)
                keep(done)

    def _pieces(self, texts: Iterator[tuple[int, str]]) -> Iterator[tuple[int, str]]:
        """As many texts as a call takes, with the position of the last."""
        piece: list[str] = []
        tokens = last = 0
        for position, text in texts:
            for part in _parts(text, self._piece_tokens):
                cost = estimate_tokens(part)
                if piece and tokens + cost > self._piece_tokens:
                    yield last, "\n\n".join(piece)
                    piece, tokens = [], 0
                piece.append(part)
                tokens += cost
                # Of a text in several parts, none is behind us before its last one.
                last = position - 1
            last = position
        if piece:
            yield last, "\n\n".join(piece)

    def _ask(self, wish: str, text: str) -> str:
        runs.checkpoint()
        answer = self._model.complete(
            quoting_prompt(wish, [("The text", text)]),
            max_output_tokens=self._output_tokens,
            temperature=self._temperature,
        )
        runs.checkpoint()
        return whole_sentences(answer.text) if answer.finish_reason == "length" else answer.text


def whole_sentences(text: str) -> str:
    """A text that was cut, without the sentence that lost its end."""
    found = list(sentences(text))
    if len(found) < 2:  # noqa: PLR2004 - one sentence is better than none
        return text.strip()
    return text[: text.rindex(found[-1])].strip() if found[-1] in text else text.strip()


def _joined(summaries: list[str]) -> str:
    return "\n\n".join(summaries)


def _parts(text: str, tokens: int) -> Iterator[str]:
    if estimate_tokens(text) <= tokens:
        yield text
        return
    # A token is at least a character: such a part is never too long.
    for start in range(0, len(text), tokens):
        yield text[start : start + tokens]
