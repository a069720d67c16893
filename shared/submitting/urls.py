"""URLs are submitted, and looked at again: the rows and the messages, in one transaction."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import urldefrag, urlsplit
from uuid import UUID, uuid4

from celery import Celery
from redis import Redis
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from shared.errors import InvalidRequest, NotFound, UnusableUrl
from shared.models import Dataset, Document, DocumentStatus, UrlSource
from shared.queueing import guard
from shared.submitting.announcing import announce_sources
from shared.submitting.dataset import source_key
from shared.submitting.files import storable
from shared.submitting.ids import AnyId, checked_id, checked_ids

_URL_CHARACTERS = 4096
_NAME_CHARACTERS = 512
_REST = {DocumentStatus.COMPLETED, DocumentStatus.ERROR}


class UrlOutcome(StrEnum):
    """What became of a URL that was submitted or is to be looked at again."""

    NEW = "new"  #: the dataset's first document of it: will be fetched and indexed
    CHECK = "check"  #: will be fetched; indexed if its content changed
    IN_PROGRESS = "in_progress"  #: being fetched or indexed already: ask again later
    PAUSED = "paused"  #: held by a person: resume it


@dataclass(frozen=True, slots=True)
class UrlSubmission:
    """One URL's answer."""

    document_id: UUID
    url: str
    outcome: UrlOutcome

    @property
    def will_be_fetched(self) -> bool:
        """Whether there is work to announce."""
        return self.outcome in {UrlOutcome.NEW, UrlOutcome.CHECK}


def submit_urls(
    session: Session,
    redis: "Redis",
    dataset_id: AnyId,
    urls: Sequence[str],
    guard_seconds: int = 600,
    *,
    celery: Celery | None = None,
) -> list[UrlSubmission]:
    """Accept URLs as documents, in the caller's transaction; known ones are looked at again.

    A worker fetches them; see ``sync_documents``. Queries do not grow with the number.

    Args:
        session: the caller's transaction.
        redis: for the guards.
        dataset_id: where they belong.
        urls: http or https; what follows a ``#`` is left out, one named twice counts once.
        guard_seconds: life of the guards.
        celery: publishes right after the commit; without it a worker's relay does.

    Returns:
        One answer a URL, in the order of first appearance.

    Raises:
        UnusableUrl: one is nothing that can be fetched; none is accepted then.
        NotFound: there is no such dataset.
    """
    wanted = {source_key(url): url for url in map(checked_url, urls)}
    dataset = _locked(session, dataset_id)
    query = select(Document).where(
        Document.dataset_id == dataset.id, Document.source_key.in_(list(wanted))
    )
    known = {one.source_key: one for one in session.scalars(query.with_for_update())}
    _require_urls(known.values())
    position = session.scalar(
        select(func.max(Document.position)).where(Document.dataset_id == dataset.id)
    )
    new = [key for key in wanted if key not in known]
    for place, key in enumerate(new, start=(position or 0) + 1):
        known[key] = _new(dataset, key, wanted[key], place)
    session.add_all(known[key] for key in new)
    session.flush()
    session.add_all(UrlSource(document_id=known[key].id, url=wanted[key]) for key in new)
    documents = [(known[key], url, key in new) for key, url in wanted.items()]
    return _announced(session, redis, dataset, documents, guard_seconds, celery)


def sync_documents(
    session: Session,
    redis: "Redis",
    dataset_id: AnyId,
    document_ids: Sequence[AnyId],
    guard_seconds: int = 600,
    *,
    celery: Celery | None = None,
) -> list[UrlSubmission]:
    """Let documents of URLs be looked at again, in the caller's transaction.

    What is unchanged costs one conditional request. What changed becomes a new
    version; the old one serves meanwhile, and goes on if the URL is gone.

    Args:
        session: the caller's transaction.
        redis: for the guards.
        dataset_id: where they belong.
        document_ids: which documents.
        guard_seconds: life of the guards.
        celery: publishes right after the commit; without it a worker's relay does.

    Returns:
        One answer a document, in the order of first appearance.

    Raises:
        NotFound: there is no such dataset, or one of the documents is not in it.
        InvalidRequest: one of them does not come from a URL, or an id is none.
    """
    dataset = _locked(session, dataset_id)
    wanted = checked_ids("document_ids", document_ids)
    query = (
        select(Document, UrlSource.url)
        .outerjoin(UrlSource, UrlSource.document_id == Document.id)
        .where(Document.dataset_id == dataset.id, Document.id.in_(wanted))
    )
    found = {row.Document.id: row for row in session.execute(query.with_for_update(of=Document))}
    missing = [str(one) for one in wanted if one not in found]
    if missing:
        raise NotFound(f"dataset {dataset_id} has no document {', '.join(missing)}")
    _require_urls(row.Document for row in found.values())
    documents = [(found[one].Document, str(found[one].url), False) for one in wanted]
    return _announced(session, redis, dataset, documents, guard_seconds, celery)


def checked_url(url: str) -> str:
    """The URL without what follows a ``#``.

    Raises:
        UnusableUrl: it is nothing that can be fetched.
    """
    if not isinstance(url, str):
        raise UnusableUrl(f"a URL is text, not {type(url).__name__}")
    url = url.strip()
    shown = storable(url)[:200]
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise UnusableUrl(f"{shown!r} is not a URL: {error}") from None
    if parts.username is not None or parts.password is not None:
        raise UnusableUrl(
            f"the URL of {host} carries credentials, which would be stored and shown: "
            "leave them out"
        )
    if parts.scheme.lower() not in {"http", "https"} or not host or port == 0:
        raise UnusableUrl(f"{shown!r} cannot be fetched: write http:// or https:// and a host")
    if len(url) > _URL_CHARACTERS or storable(url) != url or any(one <= " " for one in url):
        raise UnusableUrl(
            f"{shown!r} is too long, or has white space or control characters in it: "
            f"percent-encode them, and stay under {_URL_CHARACTERS} characters"
        )
    return urldefrag(url).url


def _locked(session: Session, dataset_id: AnyId) -> Dataset:
    # The lock orders submissions to one dataset: positions have no races.
    wanted = checked_id("dataset_id", dataset_id)
    query = select(Dataset).where(Dataset.id == wanted).with_for_update(key_share=True)
    dataset = session.scalars(query).one_or_none()
    if dataset is None:
        raise NotFound(f"there is no dataset {dataset_id}")
    return dataset


def _require_urls(documents: Iterable[Document]) -> None:
    others = [str(one.id) for one in documents if one.data_source != "url"]
    if others:
        raise InvalidRequest(
            f"no documents of a URL: {', '.join(others)}; submit their file again instead"
        )


def _new(dataset: Dataset, key: str, url: str, position: int) -> Document:
    return Document(
        id=uuid4(),
        tenant_id=dataset.tenant_id,
        dataset_id=dataset.id,
        position=position,
        name=url[:_NAME_CHARACTERS],
        data_source="url",
        source_key=key,
        doc_form=dataset.doc_form,
        index_version=1,
        indexing_status=DocumentStatus.WAITING,
    )


def _announced(
    session: Session,
    redis: "Redis",
    dataset: Dataset,
    documents: Sequence[tuple[Document, str, bool]],
    guard_seconds: int,
    celery: Celery | None,
) -> list[UrlSubmission]:
    outcomes = {one.id: _outcome(one, is_new=is_new) for one, _, is_new in documents}
    free = guard.acquire(
        redis,
        [
            (one.id, one.index_version)
            for one, _, _ in documents
            if outcomes[one.id] in {UrlOutcome.NEW, UrlOutcome.CHECK}
        ],
        guard_seconds,
    )
    submissions = []
    for one, url, _ in documents:
        outcome = outcomes[one.id]
        if outcome is UrlOutcome.CHECK and one.id not in free:
            outcome = UrlOutcome.IN_PROGRESS
        submissions.append(UrlSubmission(one.id, url, outcome))
    announce_sources(
        session,
        dataset.id,
        [one.document_id for one in submissions if one.will_be_fetched],
        celery=celery,
        tenant_id=dataset.tenant_id,
    )
    return submissions


def _outcome(document: Document, *, is_new: bool) -> UrlOutcome:
    if is_new:
        return UrlOutcome.NEW
    if document.is_paused:
        return UrlOutcome.PAUSED
    never_fetched = document.upload_file_id is None
    if document.indexing_status in _REST or never_fetched:
        return UrlOutcome.CHECK
    return UrlOutcome.IN_PROGRESS
