"""What happens when: documents, operations and faults, all decided by one seed."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from tests.chaos.documents import BAD, GOOD, DocumentSpec

TENANTS = 3
LARGEST_SMALL_SEGMENTS = 60
_BAD_SHARE = 0.04
_ORDERS_A_ROUND = 3
_KEYS_A_CHANGE = 2


class Death(StrEnum):
    """Where a producer is killed."""

    BEFORE_COMMIT = "before_commit"
    AFTER_COMMIT = "after_commit"  #: before it publishes


@dataclass(frozen=True, slots=True)
class Order:
    """What one producer submits in one transaction."""

    tenant: int
    documents: tuple[DocumentSpec, ...]
    death: Death | None = None


@dataclass(frozen=True, slots=True)
class PlannedFault:
    """One fault.

    Attributes:
        name: a key of ``faults.FAULTS``.
        dice: picks victims and lengths of time, from 0 to below 1.
        deleted: keys of this round's documents that are deleted.
        updated: new contents under keys of this round's documents, each with its tenant.
    """

    name: str
    dice: float
    deleted: tuple[str, ...] = ()
    updated: tuple[tuple[int, DocumentSpec], ...] = ()


@dataclass(frozen=True, slots=True)
class Round:
    """A burst of documents, and a fault while they are worked on; seconds from the start."""

    orders_at_seconds: float
    orders: tuple[Order, ...]
    fault_at_seconds: float
    fault: PlannedFault


@dataclass(frozen=True, slots=True)
class Scale:
    """How large a run is."""

    documents: int
    faults: int
    round_seconds: float = 5.0
    large_documents: int = 3
    large_segments: int = 2000


def make_plan(seed: int, scale: Scale, kinds: Sequence[str]) -> list[Round]:
    """The same rounds for the same arguments.

    Args:
        seed: decides everything.
        scale: how much of it.
        kinds: names of faults; each is used as often as the others, give or take one.
    """
    choose = random.Random(seed)
    faults = _deck(choose, kinds, scale.faults)
    specs = _specs(choose, scale)
    shares = _shares(len(specs), scale.faults)
    rounds = []
    for number, (kind, share) in enumerate(zip(faults, shares, strict=True)):
        orders = _orders(choose, [specs.pop() for _ in range(share)])
        begins = scale.round_seconds * (number + choose.uniform(0.0, 0.3))
        rounds.append(
            Round(
                orders_at_seconds=begins,
                orders=_with_deaths(orders, kind),
                fault_at_seconds=begins + choose.uniform(0.2, 1.5),
                fault=_fault(choose, kind, orders),
            )
        )
    return rounds


def _deck(choose: random.Random, kinds: Sequence[str], number: int) -> list[str]:
    deck: list[str] = []
    while len(deck) < number:
        deck += choose.sample(list(kinds), len(kinds))
    return deck[:number]


def _shares(total: int, parts: int) -> list[int]:
    return [total * (part + 1) // parts - total * part // parts for part in range(parts)]


def _specs(choose: random.Random, scale: Scale) -> list[DocumentSpec]:
    specs = []
    for number in range(scale.documents):
        is_bad = choose.random() < _BAD_SHARE
        specs.append(
            DocumentSpec(
                key=f"document-{number:04}",
                kind=choose.choice(list(BAD) if is_bad else GOOD),
                segments=choose.randint(1, LARGEST_SMALL_SEGMENTS),
                seed=choose.getrandbits(32),
            )
        )
    for at in choose.sample(range(scale.documents), scale.large_documents):
        specs[at] = replace(specs[at], kind="md", segments=scale.large_segments)
    return specs


def _orders(choose: random.Random, specs: list[DocumentSpec]) -> tuple[Order, ...]:
    """The documents of a round, dealt to a few producers."""
    number = min(_ORDERS_A_ROUND, len(specs))
    return tuple(
        Order(choose.randrange(TENANTS), tuple(specs[first::number])) for first in range(number)
    )


def _with_deaths(orders: tuple[Order, ...], kind: str) -> tuple[Order, ...]:
    deaths = {
        "producer killed before commit": Death.BEFORE_COMMIT,
        "producer killed before publish": Death.AFTER_COMMIT,
    }
    if kind not in deaths:
        return orders
    return (replace(orders[0], death=deaths[kind]), *orders[1:])


def _fault(choose: random.Random, kind: str, orders: tuple[Order, ...]) -> PlannedFault:
    dice = choose.random()
    good = [(one.tenant, spec) for one in orders for spec in one.documents if spec.is_good]
    chosen = choose.sample(good, min(_KEYS_A_CHANGE, len(good)))
    if kind == "documents deleted in flight":
        return PlannedFault(kind, dice, deleted=tuple(spec.key for _, spec in chosen))
    if kind == "documents updated in flight":
        updated = tuple((tenant, _other_content(choose, spec)) for tenant, spec in chosen)
        return PlannedFault(kind, dice, updated=updated)
    return PlannedFault(kind, dice)


def _other_content(choose: random.Random, spec: DocumentSpec) -> DocumentSpec:
    segments = choose.randint(1, LARGEST_SMALL_SEGMENTS)
    return replace(spec, segments=segments, seed=choose.getrandbits(32))
