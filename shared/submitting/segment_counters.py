"""What documents count of their segments, kept right in the transaction that changes one."""

from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session

from shared.models.document_status import IN_PROGRESS

_ADD = text("""
    UPDATE documents
    SET changed_at = statement_timestamp(),
        -- A re-index is to make it as its file is; by which code it was made stays true.
        fingerprint = left(fingerprint, 16),
        word_count = greatest(word_count + :words, 0),
        tokens = greatest(tokens + :tokens, 0),
        -- NULL stays NULL: the active version is without keywords.
        keyword_segments = greatest(keyword_segments + :keyword_segments, 0),
        keyword_words = greatest(keyword_words + :keyword_words, 0),
        -- While a new version is made these are its progress.
        total_segments = CASE WHEN indexing_status = ANY(:in_progress) THEN total_segments
                              ELSE greatest(total_segments + :total, 0) END,
        completed_segments = CASE WHEN indexing_status = ANY(:in_progress) THEN completed_segments
                                  ELSE greatest(completed_segments + :completed, 0) END
    WHERE id = :document_id
""")


@dataclass(frozen=True, slots=True)
class Difference:
    """By how much a document's counters change; the names are the columns'."""

    total: int = 0
    completed: int = 0
    words: int = 0
    tokens: int = 0
    keyword_segments: int = 0
    keyword_words: int = 0


def add_to_counters(session: Session, document_id: UUID, difference: Difference) -> None:
    """Change a document's counters, whose row the caller's transaction has locked.

    Whoever changes segments calls it: from then on they are not what the file says, and the
    next re-index does not end early.
    """
    session.execute(
        _ADD,
        {
            "document_id": document_id,
            "in_progress": [status.value for status in IN_PROGRESS],
            "total": difference.total,
            "completed": difference.completed,
            "words": difference.words,
            "tokens": difference.tokens,
            "keyword_segments": difference.keyword_segments,
            "keyword_words": difference.keyword_words,
        },
    )
