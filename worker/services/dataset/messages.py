"""What a message may say."""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from shared.contract import TASKS
from shared.errors import InvalidRequest
from shared.submitting.ids import checked_ids

_IDS = ("dataset_id", "document_ids")


def parse_ids(dataset_id: str, document_ids: Sequence[str]) -> tuple[UUID, list[UUID]]:
    """The ids of a message about documents; a document named twice counts once.

    Raises:
        InvalidRequest: one is not a UUID, or there is none.
    """
    if isinstance(document_ids, str):
        raise InvalidRequest("document_ids is a list of ids, not one id")
    if not isinstance(document_ids, list | tuple | None):
        raise InvalidRequest(f"document_ids is a list of ids, not {document_ids!r}")
    if not document_ids:
        raise InvalidRequest("document_ids is empty: name at least one document")
    return parse_id("dataset_id", dataset_id), list(
        dict.fromkeys(parse_id("document_ids", one) for one in document_ids)
    )


def parse_message(args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[UUID, list[UUID]] | None:
    """The ids of a message as it was sent; ``None`` when they are no ids.

    It may name one document or several, and say more after that.
    """
    named = {"document_ids" if name == "document_id" else name: kwargs[name] for name in kwargs}
    try:
        bound = inspect.signature(parse_ids).bind(
            *args[:2], **{name: named[name] for name in named if name in _IDS}
        )
        dataset_id, documents = bound.arguments["dataset_id"], bound.arguments["document_ids"]
        return parse_ids(dataset_id, [documents] if isinstance(documents, str) else documents)
    except (TypeError, InvalidRequest):
        return None


def parse_one_message(args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[UUID, UUID] | None:
    """The ids of a message about one document as it was sent; ``None`` when they are no ids."""
    try:
        bound = inspect.signature(_parse_one).bind(*args, **kwargs)
        return _parse_one(*bound.args, **bound.kwargs)
    except (TypeError, InvalidRequest):
        return None


def _parse_one(dataset_id: str, document_id: str) -> tuple[UUID, UUID]:
    dataset, (document,) = parse_ids(dataset_id, [document_id])
    return dataset, document


def build_of(task: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> UUID | None:
    """The build that a message about a dataset's index names."""
    names = next(contract.ids for contract in TASKS if contract.name == task)
    value = {**dict(zip(names, args, strict=False)), **kwargs}.get("build_id")
    try:
        return None if value is None else parse_id("build_id", value)
    except InvalidRequest:
        return None


def build_documents_of(args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[UUID]:
    """The documents that a message about parts of a build names."""
    names = ("dataset_id", "build_id", "document_ids")
    given = {**dict(zip(names, args, strict=False)), **kwargs}
    try:
        return parse_ids(given.get("dataset_id", ""), given.get("document_ids", []))[1]
    except (InvalidRequest, TypeError):
        return []


def parse_id(what: str, value: str) -> UUID:
    """One id; ``what`` is its name.

    Raises:
        InvalidRequest: it is not a UUID.
    """
    try:
        return UUID(value)
    except (ValueError, AttributeError, TypeError):
        raise InvalidRequest(f"{what}: {value!r} is not a UUID") from None


def parse_some(what: str, values: Sequence[str]) -> list[UUID]:
    """A list of ids of a message; one named twice counts once.

    Raises:
        InvalidRequest: one is not a UUID, or it is no list.
    """
    return checked_ids(what, values)
