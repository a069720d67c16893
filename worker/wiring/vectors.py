"""The vector store the settings name."""

import os

from flask import current_app

from shared.errors import ConfigurationError
from shared.settings import Settings
from shared.settings.vectors import VectorSettings
from worker.stores.pgvector import PgVectorStore
from worker.stores.vectors import VectorStore
from worker.wiring.foundations import sessions


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
    return open_qdrant(settings, sessions())
