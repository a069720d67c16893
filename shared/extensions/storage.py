"""The file storage of uploads, by fsspec URL."""

from pathlib import Path

import fsspec
from flask import Flask
from fsspec.implementations.dirfs import DirFileSystem

from shared.errors import ConfigurationError
from shared.settings import Settings


def init_app(app: Flask) -> None:
    """Put the filesystem, rooted at ``STORAGE_URL``, at ``app.extensions["storage"]``."""
    settings: Settings = app.extensions["settings"]
    app.extensions["storage"] = open_storage(settings.storage.storage_url)


def open_storage(url: str) -> DirFileSystem:
    """The filesystem under ``url``; keys are paths below it and cannot leave it.

    Raises:
        ConfigurationError: no such protocol, or its package is missing.
    """
    protocol, _, path = url.rpartition("://")
    try:
        filesystem = fsspec.filesystem(protocol or "file")
    except (ValueError, ImportError) as error:
        raise ConfigurationError(f"STORAGE_URL: {protocol}:// cannot be opened: {error}") from None
    root = str(Path(path).absolute()) if protocol in {"", "file", "local"} else path
    return DirFileSystem(path=root, fs=filesystem)
