"""What must hold in the end, as named queries; each returns ``(key, what is wrong)``.

The clients' view is loaded into temporary tables first: ``expected_documents``,
``expected_segments`` and ``deleted_documents``.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import Connection, text

from tests.chaos.documents import BAD, DocumentSpec, expected_hashes


class Kind(StrEnum):
    """What a violation means to a user."""

    LOST = "lost"  #: accepted, and not there, or not whole
    FAILED = "failed"  #: ended as an error that is no fault of the document
    DOUBLED = "doubled"  #: there more often than once, or there without its document
    STUCK = "stuck"  #: half-way, and nobody works on it
    WRONG = "wrong"  #: there, and not as it should be


@dataclass(frozen=True, slots=True)
class Check:
    """A named query for violations."""

    kind: Kind
    name: str
    sql: str


@dataclass(frozen=True, slots=True)
class Violation:
    """Something that must not be."""

    kind: Kind
    key: str
    message: str


_EXPECTED = """
    CREATE TEMPORARY TABLE expected_documents (
        key text PRIMARY KEY, is_good boolean, reason text, segments integer
    ) ON COMMIT DROP;
    CREATE TEMPORARY TABLE expected_segments (
        key text, position integer, hash text, PRIMARY KEY (key, position)
    ) ON COMMIT DROP;
    CREATE TEMPORARY TABLE deleted_documents (key text, id text PRIMARY KEY) ON COMMIT DROP;
"""


def run_checks(connection: Connection, checks: Sequence[Check]) -> Iterator[Violation]:
    """Run checks; those about expectations need them loaded in the same transaction."""
    for check in checks:
        for key, found in connection.execute(text(check.sql)):
            yield Violation(check.kind, str(key), f"{check.name}: {found}")


def load_expectations(
    connection: Connection, accepted: Mapping[str, DocumentSpec], deleted: Mapping[str, str]
) -> None:
    """Load what clients were promised, for the transaction at hand."""
    connection.exec_driver_sql(_EXPECTED)
    documents = [
        {
            "key": key,
            "is_good": spec.is_good,
            "reason": BAD.get(spec.kind, ""),
            "segments": len(expected_hashes(spec)),
        }
        for key, spec in accepted.items()
    ]
    _insert(connection, "expected_documents (key, is_good, reason, segments)", documents)
    for key, spec in accepted.items():
        connection.execute(
            text("""
                INSERT INTO expected_segments (key, position, hash)
                SELECT :key, position - 1, hash
                FROM unnest(CAST(:hashes AS text[])) WITH ORDINALITY AS given(hash, position)
            """),
            {"key": key, "hashes": list(expected_hashes(spec))},
        )
    gone = [{"key": key, "id": found} for key, found in deleted.items()]
    _insert(connection, "deleted_documents (key, id)", gone)


def _insert(connection: Connection, target: str, rows: Sequence[Mapping[str, object]]) -> None:
    columns = target.partition("(")[2].rstrip(")")
    values = ", ".join(f":{column.strip()}" for column in columns.split(","))
    if rows:
        connection.execute(text(f"INSERT INTO {target} VALUES ({values})"), list(rows))


#: rag-worker's.
PRODUCT_CHECKS = (
    Check(
        Kind.LOST,
        "accepted, and there is no such document",
        """
        SELECT key, 'no row' FROM expected_documents
        WHERE key NOT IN (SELECT source_key FROM documents)
        """,
    ),
    Check(
        Kind.STUCK,
        "neither completed nor error",
        """
        SELECT source_key, indexing_status || ', attempts ' || attempts || ', deaths ' || deaths
               || ', ' || coalesce(error, 'no error') FROM documents
        WHERE indexing_status NOT IN ('completed', 'error')
        """,
    ),
    Check(
        Kind.FAILED,
        "can be read, and ended as error",
        """
        SELECT key, coalesce(error, 'without a reason') FROM expected_documents
        JOIN documents ON source_key = key
        WHERE is_good AND indexing_status = 'error'
        """,
    ),
    Check(
        Kind.WRONG,
        "cannot be read, and does not say so",
        """
        SELECT key, indexing_status || ': ' || coalesce(error, 'without a reason')
        FROM expected_documents JOIN documents ON source_key = key
        WHERE NOT is_good
          AND (indexing_status = 'completed'
               OR indexing_status = 'error' AND position(reason IN coalesce(error, '')) = 0)
        """,
    ),
    Check(
        Kind.LOST,
        "completed, and segments are missing",
        """
        SELECT key, count(*) || ' of ' || min(wanted.segments) FROM (
            SELECT wanted.key, wanted.segments, documents.id, documents.active_version
            FROM expected_documents AS wanted JOIN documents ON source_key = wanted.key
            WHERE indexing_status = 'completed'
        ) AS wanted
        JOIN expected_segments USING (key)
        LEFT JOIN document_segments AS found
          ON found.document_id = wanted.id AND found.version = wanted.active_version
         AND found.position = expected_segments.position AND found.index_node_hash = hash
        WHERE found.id IS NULL GROUP BY key
        """,
    ),
    Check(
        Kind.DOUBLED,
        "segments nobody expected",
        """
        SELECT documents.source_key, count(*) || ' of version ' || min(found.version) || ', active '
               || coalesce(min(active_version)::text, 'none')
        FROM document_segments AS found JOIN documents ON documents.id = found.document_id
        LEFT JOIN expected_segments AS wanted
          ON wanted.key = source_key AND wanted.position = found.position
         AND wanted.hash = found.index_node_hash AND found.version = active_version
        WHERE wanted.key IS NULL GROUP BY documents.source_key
        """,
    ),
    Check(
        Kind.LOST,
        "segments without a vector",
        """
        SELECT document_id, count(*) FROM document_segments AS segment
        WHERE NOT EXISTS (
            SELECT 1 FROM segment_vectors AS vector
            WHERE vector.id = segment.id AND vector.document_id = segment.document_id
              AND vector.version = segment.version AND vector.dataset_id = segment.dataset_id
        ) GROUP BY document_id
        """,
    ),
    Check(
        Kind.DOUBLED,
        "vectors without a segment",
        """
        SELECT document_id, count(*) FROM segment_vectors AS vector
        WHERE NOT EXISTS (SELECT 1 FROM document_segments WHERE id = vector.id)
        GROUP BY document_id
        """,
    ),
    Check(
        Kind.LOST,
        "documents whose words are not those of their segments",
        """
        SELECT source_key, 'keywords of ' || count(words.segment_id) || ' segments, not of '
               || coalesce(keyword_segments::text, 'any')
        FROM documents LEFT JOIN segment_keywords AS words
          ON document_id = documents.id AND version = active_version
         AND EXISTS (SELECT 1 FROM document_segments WHERE id = words.segment_id)
        WHERE active_version IS NOT NULL
        GROUP BY documents.id HAVING count(words.segment_id) <> coalesce(keyword_segments, 0)
        """,
    ),
    Check(
        Kind.DOUBLED,
        "words without a segment",
        """
        SELECT document_id, count(*) FROM segment_keywords AS words
        WHERE NOT EXISTS (SELECT 1 FROM document_segments WHERE id = words.segment_id)
        GROUP BY document_id
        """,
    ),
    Check(
        Kind.WRONG,
        "counters differ from what is there",
        """
        SELECT source_key, 'total ' || total_segments || ', completed ' || completed_segments
               || ', segments ' || count(segment.id) || ', versions ' || index_version || '/'
               || coalesce(active_version::text, 'none')
        FROM documents LEFT JOIN document_segments AS segment ON document_id = documents.id
        WHERE indexing_status IN ('completed', 'error')
        GROUP BY documents.id
        HAVING total_segments <> count(segment.id) OR completed_segments <> count(segment.id)
            OR (indexing_status = 'completed' AND index_version IS DISTINCT FROM active_version)
        """,
    ),
    Check(
        Kind.STUCK,
        "a lease is held",
        """
        SELECT source_key, 'document, by ' || coalesce(lease_owner, '?') FROM documents
        WHERE lease_expires_at IS NOT NULL
        UNION ALL
        SELECT args::text, 'message, by ' || coalesce(lease_owner, '?') FROM outbox
        WHERE lease_expires_at IS NOT NULL
        """,
    ),
    Check(
        Kind.STUCK,
        "a message is left in the outbox",
        """
        SELECT args::text, task || ', attempts ' || attempts || ', due in '
               || round(extract(epoch FROM available_at - now())) || ' s, published '
               || coalesce(round(extract(epoch FROM now() - published_at)) || ' s ago', 'not')
               || ', ' || coalesce(error, 'no error')
        FROM outbox WHERE queue = 'dataset'
        """,
    ),
    Check(
        Kind.STUCK,
        "deleted, and not cleaned up",
        """
        SELECT coalesce(document_id::text, storage_key), kind FROM removals
        WHERE due_at <= now()
        """,
    ),
    Check(
        Kind.WRONG,
        "a dead letter was written",
        "SELECT args::text, exception || ': ' || reason FROM dead_letters WHERE queue = 'dataset'",
    ),
    Check(
        Kind.WRONG,
        "deleted, and not gone from every table",
        """
        SELECT key, 'documents' FROM deleted_documents AS gone
        JOIN documents ON documents.id::text = gone.id
        UNION ALL
        SELECT DISTINCT key, 'document_segments' FROM deleted_documents AS gone
        JOIN document_segments ON document_id::text = gone.id
        UNION ALL
        SELECT DISTINCT key, 'segment_vectors' FROM deleted_documents AS gone
        JOIN segment_vectors ON document_id::text = gone.id
        UNION ALL
        SELECT key, 'outbox' FROM deleted_documents AS gone
        JOIN outbox ON position(gone.id IN args::text) > 0
        """,
    ),
)

#: The baseline's.
BASELINE_CHECKS = (
    Check(
        Kind.LOST,
        "accepted, and nobody will ever begin it",
        """
        SELECT key, coalesce(status, 'no row') FROM expected_documents
        LEFT JOIN documents ON source_key = key
        WHERE status IS NULL OR status = 'waiting'
        """,
    ),
    Check(
        Kind.STUCK,
        "begun, and nobody will ever finish it",
        "SELECT source_key, status FROM documents WHERE status IN ('parsing', 'indexing')",
    ),
    Check(
        Kind.FAILED,
        "can be read, and ended as error",
        """
        SELECT key, error FROM expected_documents JOIN documents ON source_key = key
        WHERE is_good AND status = 'error'
        """,
    ),
    Check(
        Kind.LOST,
        "completed, and segments are missing",
        """
        SELECT key, count(*) FROM expected_segments AS wanted
        JOIN documents ON source_key = key
        WHERE status = 'completed' AND NOT EXISTS (
            SELECT 1 FROM segments
            WHERE document_id = documents.id AND segments.position = wanted.position
              AND content_hash = hash
        ) GROUP BY key
        """,
    ),
    Check(
        Kind.DOUBLED,
        "segments that are there twice, or of another content",
        """
        SELECT source_key, count(*) - count(DISTINCT wanted.position)
        FROM documents JOIN segments ON document_id = documents.id
        LEFT JOIN expected_segments AS wanted
          ON key = source_key AND wanted.position = segments.position AND hash = content_hash
        WHERE status = 'completed'
        GROUP BY source_key HAVING count(*) > count(DISTINCT wanted.position)
        """,
    ),
)
