"""The file storage of uploads, by fsspec URL."""

from flask import Flask
from fsspec.core import url_to_fs
from fsspec.implementations.dirfs import DirFileSystem

from shared.errors import ConfigurationError
from shared.settings import Settings
from shared.settings.endpoints import masked


def init_app(app: Flask) -> None:
    """Put the filesystem, rooted at ``STORAGE_URL``, at ``app.extensions["storage"]``."""
    settings: Settings = app.extensions["settings"]
    app.extensions["storage"] = open_storage(settings.storage.storage_url)


def open_storage(url: str) -> DirFileSystem:
    """The filesystem under ``url``; keys are paths below it and cannot leave it.

    Raises:
        ConfigurationError: no such protocol, or its package is missing.
    """
    try:
        filesystem, root = url_to_fs(url)
    except (ValueError, ImportError) as error:
        raise ConfigurationError(f"STORAGE_URL: {masked(url)} cannot be opened: {error}") from None
    return DirFileSystem(path=root, fs=filesystem)
