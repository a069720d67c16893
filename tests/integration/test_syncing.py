"""The sync of URLs: unchanged costs nothing, changed is a new version, gone keeps serving."""

import gzip
from io import BytesIO
from uuid import UUID, uuid4

import pytest
from flask import Flask
from sqlalchemy import Row, delete, func, select, text, update
from sqlalchemy.orm import Session

from shared.contract import DOCUMENT_INDEXING, DOCUMENT_SYNC
from shared.errors import (
    AttemptsExhausted,
    InvalidRequest,
    LeaseHeld,
    LeaseLost,
    LimitExceeded,
    NotFound,
    ServiceUnavailable,
    SourceGone,
    SubjectGone,
    UnusableUrl,
)
from shared.models import Document, DocumentSegment, DocumentStatus, UrlSource, db
from shared.queueing import guard
from shared.submitting.control import pause_documents, resume_documents
from shared.submitting.dataset import submit_document
from shared.submitting.files import store_file
from shared.submitting.reindexing import update_document
from shared.submitting.urls import UrlOutcome, submit_urls, sync_documents
from tests.fixtures.application import Submit
from tests.fixtures.outbox_rows import Outbox, statements
from tests.fixtures.web_server import WebServer
from worker.services.dataset.indexing import index_document
from worker.services.dataset.sweeping import sweep_documents
from worker.services.dataset.syncing import Synced, sync_document
from worker.tasks.dataset import document_indexing_sync_task
from worker.wiring import indexing_needs, sync_needs

S = DocumentStatus
EXPIRE = text("UPDATE documents SET lease_expires_at = now() - interval '1 second'")
ROW = text("""
    SELECT indexing_status, index_version, active_version, attempts, deaths, error,
           lease_expires_at, name, total_segments
    FROM documents WHERE id = :id
""")


@pytest.fixture(autouse=True)
def _intranet(web: WebServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FETCH_ALLOWED_NETWORKS", "127.0.0.1/32")
    monkeypatch.setenv("FETCH_ALLOWED_PORTS", str(web.port))
    monkeypatch.setenv("FETCH_MAX_BYTES", "100000")


class Site:
    """A page, its document, and the steps between them."""

    def __init__(self, app: Flask, web: WebServer, session: Session, dataset_id: UUID) -> None:
        self.app, self.web, self.session, self.dataset_id = app, web, session, dataset_id
        self.redis = app.extensions["redis"]
        self.document_id = uuid4()

    def page(self, content: str, etag: str | None = None, **more: object) -> str:
        headers = {"ETag": etag} if etag else {}
        return self.web.page("/guide", content.encode(), **headers, **more)  # type: ignore[arg-type]

    def submit(self, url: str) -> UrlOutcome:
        (one,) = submit_urls(self.session, self.redis, self.dataset_id, [url])
        self.session.commit()
        self.document_id = one.document_id
        return one.outcome

    def ask(self) -> UrlOutcome:
        (one,) = sync_documents(self.session, self.redis, self.dataset_id, [self.document_id])
        self.session.commit()
        return one.outcome

    def sync(self) -> Synced:
        return sync_document(self.document_id, self.dataset_id, sync_needs())

    def index(self) -> None:
        index_document(self.document_id, self.dataset_id, indexing_needs())

    def row(self) -> Row:
        self.session.rollback()
        return self.session.execute(ROW, {"id": self.document_id}).one()

    def source(self) -> UrlSource:
        self.session.rollback()
        return self.session.get_one(UrlSource, self.document_id, populate_existing=True)

    def served(self) -> list[str]:
        """What a search can find."""
        self.session.rollback()
        query = (
            select(DocumentSegment.content)
            .join(Document, Document.id == DocumentSegment.document_id)
            .where(DocumentSegment.version == Document.active_version)
        )
        return list(self.session.scalars(query))

    def indexed(self, content: str = "The oven is hot.", etag: str | None = '"1"') -> None:
        """Bring it to its first version."""
        self.submit(self.page(content, etag))
        assert self.sync() is Synced.CHANGED
        self.index()
        assert self.row().indexing_status == S.COMPLETED
        self.session.execute(text("DELETE FROM outbox"))
        self.session.commit()
        self.web.requests.clear()


@pytest.fixture
def site(app: Flask, web: WebServer, session: Session, dataset_id: UUID) -> Site:
    return Site(app, web, session, dataset_id)


def tasks(rows: Outbox) -> list[str]:
    return [row.task for row in rows.rows()]


def test_a_url_becomes_searchable(site: Site, rows: Outbox) -> None:
    url = site.page("<h1>Ovens</h1><p>The oven is hot.", '"1"', Content_Type="text/html")
    assert site.submit(url) is UrlOutcome.NEW
    assert tasks(rows) == [DOCUMENT_SYNC.name]
    assert rows.rows()[0].args == [str(site.dataset_id), str(site.document_id)]
    assert guard.held(site.redis, site.document_id)

    assert site.sync() is Synced.CHANGED
    row = site.row()
    assert (row.indexing_status, row.index_version, row.active_version) == (S.WAITING, 1, None)
    assert (row.name, row.attempts, row.lease_expires_at) == ("127.0.0.1/guide.html", 0, None)
    assert tasks(rows)[1:] == [DOCUMENT_INDEXING.name]
    assert guard.held(site.redis, site.document_id)

    site.index()
    assert site.row().active_version == 1
    assert "The oven is hot." in " ".join(site.served())
    source = site.source()
    assert (source.url, source.final_url, source.etag) == (url, url, '"1"')
    assert source.checked_at is not None
    assert not guard.held(site.redis, site.document_id)


@pytest.mark.parametrize("etag", ['"1"', None])
def test_unchanged_content_costs_nothing(site: Site, rows: Outbox, etag: str | None) -> None:
    site.indexed(etag=etag)
    before, checked = site.row(), site.source().checked_at
    assert site.ask() is UrlOutcome.CHECK

    with statements(db.engine) as sent:
        assert site.sync() is Synced.UNCHANGED

    assert site.row() == before
    assert site.source().checked_at > checked
    assert tasks(rows) == [DOCUMENT_SYNC.name]
    assert len(site.web.requests) == 1
    assert site.web.requests[0][1].get("If-None-Match") == etag
    assert not [one for one in sent if "INSERT" in one or "document_segments" in one]
    assert not guard.held(site.redis, site.document_id)


def test_changed_content_is_a_new_version_and_the_old_one_serves_until_it_stands(
    site: Site, rows: Outbox
) -> None:
    site.indexed()
    site.page("The fridge is cold.", '"2"')

    assert site.sync() is Synced.CHANGED
    row = site.row()
    assert (row.indexing_status, row.index_version, row.active_version) == (S.WAITING, 2, 1)
    assert site.served() == ["The oven is hot."]
    assert site.ask() is UrlOutcome.IN_PROGRESS
    assert site.sync() is Synced.NOTHING_TO_DO, "delivered twice"
    assert tasks(rows) == [DOCUMENT_INDEXING.name]

    site.index()
    assert site.row().active_version == 2
    assert site.served() == ["The fridge is cold."]
    assert site.sync() is Synced.UNCHANGED


@pytest.mark.parametrize("status", [404, 410])
def test_a_source_that_is_gone_says_so_and_its_content_goes_on_serving(
    site: Site, rows: Outbox, status: int
) -> None:
    site.indexed()
    site.page("", status=status)

    with pytest.raises(SourceGone):
        site.sync()

    row = site.row()
    assert (row.indexing_status, row.index_version, row.active_version) == (S.COMPLETED, 1, 1)
    assert str(status) in row.error
    assert site.web.url in row.error
    assert (row.attempts, row.lease_expires_at) == (0, None)
    assert site.served() == ["The oven is hot."]
    assert tasks(rows) == []
    site.page("The oven is hot.", '"1"')
    assert site.sync() is Synced.UNCHANGED
    assert site.row().error is None, "it is back"


def test_a_source_that_never_was_ends_as_error_and_can_be_tried_again(
    site: Site, rows: Outbox
) -> None:
    site.submit(site.page("", status=404))
    with pytest.raises(SourceGone):
        site.sync()
    row = site.row()
    assert (row.indexing_status, row.active_version) == (S.ERROR, None)
    assert "404" in row.error

    site.page("Now it is here.")
    assert site.submit(site.web.url + "/guide") is UrlOutcome.CHECK
    assert site.sync() is Synced.CHANGED
    site.index()
    assert site.served() == ["Now it is here."]
    assert site.row().index_version == 1


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_server_that_is_busy_is_asked_again(site: Site, status: int) -> None:
    site.indexed()
    site.page("", status=status, Retry_After="9")

    with pytest.raises(ServiceUnavailable) as busy:
        site.sync()

    assert busy.value.retry_after_seconds == 9
    row = site.row()
    assert (row.indexing_status, row.error, row.attempts) == (S.COMPLETED, None, 1)
    assert row.lease_expires_at is None
    for _ in range(4):
        with pytest.raises(ServiceUnavailable):
            site.sync()
    with pytest.raises(AttemptsExhausted):
        site.sync()
    assert "given up after 5 attempts" in site.row().error
    assert site.served() == ["The oven is hot."]


def test_a_bomb_leaves_the_old_version_and_no_file(site: Site, session: Session) -> None:
    site.indexed()
    bomb = gzip.compress(bytes(10 << 20))
    site.web.page("/guide", bomb, Content_Encoding="gzip")
    with pytest.raises(LimitExceeded):
        site.sync()
    assert "FETCH_MAX_BYTES" in site.row().error
    assert site.served() == ["The oven is hot."]
    assert session.scalar(text("SELECT count(*) FROM upload_files")) == 1


def test_nothing_is_fetched_in_a_transaction(site: Site) -> None:
    site.indexed()
    open_transactions: list[int] = []
    answer, engine = site.web.pages["/guide"], db.engine

    def look(request: object) -> None:
        with Session(engine) as session:
            query = text("""
                SELECT count(*) FROM pg_stat_activity
                WHERE datname = current_database() AND pid <> pg_backend_pid()
                  AND state LIKE 'idle in transaction%'
            """)
            open_transactions.append(session.scalar(query) or 0)
        answer(request)  # type: ignore[arg-type]

    site.session.rollback()
    site.web.pages["/guide"] = look
    site.sync()
    assert open_transactions == [0]


@pytest.mark.parametrize(
    ("meanwhile", "error"),
    [
        ("DELETE FROM documents", LeaseLost),
        ("UPDATE documents SET lease_token = lease_token + 1", LeaseLost),
    ],
)
@pytest.mark.parametrize("content", ["The oven is hot.", "Something else."])
def test_a_sync_that_lost_its_document_leaves_no_trace(
    site: Site, rows: Outbox, meanwhile: str, error: type[Exception], content: str
) -> None:
    site.indexed()
    site.page(content)
    answer = site.web.pages["/guide"]

    def answer_later(request: object) -> None:
        rows.change(meanwhile)
        answer(request)  # type: ignore[arg-type]

    site.web.pages["/guide"] = answer_later
    site.session.rollback()
    with pytest.raises(error):
        site.sync()

    found = site.session.execute(ROW, {"id": site.document_id}).one_or_none()
    assert found is None or (found.index_version, found.indexing_status) == (1, S.COMPLETED)
    assert tasks(rows) == []


def test_a_document_that_is_gone_paused_or_held_is_left_alone(site: Site, session: Session) -> None:
    site.submit(site.page("one"))
    pause_documents(session, [site.document_id])
    session.commit()
    assert site.sync() is Synced.NOTHING_TO_DO
    assert site.ask() is UrlOutcome.PAUSED
    assert site.web.requests == []

    resume_documents(session, [site.document_id])
    session.execute(update(Document).values(lease_expires_at=func.now() + text("interval '1 h'")))
    session.commit()
    with pytest.raises(LeaseHeld):
        site.sync()

    session.execute(delete(Document))
    session.commit()
    with pytest.raises(SubjectGone):
        site.sync()
    assert session.scalar(select(func.count()).select_from(UrlSource)) == 0


def test_a_resumed_and_a_swept_document_are_fetched_and_not_indexed_empty(
    site: Site, rows: Outbox, session: Session
) -> None:
    site.submit(site.page("one"))
    pause_documents(session, [site.document_id])
    session.commit()
    rows.change("DELETE FROM outbox")
    resume_documents(session, [site.document_id])
    session.commit()
    assert tasks(rows) == [DOCUMENT_SYNC.name]

    rows.change("DELETE FROM outbox")
    needs = sync_needs()
    assert sweep_documents(needs.sessions, needs.announce, grace_seconds=-1) == 1
    assert tasks(rows) == [DOCUMENT_SYNC.name]


def test_a_worker_that_died_in_the_fetch_is_followed_by_another(site: Site, rows: Outbox) -> None:
    site.submit(site.page("one"))
    with sync_needs().sessions.begin() as session:
        from worker.services.dataset.source_claiming import claim_source

        claim_source(session, site.document_id, site.dataset_id, 60)
    with pytest.raises(LeaseHeld):
        site.sync()
    with db.engine.begin() as connection:
        connection.execute(EXPIRE)

    assert site.sync() is Synced.CHANGED
    assert (site.row().attempts, site.row().deaths) == (0, 0)


def test_a_message_that_is_given_up_shows_in_the_row_and_can_be_replayed(site: Site) -> None:
    site.submit(site.page("one"))
    args = [str(site.dataset_id), str(site.document_id)]

    document_indexing_sync_task.abandon(AttemptsExhausted("no more"), args, {})
    assert (site.row().indexing_status, site.row().error) == (S.ERROR, "no more")
    document_indexing_sync_task.revive(site.session, args, {})
    site.session.commit()
    assert (site.row().indexing_status, site.row().error) == (S.WAITING, None)


def test_the_task_fetches(site: Site) -> None:
    site.submit(site.page("one"))
    document_indexing_sync_task(str(site.dataset_id), str(site.document_id))
    assert site.row().name == "127.0.0.1/guide.txt"


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("ftp://example.org/a", "http://"),
        ("example.org/a", "http://"),
        ("https:///a", "host"),
        ("https://user:secret@example.org/", "credentials"),
        ("https://example.org:99999/", "not a URL"),
        ("https://example.org/a b", "percent-encode"),
        ("https://example.org/" + "a" * 5000, "too long"),
        ("https://[::1/", "not a URL"),
    ],
)
def test_what_is_no_url_is_refused_at_once(site: Site, url: str, words: str) -> None:
    with pytest.raises(UnusableUrl, match=words) as refused:
        site.submit(url)
    assert "secret" not in str(refused.value)
    site.session.rollback()
    assert site.session.scalar(select(func.count()).select_from(Document)) == 0


def test_one_url_is_one_document(site: Site, session: Session, rows: Outbox) -> None:
    url = site.page("one")
    found = submit_urls(session, site.redis, site.dataset_id, [url, url + "#part", f" {url} "])
    session.commit()
    assert [(one.url, one.outcome) for one in found] == [(url, UrlOutcome.NEW)]
    assert site.submit(url) is UrlOutcome.CHECK
    assert session.scalar(select(func.count()).select_from(Document)) == 1


def test_only_documents_of_urls_and_of_this_dataset_are_synced(
    site: Site, session: Session, submit: Submit
) -> None:
    (file,) = submit({"a.txt": b"one"})
    with pytest.raises(InvalidRequest, match="submit their file again"):
        sync_documents(session, site.redis, site.dataset_id, [file.document_id])
    with pytest.raises(NotFound):
        sync_documents(session, site.redis, site.dataset_id, [uuid4()])
    with pytest.raises(NotFound):
        submit_urls(session, site.redis, uuid4(), [site.web.url])


def test_queries_do_not_grow_with_the_number_of_urls(site: Site, session: Session) -> None:
    counts = []
    for number in (3, 30):
        urls = [f"{site.web.url}/{number}/{one}" for one in range(number)]
        with statements(db.engine) as sent:
            submit_urls(session, site.redis, site.dataset_id, urls)
            session.commit()
        counts.append(len(sent))
    assert counts[0] == counts[1]


def test_a_document_of_a_url_takes_no_file(site: Site, session: Session, app: Flask) -> None:
    url = site.page("Of the URL.", etag='"one"')
    site.submit(url)
    site.sync()
    site.index()
    document = session.get_one(Document, site.document_id, populate_existing=True)
    tenant_id, held = document.tenant_id, document.upload_file_id
    session.commit()
    file = store_file(app.extensions["storage"], tenant_id, "mine.txt", BytesIO(b"A user's."))
    with pytest.raises(InvalidRequest, match="comes from a URL"):
        update_document(session, site.document_id, file=file)
    session.rollback()
    with pytest.raises(InvalidRequest, match="comes from a URL"):
        submit_document(session, site.redis, site.dataset_id, url, file)
    session.rollback()
    document = session.get_one(Document, site.document_id, populate_existing=True)
    assert (document.upload_file_id, document.index_version) == (held, 1)
