"""The file storage of uploads, by fsspec URL."""

import os

from flask import Flask
from fsspec import AbstractFileSystem, get_filesystem_class
from fsspec.core import split_protocol, url_to_fs
from fsspec.implementations.dirfs import DirFileSystem

from shared.errors import ConfigurationError
from shared.extensions.storage_loop import run_beside_greenlets
from shared.settings import Settings
from shared.settings.endpoints import masked


def init_app(app: Flask) -> None:
    """Put the filesystem, rooted at ``STORAGE_URL``, at ``app.extensions["storage"]``."""
    settings: Settings = app.extensions["settings"]
    app.extensions["storage"] = open_storage(settings.storage.storage_url)


class Storage(DirFileSystem):  # type: ignore[misc]
    """The filesystem under a URL, opened anew in a process that was forked.

    Clients of remote storages do not survive a fork: the pool's processes each have their own.
    """

    #: Two applications of one process may mean two servers by one URL.
    cachable = False

    def __init__(self, url: str) -> None:
        self._url = url
        self._opened_by = os.getpid()
        filesystem, root = url_to_fs(url)
        super().__init__(path=root, fs=filesystem)

    @property
    def fs(self) -> AbstractFileSystem:
        """The filesystem that does the work."""
        if self._opened_by != os.getpid():
            self._filesystem, _ = url_to_fs(self._url)
            self._opened_by = os.getpid()
        return self._filesystem

    @fs.setter
    def fs(self, filesystem: AbstractFileSystem) -> None:
        self._filesystem = filesystem


def open_storage(url: str) -> Storage:
    """The filesystem under ``url``; keys are paths below it and cannot leave it.

    Raises:
        ConfigurationError: no such protocol, or its package is missing.
    """
    try:
        protocol, _ = split_protocol(url)
        if get_filesystem_class(protocol or "file").async_impl:
            run_beside_greenlets()
        return Storage(url)
    except (ValueError, ImportError) as error:
        raise ConfigurationError(f"STORAGE_URL: {masked(url)} cannot be opened: {error}") from None
