"""Which documents a search is about."""

import json
from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import Select, Text, cast, func, literal, select
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Session

from shared.errors import NotFound
from shared.models import Document
from worker.services.dataset.search_options import SearchOptions, values_of

_UNKNOWN_SHOWN = 5


def documents_asked_for(
    session: Session, dataset_id: UUID, options: SearchOptions
) -> list[UUID] | None:
    """The documents that pass the filters, or ``None`` for no filter.

    Raises:
        NotFound: one of ``options.documents`` is not of this dataset.
    """
    if options.documents is None and not options.metadata:
        return None
    query = select(Document.id).where(Document.dataset_id == dataset_id)
    if options.documents is not None:
        query = query.where(Document.id.in_(options.documents))
        _require_all(dataset_id, options.documents, session.scalars(query).all())
    if not options.metadata:
        return list(dict.fromkeys(options.documents or ()))
    return list(session.scalars(_with_metadata(query, options)))


def _require_all(dataset_id: UUID, wanted: Sequence[UUID], known: Sequence[UUID]) -> None:
    unknown = sorted(set(wanted).difference(known))
    if unknown:
        shown = ", ".join(map(str, unknown[:_UNKNOWN_SHOWN]))
        more = f" and {len(unknown) - _UNKNOWN_SHOWN} more" if len(unknown) > _UNKNOWN_SHOWN else ""
        raise NotFound(f"dataset {dataset_id} has no document {shown}{more}")


def _with_metadata(query: Select[UUID], options: SearchOptions) -> Select[UUID]:
    for name, wanted in options.metadata.items():
        # Compared as JSON values: 5 is 5.0, and neither is "5".
        listed = cast(literal(json.dumps(values_of(wanted)), Text), JSONB)
        values = select(func.jsonb_array_elements(listed).column_valued("value"))
        query = query.where(Document.doc_metadata[name].in_(values))
    return query
