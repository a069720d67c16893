"""Builds what each service needs; the only module that names concrete parts."""

import os
from functools import cache, lru_cache, partial
from typing import Any

from flask import current_app
from sqlalchemy import Engine
from sqlalchemy.orm import Session, sessionmaker

from shared.contract import QUEUES
from shared.errors import ConfigurationError, ServiceUnavailable
from shared.models import db
from shared.queueing import outbox
from shared.queueing.publishing import BROKER_ERRORS
from shared.settings import Settings
from shared.settings.embedding import EmbeddingSettings
from shared.settings.indexing import IndexingSettings
from shared.settings.mail import MailSettings
from shared.settings.vectors import VectorSettings
from shared.submitting.control import announce_waiting
from shared.submitting.files import store_file
from shared.submitting.mail import MailRules
from shared.submitting.segment_announcing import announce_edits, announce_imports
from worker.delivery.heartbeat import Heartbeat
from worker.delivery.sweeper import sweep_messages
from worker.providers.confined_parser import ConfinedParser
from worker.providers.embedder import Embedder, PartwiseEmbedder
from worker.providers.http_fetcher import fetcher_of
from worker.providers.mail_http import MailService, ResendMailer, SendGridMailer
from worker.providers.mailer import Mailer
from worker.providers.openai_compatible import OpenAICompatibleEmbedder
from worker.providers.pacing import Rate, Unlimited
from worker.providers.sentence_transformers import SentenceTransformersEmbedder
from worker.providers.smtp import SmtpMailer, SmtpServer
from worker.providers.wordllama import WordLlamaEmbedder
from worker.services.dataset.cached_embedder import CachedEmbedder
from worker.services.dataset.extracting import Limits
from worker.services.dataset.files_removal import remove_due_files
from worker.services.dataset.index_changing import sweep_builds
from worker.services.dataset.index_needs import IndexNeeds
from worker.services.dataset.needs import IndexingNeeds
from worker.services.dataset.removal import RemovalNeeds
from worker.services.dataset.removal_sweeping import sweep_removals
from worker.services.dataset.retrieval import RetrievalNeeds
from worker.services.dataset.segment_sweeping import sweep_segments
from worker.services.dataset.sweeping import sweep_documents
from worker.services.dataset.syncing import SyncNeeds
from worker.services.mail.composing import Composer, Look
from worker.services.mail.giving_up import sweep_mail
from worker.services.mail.needs import MailNeeds
from worker.stores.document_guard import DocumentGuard
from worker.stores.embedding_cache import EmbeddingCache
from worker.stores.files import StoredFiles
from worker.stores.pgvector import PgVectorStore
from worker.stores.progress import ProgressStream
from worker.stores.provider_rate import ProviderRate
from worker.stores.rate_limit import RateLimit
from worker.stores.vectors import VectorStore

LOCAL_EMBEDDERS = {"wordllama": WordLlamaEmbedder}
#: Their vectors cost more than a look-up: the cache stands in front of each.
COSTLY_EMBEDDERS = ("openai_compatible", "sentence_transformers")


def indexing_needs() -> IndexingNeeds:
    """The indexing run's needs in the current application."""
    settings: Settings = current_app.extensions["settings"]
    redis = current_app.extensions["redis"]
    indexing = settings.indexing
    return IndexingNeeds(
        sessions=_sessions(),
        files=StoredFiles(current_app.extensions["storage"]),
        parser=_parser(indexing),
        embedders=embedder,
        vectors=vector_store(),
        guard=DocumentGuard(redis, indexing.indexing_guard_seconds),
        progress=ProgressStream(redis),
        limits=_limits(indexing),
        batch_segments=indexing.indexing_batch_segments,
        max_segments=indexing.indexing_max_segments,
        lease_seconds=settings.delivery.delivery_lease_seconds,
        max_attempts=indexing.indexing_max_attempts,
        max_deaths=settings.delivery.delivery_max_deaths,
        heartbeat=_heartbeat(),
        announce=partial(announce_waiting, celery=current_app.extensions["celery"]),
        keywords=indexing.indexing_keywords,
        max_parent_characters=indexing.indexing_max_parent_characters,
    )


def sync_needs() -> SyncNeeds:
    """The sync of a URL's needs in the current application."""
    settings: Settings = current_app.extensions["settings"]
    redis = current_app.extensions["redis"]
    return SyncNeeds(
        sessions=_sessions(),
        fetcher=fetcher_of(settings.fetching),
        store=partial(store_file, current_app.extensions["storage"]),
        guard=DocumentGuard(redis, settings.indexing.indexing_guard_seconds),
        progress=ProgressStream(redis),
        heartbeat=_heartbeat(),
        announce=partial(announce_waiting, celery=current_app.extensions["celery"]),
        lease_seconds=settings.delivery.delivery_lease_seconds,
        max_attempts=settings.indexing.indexing_max_attempts,
        max_deaths=settings.delivery.delivery_max_deaths,
    )


def index_needs() -> IndexNeeds:
    """The needs of a change of a dataset's index, in the current application."""
    settings: Settings = current_app.extensions["settings"]
    return IndexNeeds(
        sessions=_sessions(),
        embedders=embedder,
        vectors=vector_store(),
        heartbeat=_heartbeat(),
        publish=partial(outbox.write, celery=current_app.extensions["celery"]),
        batch_segments=settings.indexing.indexing_batch_segments,
        lease_seconds=settings.delivery.delivery_lease_seconds,
    )


def retrieval_needs() -> RetrievalNeeds:
    """A search's needs in the current application."""
    return RetrievalNeeds(sessions=_sessions(), embedders=embedder, vectors=vector_store())


def vector_store() -> VectorStore:
    """The vector store of the current application.

    Raises:
        ConfigurationError: VECTOR_STORE=qdrant without its package, or without an address.
    """
    settings: Settings = current_app.extensions["settings"]
    if settings.vectors.vector_store == "pgvector":
        return PgVectorStore()
    extensions = current_app.extensions
    # One a process: a connection must not cross a fork.
    made: dict[int, VectorStore] = extensions.setdefault("vector_stores", {})
    if os.getpid() not in made:
        made[os.getpid()] = _qdrant(settings.vectors)
    return made[os.getpid()]


def _qdrant(settings: VectorSettings) -> VectorStore:
    try:
        from worker.stores.qdrant_opening import open_qdrant
    except ImportError as error:
        raise ConfigurationError(
            f"VECTOR_STORE=qdrant: install rag-worker[qdrant] ({error})"
        ) from error
    return open_qdrant(settings, _sessions())


def removal_needs() -> RemovalNeeds:
    """What cleaning up needs in the current application."""
    indexing: IndexingSettings = current_app.extensions["settings"].indexing
    return RemovalNeeds(
        sessions=_sessions(),
        vectors=vector_store(),
        files=StoredFiles(current_app.extensions["storage"]),
        guard=DocumentGuard(current_app.extensions["redis"], indexing.indexing_guard_seconds),
        batch_rows=indexing.removal_batch_rows,
        file_grace_seconds=indexing.removal_file_grace_seconds,
    )


def remove_unused_files() -> None:
    """Take files that no document has any more out of the storage."""
    needs = removal_needs()
    remove_due_files(needs.sessions, needs.files, needs.file_grace_seconds)


def embedder(provider: str, model: str) -> Embedder:
    """A dataset's embedder, loaded once a process; remote ones once an application.

    Raises:
        ConfigurationError: no such provider or model, or its settings are missing.
    """
    if provider in LOCAL_EMBEDDERS:
        return _local_embedder(provider, model)
    if provider not in COSTLY_EMBEDDERS:
        known = ", ".join((*LOCAL_EMBEDDERS, *COSTLY_EMBEDDERS))
        raise ConfigurationError(f"there is no embedding provider {provider!r}, only: {known}")
    loaded: dict[tuple[str, str], Embedder] = current_app.extensions.setdefault("embedders", {})
    if (provider, model) not in loaded:
        made = CachedEmbedder(_costly_embedder(provider, model), embedding_cache())
        loaded.setdefault((provider, model), made)
    return loaded[provider, model]


def embedding_cache() -> EmbeddingCache:
    """The cache of costly embedders."""
    return EmbeddingCache(_sessions())


@cache
def _local_embedder(provider: str, model: str) -> Embedder:
    return LOCAL_EMBEDDERS[provider](model)


def _costly_embedder(provider: str, model: str) -> PartwiseEmbedder:
    settings: EmbeddingSettings = current_app.extensions["settings"].embedding
    if provider == "sentence_transformers":
        return SentenceTransformersEmbedder(model, settings.embedding_max_batch_texts)
    requests = settings.embedding_requests_per_minute
    tokens = settings.embedding_tokens_per_minute
    rate: Rate = Unlimited()
    if requests or tokens:
        redis = current_app.extensions["redis"]
        rate = ProviderRate(redis, settings.embedding_base_url, requests, tokens)
    return OpenAICompatibleEmbedder(model, settings, rate)


@cache
def _parser(indexing: IndexingSettings) -> ConfinedParser:
    return ConfinedParser(
        "worker.providers.kreuzberg:KreuzbergParser",
        parse_seconds=indexing.indexing_max_parse_seconds,
        parse_memory_bytes=indexing.indexing_max_parse_memory_bytes,
        max_children=indexing.indexing_parser_processes,
    )


def mail_needs() -> MailNeeds:
    """A mail's needs in the current application."""
    settings: Settings = current_app.extensions["settings"]
    mail = settings.mail
    rate = mail.mail_rate_per_second
    return MailNeeds(
        sessions=_sessions(),
        mailer=partial(_mailer, mail),
        rate=RateLimit(current_app.extensions["redis"], f"mail:{mail.mail_type}", rate)
        if rate
        else None,
        composer=composer(mail),
        rules=MailRules.of(settings),
        celery=current_app.extensions["celery"],
        lease_seconds=settings.delivery.delivery_lease_seconds,
        max_attempts=settings.delivery.delivery_max_attempts,
        heartbeat=_heartbeat(),
    )


@cache
def composer(mail: MailSettings) -> Composer:
    """What makes mails of the settings' look.

    Raises:
        ConfigurationError: the sender is no address, or the words cannot be read.
    """
    return Composer(
        Look(
            sender=mail.mail_default_send_from,
            brand=mail.mail_brand_name,
            color=mail.mail_brand_color,
            web_url=mail.console_web_url,
            templates=mail.mail_templates_dir,
        )
    )


@cache
def _mailer(mail: MailSettings) -> Mailer | None:
    """The provider, with its connections; one a process."""
    if mail.mail_type == "smtp":
        return SmtpMailer(_smtp_server(mail))
    kinds: dict[str, Any] = {"resend": ResendMailer, "sendgrid": SendGridMailer}
    kind = kinds.get(mail.mail_type)
    if kind is None:
        return None
    url = getattr(mail, f"{mail.mail_type}_api_url")
    key = getattr(mail, f"{mail.mail_type}_api_key").get_secret_value()
    made: Mailer = kind(MailService(url, key, mail.mail_timeout_seconds, mail.mail_max_connections))
    return made


def _smtp_server(mail: MailSettings) -> SmtpServer:
    starts_plain = "starttls" if mail.smtp_opportunistic_tls else "tls"
    return SmtpServer(
        host=mail.smtp_server,
        port=mail.smtp_port,
        encryption=starts_plain if mail.smtp_use_tls else "none",
        username=mail.smtp_username,
        password=mail.smtp_password.get_secret_value(),
        timeout_seconds=mail.mail_timeout_seconds,
        local_hostname=mail.smtp_local_hostname,
        ca_file=mail.smtp_ca_file,
        verify_certificate=mail.smtp_verify_certificate,
        max_connections=mail.mail_max_connections,
    )


def sweep() -> None:
    """Send out again what got stuck, in every queue.

    Raises:
        ServiceUnavailable: the broker does not answer.
    """
    settings: Settings = current_app.extensions["settings"]
    celery = current_app.extensions["celery"]
    seconds = settings.delivery.outbox_redelivery_seconds
    sweep_documents(_sessions(), partial(announce_waiting, celery=celery), seconds)
    sweep_builds(index_needs(), seconds)
    sweep_mail(mail_needs(), seconds)
    sweep_removals(_sessions(), partial(outbox.write, celery=celery))
    sweep_segments(
        _sessions(),
        partial(announce_edits, celery=celery),
        partial(announce_imports, celery=celery),
        seconds,
    )
    try:
        with celery.connection_for_write() as connection:
            sweep_messages(db.engine, connection, QUEUES, seconds)
    except BROKER_ERRORS as error:
        raise ServiceUnavailable(f"the broker does not answer: {error}") from error
    # Last: a vector store that is away keeps no message back.
    vector_store().collect()


def _heartbeat() -> Heartbeat:
    extensions = current_app.extensions
    if "heartbeat" not in extensions:  # a process that is no worker: a script, a test
        extensions["heartbeat"] = Heartbeat(db.engine)
    made: Heartbeat = extensions["heartbeat"]
    return made


def _sessions() -> "sessionmaker[Session]":
    return _sessions_of(db.engine)


@lru_cache(maxsize=8)
def _sessions_of(engine: Engine) -> "sessionmaker[Session]":
    # Each is a class of its own, and all of SQLAlchemy's events are told of it: one an engine.
    return sessionmaker(engine, expire_on_commit=False)


def _limits(indexing: IndexingSettings) -> Limits:
    return Limits(
        file_bytes=indexing.indexing_max_file_bytes,
        parsed_file_bytes=indexing.indexing_max_parsed_file_bytes,
        unpacked_bytes=indexing.indexing_max_unpacked_bytes,
        unpacked_ratio=indexing.indexing_max_unpacked_ratio,
        archive_members=indexing.indexing_max_archive_members,
    )
