"""What the dataset queue's services need."""

from functools import cache, lru_cache, partial

from flask import current_app
from sqlalchemy import Engine

from shared.models import db
from shared.queueing import outbox
from shared.settings import Settings
from shared.settings.indexing import IndexingSettings
from shared.submitting.control import announce_waiting
from shared.submitting.files import store_file
from worker.providers.confined_parser import ConfinedParser
from worker.providers.http_fetcher import fetcher_of
from worker.services.dataset.extracting import Limits
from worker.services.dataset.files_removal import remove_due_files
from worker.services.dataset.index_needs import IndexNeeds
from worker.services.dataset.needs import IndexingNeeds
from worker.services.dataset.removal import RemovalNeeds
from worker.services.dataset.retrieval import RetrievalNeeds
from worker.services.dataset.searched_dataset import Memory
from worker.services.dataset.syncing import SyncNeeds
from worker.stores.dataset_use import DatasetUse
from worker.stores.document_guard import DocumentGuard
from worker.stores.files import StoredFiles
from worker.stores.progress import ProgressStream
from worker.wiring.embedders import embedder, joined_embedder
from worker.wiring.foundations import heartbeat, sessions
from worker.wiring.generation import question_writer
from worker.wiring.vectors import vector_stores


def indexing_needs() -> IndexingNeeds:
    """The indexing run's needs in the current application."""
    settings: Settings = current_app.extensions["settings"]
    redis = current_app.extensions["redis"]
    indexing = settings.indexing
    return IndexingNeeds(
        sessions=sessions(),
        files=StoredFiles(current_app.extensions["storage"]),
        parser=_parser(indexing),
        parse_together=_parser(indexing).parse_together,
        embedders=joined_embedder,
        vectors=vector_stores(),
        guard=DocumentGuard(redis, indexing.indexing_guard_seconds),
        progress=ProgressStream(redis),
        limits=_limits(indexing),
        batch_segments=indexing.indexing_batch_segments,
        max_segments=indexing.indexing_max_segments,
        lease_seconds=settings.delivery.delivery_lease_seconds,
        max_attempts=indexing.indexing_max_attempts,
        max_deaths=settings.delivery.delivery_max_deaths,
        heartbeat=heartbeat(),
        announce=partial(announce_waiting, celery=current_app.extensions["celery"]),
        keywords=indexing.indexing_keywords,
        max_parent_characters=indexing.indexing_max_parent_characters,
        question_writers=question_writer,
    )


def sync_needs() -> SyncNeeds:
    """The sync of a URL's needs in the current application."""
    settings: Settings = current_app.extensions["settings"]
    redis = current_app.extensions["redis"]
    return SyncNeeds(
        sessions=sessions(),
        fetcher=fetcher_of(settings.fetching),
        store=partial(store_file, current_app.extensions["storage"]),
        guard=DocumentGuard(redis, settings.indexing.indexing_guard_seconds),
        progress=ProgressStream(redis),
        heartbeat=heartbeat(),
        announce=partial(announce_waiting, celery=current_app.extensions["celery"]),
        lease_seconds=settings.delivery.delivery_lease_seconds,
        max_attempts=settings.indexing.indexing_max_attempts,
        max_deaths=settings.delivery.delivery_max_deaths,
    )


def index_needs() -> IndexNeeds:
    """The needs of a change of a dataset's index, in the current application."""
    settings: Settings = current_app.extensions["settings"]
    return IndexNeeds(
        sessions=sessions(),
        embedders=joined_embedder,
        vectors=vector_stores(),
        heartbeat=heartbeat(),
        publish=partial(outbox.write, celery=current_app.extensions["celery"]),
        batch_segments=settings.indexing.indexing_batch_segments,
        lease_seconds=settings.delivery.delivery_lease_seconds,
    )


def retrieval_needs() -> RetrievalNeeds:
    """A search's needs in the current application."""
    return RetrievalNeeds(
        engine=db.engine,
        sessions=sessions(),
        embedders=embedder,
        vectors=vector_stores(),
        note_use=_dataset_use(db.engine).note,
        memory=_memory(db.engine),
    )


def removal_needs() -> RemovalNeeds:
    """What cleaning up needs in the current application."""
    indexing: IndexingSettings = current_app.extensions["settings"].indexing
    return RemovalNeeds(
        sessions=sessions(),
        vectors=vector_stores(),
        files=StoredFiles(current_app.extensions["storage"]),
        guard=DocumentGuard(current_app.extensions["redis"], indexing.indexing_guard_seconds),
        batch_rows=indexing.removal_batch_rows,
        file_grace_seconds=indexing.removal_file_grace_seconds,
    )


def remove_unused_files() -> None:
    """Take files that no document has any more out of the storage."""
    needs = removal_needs()
    remove_due_files(needs.sessions, needs.files, needs.file_grace_seconds)


@lru_cache(maxsize=8)
def _dataset_use(engine: Engine) -> DatasetUse:
    return DatasetUse(engine)


@lru_cache(maxsize=8)
def _memory(engine: Engine) -> Memory:  # noqa: ARG001 - what is remembered is of its database
    return Memory()


@cache
def _parser(indexing: IndexingSettings) -> ConfinedParser:
    return ConfinedParser(
        "worker.providers.kreuzberg:KreuzbergParser",
        parse_seconds=indexing.indexing_max_parse_seconds,
        parse_memory_bytes=indexing.indexing_max_parse_memory_bytes,
        max_children=indexing.indexing_parser_processes,
    )


def _limits(indexing: IndexingSettings) -> Limits:
    return Limits(
        file_bytes=indexing.indexing_max_file_bytes,
        parsed_file_bytes=indexing.indexing_max_parsed_file_bytes,
        unpacked_bytes=indexing.indexing_max_unpacked_bytes,
        unpacked_ratio=indexing.indexing_max_unpacked_ratio,
        archive_members=indexing.indexing_max_archive_members,
    )
