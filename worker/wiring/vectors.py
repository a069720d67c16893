"""The vector stores the settings name."""

import os
import threading
from contextlib import suppress

from flask import current_app

from shared.errors import ConfigurationError, ServiceUnavailable
from shared.settings import Settings
from shared.settings.vectors import VectorSettings
from worker.stores.pgvector import PgVectorStore
from worker.stores.vector_stores import VectorStores
from worker.stores.vectors import VectorStore
from worker.wiring.foundations import sessions


def vector_stores() -> VectorStores:
    """The vector stores of the current application: all that it is connected with.

    Raises:
        ConfigurationError: VECTOR_STORE=qdrant without its package, or without an address.
        ServiceUnavailable: (transient) VECTOR_STORE=qdrant, its folder open in another process.
    """
    settings: Settings = current_app.extensions["settings"]
    extensions = current_app.extensions
    # One a process: a connection must not cross a fork.
    made: dict[int, VectorStores] = extensions.setdefault("vector_stores", {})
    found = made.get(os.getpid())
    if found is not None:
        return found
    opening: dict[int, threading.Lock] = extensions.setdefault("vector_stores_opening", {})
    # The first tasks of a pool of threads come here together: one of them opens a folder.
    with opening.setdefault(os.getpid(), threading.Lock()):
        found = made.get(os.getpid())
        if found is None:
            in_postgresql = not settings.database.is_mysql
            found = _stores(settings.vectors, in_postgresql=in_postgresql)
            # A folder that another process has open may be free the next time.
            is_folder = settings.vectors.qdrant_path and not settings.vectors.qdrant_url
            if len(found.each()) > in_postgresql or not is_folder:
                made[os.getpid()] = found
        return found


def preload_vector_stores(settings: Settings) -> None:
    """Import Qdrant's client before the pool forks, where it is used: see ``load_services``.

    A child that is forked while the relay's thread imports it would wait for ever.
    """
    vectors = settings.vectors
    if vectors.vector_store == "qdrant" or vectors.qdrant_url or vectors.qdrant_path:
        with suppress(ImportError):  # told by whoever needs it
            import worker.stores.qdrant_opening  # noqa: F401


def _stores(settings: VectorSettings, *, in_postgresql: bool) -> VectorStores:
    in_database = PgVectorStore()
    if settings.vector_store == "qdrant":
        others = (in_database,) if in_postgresql else ()
        try:
            return VectorStores(_qdrant(settings), *others)
        except ImportError as error:
            raise ConfigurationError(
                f"VECTOR_STORE=qdrant: install rag-worker[qdrant] ({error})"
            ) from error
    if settings.qdrant_url or settings.qdrant_path:
        # Who needs it all the same is told by ``VectorStores.at``.
        try:
            return VectorStores(in_database, _qdrant(settings))
        except ServiceUnavailable as error:
            return VectorStores(in_database, away={"qdrant": error})
        except ImportError:
            pass
    return VectorStores(in_database)


def _qdrant(settings: VectorSettings) -> VectorStore:
    from worker.stores.qdrant_opening import open_qdrant

    return open_qdrant(settings, sessions())
