"""Documents are submitted: the row and the message about it, in one transaction.

A producer without Flask needs an SQLAlchemy session and a Redis client; nothing
of the worker is imported.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from uuid import UUID, uuid4

from celery import Celery
from redis import Redis
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from shared.errors import DocumentIndexingInProgress, InvalidRequest, NotFound
from shared.models import Dataset, Document, DocumentStatus, UploadFile
from shared.queueing import guard
from shared.submitting.announcing import announce
from shared.submitting.datasets import ensure_dataset, ensure_tenant
from shared.submitting.files import StoredFile, storable, upload_files
from shared.submitting.ids import AnyId, checked_id
from shared.submitting.new_documents import FIRST_VERSION, NewDocument, insert_documents
from shared.submitting.process_rules import AnyRule, keep_rule
from shared.submitting.submissions import Outcome, Submission

__all__ = [
    "Outcome",
    "Submission",
    "ensure_dataset",
    "ensure_tenant",
    "source_key",
    "submit_document",
    "submit_documents",
]

#: What an index of PostgreSQL takes beside the dataset, and the column in characters.
_SOURCE_KEY_BYTES = 1024


def submit_document(
    session: Session,
    redis: "Redis",
    dataset_id: AnyId,
    key: str,
    file: StoredFile,
    guard_seconds: int = 600,
    *,
    celery: Celery | None = None,
    rule: AnyRule | None = None,
) -> Submission:
    """Submit one document; see ``submit_documents``.

    Raises:
        DocumentIndexingInProgress: an earlier version is being indexed.
        InvalidRequest: the rule says something wrong or does not go with the dataset's form,
            the file is another tenant's, the document comes from a URL, or the id is none.
        NotFound: there is no such dataset.
    """
    (submission,) = submit_documents(
        session, redis, dataset_id, [(key, file)], guard_seconds, celery=celery, rule=rule
    )
    if submission.outcome is Outcome.IN_PROGRESS:
        raise DocumentIndexingInProgress(
            f"{submission.name} is being indexed: wait for it to finish, then submit it again"
        )
    return submission


def submit_documents(
    session: Session,
    redis: "Redis",
    dataset_id: AnyId,
    files: Sequence[tuple[str, StoredFile]],
    guard_seconds: int = 600,
    *,
    celery: Celery | None = None,
    rule: AnyRule | None = None,
) -> list[Submission]:
    """Accept documents: their rows and the messages about them, in the caller's transaction.

    Once it is committed they will be indexed, whatever dies; nothing more is to be done.

    Submitting the same content again does nothing; changed content becomes a
    new version of the same document. Queries do not grow with the number of files.
    Of several files with one key the last counts.

    Args:
        session: the caller's transaction.
        redis: for the guards.
        dataset_id: where they belong.
        files: pairs of source key (what makes a second submission the same
            document: a path, a URL, your own id) and stored file.
        guard_seconds: life of the guards.
        celery: publishes right after the commit; without it a worker's relay does.
        rule: how these documents are cleaned and split from now on, another one than theirs
            makes a new version; unset, each keeps its own, or follows its dataset's.

    Returns:
        One answer a key, in the order of the keys' first appearance.

    Raises:
        InvalidRequest: the rule says something wrong or does not go with the dataset's form,
            the file is another tenant's, the document comes from a URL, or the id is none.
        NotFound: there is no such dataset.
    """
    wanted = {source_key(key): file for key, file in files}
    dataset_id = checked_id("dataset_id", dataset_id)
    dataset = _locked(session, dataset_id)
    rule_id = None if rule is None else keep_rule(session, dataset_id, rule)
    uploads = upload_files(session, dataset.tenant_id, list(wanted.values()))
    stored = _stored(session, dataset_id, list(wanted))
    require_no_url(row.document for row in stored.values())
    outcomes = {key: _outcome(stored.get(key), file, rule_id) for key, file in wanted.items()}
    documents = {key: row.document for key, row in stored.items()}
    keys = [key for key, outcome in outcomes.items() if outcome is Outcome.NEW]
    first = _last_position(session, dataset_id) + 1
    new = {
        key: NewDocument(uuid4(), position, file.name, key, uploads[file.sha256, file.name])
        for position, (key, file) in enumerate(((key, wanted[key]) for key in keys), first)
    }
    outcomes |= _refused_by_guards(redis, documents, new, outcomes, guard_seconds)
    for key, document in documents.items():
        file = wanted[key]
        if outcomes[key] is Outcome.CHANGED:
            _start_version(document)
            document.upload_file_id = uploads[file.sha256, file.name]
            document.name = file.name
            document.process_rule_id = rule_id or document.process_rule_id
        elif outcomes[key] is Outcome.AGAIN:
            _start_again(document)
    submissions = [
        _submission(documents.get(key) or new[key], wanted[key], outcome)
        for key, outcome in outcomes.items()
    ]
    messages = announce(
        session,
        dataset_id,
        [(one.document_id, one.size_bytes) for one in submissions if one.will_be_indexed],
        celery=celery,
        tenant_id=dataset.tenant_id,
        unwritten={one.id for one in new.values()},
    )
    insert_documents(session, dataset, list(new.values()), messages, rule_id)
    return submissions


def _submission(document: Document | NewDocument, file: StoredFile, outcome: Outcome) -> Submission:
    version = document.index_version if isinstance(document, Document) else FIRST_VERSION
    return Submission(document.id, file.name, version, outcome, file.size_bytes)


def require_no_url(documents: Iterable[Document]) -> None:
    """Check that documents may be given a file.

    Raises:
        InvalidRequest: one comes from a URL: its next sync would take the file for the URL's.
    """
    for one in documents:
        if one.data_source == "url":
            raise InvalidRequest(
                f"document {one.id} comes from a URL and takes no file: "
                "sync it, or submit the file under a key of its own"
            )


def source_key(key: str) -> str:
    """The key as it is stored: one that PostgreSQL or its index cannot take, by its hash.

    Raises:
        InvalidRequest: it is no text.
    """
    if not isinstance(key, str):
        raise InvalidRequest(f"a source key is text, not {type(key).__name__}")
    raw = key.encode("utf-8", "surrogatepass")
    if len(raw) <= _SOURCE_KEY_BYTES and storable(key) == key:
        return key
    return "sha256:" + hashlib.sha256(raw).hexdigest()


@dataclass(frozen=True, slots=True)
class _Stored:
    document: Document
    sha256: str | None


def _locked(session: Session, dataset_id: UUID) -> Dataset:
    # The lock orders submissions to one dataset: positions and versions have no races.
    query = select(Dataset).where(Dataset.id == dataset_id).with_for_update(key_share=True)
    dataset = session.scalars(query).one_or_none()
    if dataset is None:
        raise NotFound(f"there is no dataset {dataset_id}")
    return dataset


def _stored(session: Session, dataset_id: UUID, keys: Sequence[str]) -> dict[str, _Stored]:
    rows = session.execute(
        select(Document, UploadFile.sha256)
        .outerjoin(UploadFile, UploadFile.id == Document.upload_file_id)
        .where(Document.dataset_id == dataset_id, Document.source_key.in_(keys))
        .with_for_update(of=Document)
        .execution_options(populate_existing=True)
    )
    return {row.Document.source_key: _Stored(row.Document, row.sha256) for row in rows}


def _outcome(stored: _Stored | None, file: StoredFile, rule_id: UUID | None) -> Outcome:
    if stored is None:
        return Outcome.NEW
    if rule_id not in {None, stored.document.process_rule_id}:
        return Outcome.CHANGED
    if stored.sha256 != file.sha256 or stored.document.name != file.name:
        return Outcome.CHANGED
    if stored.document.indexing_status == DocumentStatus.COMPLETED:
        return Outcome.UNCHANGED
    if stored.document.is_paused or stored.document.indexing_status == DocumentStatus.PAUSED:
        return Outcome.PAUSED
    return Outcome.AGAIN


def _refused_by_guards(
    redis: "Redis",
    documents: dict[str, Document],
    new: dict[str, NewDocument],
    outcomes: dict[str, Outcome],
    guard_seconds: int,
) -> dict[str, Outcome]:
    versions = [(one.id, FIRST_VERSION) for one in new.values()]
    versions += [
        (one.id, one.index_version + (outcomes[key] is Outcome.CHANGED))
        for key, one in documents.items()
        if outcomes[key] not in {Outcome.UNCHANGED, Outcome.PAUSED}
    ]
    free = guard.acquire(redis, versions, guard_seconds)
    return {
        key: Outcome.IN_PROGRESS
        for key, outcome in outcomes.items()
        if outcome is Outcome.CHANGED and documents[key].id not in free
    }


def _last_position(session: Session, dataset_id: UUID) -> int:
    query = select(func.max(Document.position)).where(Document.dataset_id == dataset_id)
    return session.scalar(query) or 0


def _start_version(document: Document) -> None:
    document.index_version += 1
    # A worker that still has the version before loses its lease, and writes nothing more.
    document.lease_token += 1
    document.lease_expires_at = None
    document.lease_owner = None
    _to_waiting(document)


def _start_again(document: Document) -> None:
    # One that waits, or that a worker has, is only announced again: the claim decides.
    if document.indexing_status == DocumentStatus.ERROR:
        _to_waiting(document)


def _to_waiting(document: Document) -> None:
    document.indexing_status = DocumentStatus.WAITING
    document.attempts = 0
    document.deaths = 0
    document.error = None
    document.is_paused = False
    document.stopped_at = None
