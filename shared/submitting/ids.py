"""Ids as a producer has them: UUIDs, or text that says one, as ids of Dify's rows do."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from uuid import UUID

from shared.errors import InvalidRequest

#: What a producer's call takes for an id.
AnyId = UUID | str


def checked_id(what: str, given: AnyId) -> UUID:
    """One id; ``what`` is its name.

    Raises:
        InvalidRequest: it is not a UUID.
    """
    if isinstance(given, UUID):
        return given
    try:
        return UUID(given)
    except (ValueError, AttributeError, TypeError):
        raise InvalidRequest(f"{what}: {given!r} is not a UUID") from None


def checked_ids(what: str, given: Sequence[AnyId]) -> list[UUID]:
    """Several ids in their order; one that is named twice counts once.

    Raises:
        InvalidRequest: one is not a UUID, or it is one id and no list.
    """
    if isinstance(given, str | UUID):
        raise InvalidRequest(f"{what} is a list of ids, not one id")
    if not isinstance(given, Iterable):
        raise InvalidRequest(f"{what} is a list of ids, not {given!r}")
    return list(dict.fromkeys(checked_id(what, one) for one in given))


def first_id(name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> UUID | None:
    """The id that a message as it was sent begins with; ``None`` when it is no id."""
    try:
        return checked_id(name, args[0] if args else kwargs[name])
    except (KeyError, InvalidRequest):
        return None
