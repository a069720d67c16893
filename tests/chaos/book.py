"""What the clients know: which documents they were promised, and which they took back."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from tests.chaos.documents import DocumentSpec
from tests.chaos.plan import Death, Order

#: A submission's outcome that means: not taken, ask again later.
_REFUSED = "in_progress"


@dataclass
class Entry:
    """One document as its client knows it.

    Attributes:
        spec: the newest content whose commit is known; ``None`` before the first.
        open_orders: submissions whose end is not known yet.
        deleted_id: the row's id, once the document was deleted.
    """

    spec: DocumentSpec | None = None
    open_orders: int = 0
    deleted_id: str | None = None

    @property
    def is_accepted(self) -> bool:
        """Whether it must be there in the end, or have been."""
        return self.spec is not None

    @property
    def is_quiet(self) -> bool:
        """Whether its client waits for nothing."""
        return self.is_accepted and not self.open_orders


@dataclass
class Book:
    """All documents of one system, by source key."""

    entries: dict[str, Entry] = field(default_factory=dict)

    def opened(self, order: Order) -> None:
        """A producer was asked to submit."""
        for spec in order.documents:
            self.entries.setdefault(spec.key, Entry()).open_orders += 1

    def closed(self, order: Order, code: int, outcomes: dict[str, str] | None) -> Order | None:
        """A producer ended.

        Args:
            order: what it was to do.
            code: its exit code, negative for a signal.
            outcomes: what it said once its commit was known.

        Returns:
            What its client asks for again, if anything.
        """
        if outcomes is None and code < 0 and order.death is Death.AFTER_COMMIT:
            # Committed, says the place where it died; its client never asks again.
            outcomes = dict.fromkeys((spec.key for spec in order.documents), "new")
        again: list[DocumentSpec] = []
        for spec in order.documents:
            entry = self.entries[spec.key]
            entry.open_orders -= 1
            if outcomes is not None and outcomes[spec.key] != _REFUSED:
                entry.spec = spec
            else:
                again.append(spec)
        if not again:
            return None
        # A producer dies once; one that failed before it could die is to die yet.
        death = order.death if code >= 0 and outcomes is None else None
        return Order(order.tenant, tuple(again), death)

    def accepted(self) -> dict[str, DocumentSpec]:
        """Contents that must be there."""
        return {
            key: entry.spec
            for key, entry in self.entries.items()
            if entry.spec is not None and entry.deleted_id is None
        }

    def deleted(self) -> dict[str, str]:
        """Row ids of documents that must be gone, by key."""
        return {key: one.deleted_id for key, one in self.entries.items() if one.deleted_id}

    def unquiet(self) -> list[str]:
        """Keys whose clients still wait for an answer."""
        return [key for key, entry in self.entries.items() if not entry.is_quiet]


@dataclass(eq=False)
class Wish:
    """Something a client does as soon as it can: delete, update, send again."""

    what: str
    try_once: Callable[[], bool]


def granted(wishes: Sequence[Wish], passing: tuple[type[Exception], ...]) -> Iterable[Wish]:
    """Those that could be done now; an error of ``passing`` means later."""
    for wish in wishes:
        try:
            if wish.try_once():
                yield wish
        except passing:
            continue
