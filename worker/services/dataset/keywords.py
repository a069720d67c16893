"""The keyword index as rows, written with the segments."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session

from worker.services.dataset.words import WordCounts, count_words
from worker.stores import binary_copy

_UPSERT = text("""
    INSERT INTO segment_keywords (
        segment_id, dataset_id, document_id, version, words, frequencies, length
    )
    SELECT u.id, :dataset_id, u.document_id, u.version,
           CAST(u.words AS bigint[]), CAST(u.frequencies AS smallint[]), u.length
    FROM unnest(
        CAST(:ids AS uuid[]), CAST(:words AS text[]), CAST(:frequencies AS text[]),
        CAST(:lengths AS int[]), CAST(:document_ids AS uuid[]), CAST(:versions AS int[])
    ) AS u(id, words, frequencies, length, document_id, version)
    ON CONFLICT (segment_id) DO UPDATE SET
        words = excluded.words, frequencies = excluded.frequencies, length = excluded.length
""")

_COPY = text("""
    COPY segment_keywords (
        segment_id, dataset_id, document_id, version, words, frequencies, length
    ) FROM STDIN (FORMAT binary)
""")

# By the length too: words that were added by hand since they were looked up are not its own.
_CARRY = text("""
    INSERT INTO segment_keywords (
        segment_id, dataset_id, document_id, version, words, frequencies, length
    )
    SELECT u.id, :dataset_id, :document_id, :version,
           source.words, source.frequencies, source.length
    FROM unnest(
        CAST(:ids AS uuid[]), CAST(:sources AS uuid[]), CAST(:lengths AS int[])
    ) AS u(id, source, length)
    JOIN segment_keywords AS source
      ON source.segment_id = u.source AND source.length = u.length
    ON CONFLICT (segment_id) DO UPDATE SET
        words = excluded.words, frequencies = excluded.frequencies, length = excluded.length
""")

_DELETE = text("""
    DELETE FROM segment_keywords
    WHERE document_id = :document_id AND version IS DISTINCT FROM :keep
""")


def count(texts: Sequence[str], dataset_id: UUID) -> list[WordCounts]:
    """The words of passages; takes processor time, so call it outside a transaction."""
    return [count_words(one, dataset_id) for one in texts]


def write(
    session: Session,
    owner: dict[str, UUID | int],
    ids: Sequence[UUID],
    counts: Sequence[WordCounts],
) -> None:
    """Upsert the words of segments in one statement of the caller's transaction.

    Args:
        session: the caller's.
        owner: ``dataset_id``, ``document_id`` and ``version``.
        ids: the segments'.
        counts: one a segment; those without a word get no row.
    """
    write_several(session, [(owner, ids, counts)])


def write_several(
    session: Session,
    written: Sequence[tuple[dict[str, UUID | int], Sequence[UUID], Sequence[WordCounts]]],
) -> None:
    """Upsert the words of segments of several documents of a dataset, in one statement.

    Args:
        session: the caller's.
        written: of each document what ``write`` takes.
    """
    rows = [
        (owner, pair)
        for owner, ids, counts in written
        for pair in zip(ids, counts, strict=True)
        if pair[1].length
    ]
    if rows:
        values = _columns([pair for _, pair in rows])
        values["document_ids"] = [str(owner["document_id"]) for owner, _ in rows]
        values["versions"] = [owner["version"] for owner, _ in rows]
        session.execute(_UPSERT, {"dataset_id": rows[0][0]["dataset_id"], **values})


def copy_several(
    session: Session,
    written: Sequence[tuple[dict[str, UUID | int], Sequence[UUID], Sequence[WordCounts]]],
) -> None:
    """As ``write_several``, of segments that have no words yet.

    Raises:
        IntegrityError: one has; the transaction is over.
    """
    rows = [row for one in written for row in _copied(*one)]
    if rows:
        binary_copy.copy(session, _COPY, rows)


def _copied(
    owner: dict[str, UUID | int], ids: Sequence[UUID], counts: Sequence[WordCounts]
) -> Iterator[bytes]:
    names = ("dataset_id", "document_id", "version")
    values = [binary_copy.number_or_id(owner[name]) for name in names]
    for segment_id, words in zip(ids, counts, strict=True):
        if words.length:
            yield binary_copy.row(
                binary_copy.uuid(segment_id),
                *values,
                binary_copy.int8_array(words.numbers),
                binary_copy.int2_array(words.frequencies),
                binary_copy.int4(words.length),
            )


def carry(
    session: Session, owner: dict[str, UUID | int], sources: Mapping[UUID, tuple[UUID, int]]
) -> int:
    """Upsert the words of segments that have another's content; as ``write``, none is sent.

    Args:
        session: the caller's.
        owner: ``dataset_id``, ``document_id`` and ``version``.
        sources: the other segment and its number of words, by the new one.

    Returns:
        How many of them still have these words.
    """
    values = {
        **owner,
        "ids": [str(one) for one in sources],
        "sources": [str(source) for source, _ in sources.values()],
        "lengths": [length for _, length in sources.values()],
    }
    carried: Any = session.connection().execute(_CARRY, values)
    return int(carried.rowcount)


def delete_other_versions(session: Session, document_id: UUID, keep: int | None) -> None:
    """Delete the document's keywords of every version but ``keep``."""
    session.execute(_DELETE, {"document_id": document_id, "keep": keep})


def _columns(filled: Sequence[tuple[UUID, WordCounts]]) -> dict[str, Any]:
    return {
        "ids": [str(segment_id) for segment_id, _ in filled],
        "words": [_literal(one.numbers) for _, one in filled],
        "frequencies": [_literal(one.frequencies) for _, one in filled],
        "lengths": [one.length for _, one in filled],
    }


def _literal(numbers: Sequence[int]) -> str:
    return "{" + ",".join(map(str, numbers)) + "}"
