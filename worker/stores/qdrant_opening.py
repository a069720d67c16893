"""Qdrant as the settings name it: a server, or a folder for one process."""

from json import JSONDecodeError

from qdrant_client import QdrantClient
from sqlalchemy.orm import Session, sessionmaker

from shared.errors import ConfigurationError, ServiceUnavailable
from shared.settings.vectors import VectorSettings
from worker.stores.qdrant import QdrantVectorStore


def open_qdrant(settings: VectorSettings, sessions: sessionmaker[Session]) -> QdrantVectorStore:
    """The store; connects with its first request.

    Raises:
        ConfigurationError: no address is set.
        ServiceUnavailable: (transient) another process has the folder open, or makes it.
    """
    if settings.qdrant_url:
        client = QdrantClient(
            settings.qdrant_url,
            api_key=settings.qdrant_api_key.get_secret_value() or None,
            timeout=settings.qdrant_timeout_seconds,
            # It would ask the server at once, and only to warn.
            check_compatibility=False,
        )
    elif settings.qdrant_path:
        path = settings.qdrant_path
        try:
            client = QdrantClient(path=path, force_disable_check_same_thread=True)
        except RuntimeError as error:
            raise ServiceUnavailable(f"QDRANT_PATH: {error}; or set QDRANT_URL") from error
        except JSONDecodeError as error:
            # A process that makes the folder writes the file after it has made it.
            raise ServiceUnavailable(
                f"QDRANT_PATH: another process makes {path} at the moment; if none does, its "
                f"meta.json was cut off ({error}): delete it from a folder that holds nothing yet"
            ) from error
    else:
        raise ConfigurationError("VECTOR_STORE=qdrant: set QDRANT_URL")
    prefix, is_local = settings.qdrant_collection_prefix, not settings.qdrant_url
    return QdrantVectorStore(client, sessions, prefix, is_local=is_local)
