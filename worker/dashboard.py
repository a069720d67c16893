"""Flower by our settings, and never open: to everybody who can reach it, it shows and stops all.

``celery -A worker.celery_app flower`` knows its own variables in the environment only, listens
on every address, and asks nobody for a password. Its command reads our settings first (``.env``
too), then its configuration file and its command line, as ever; what comes of these is checked
before it listens.
"""

import importlib
import ipaddress
import logging
import os
import socket
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import click

from shared.errors import ConfigurationError
from shared.settings import Settings

#: As of ``rag-worker``.
_WRONG_CONFIGURATION = 3
_OAUTH = ("auth", "auth_provider", "oauth2_key", "oauth2_secret", "oauth2_redirect_uri")
_OKTA_ADDRESS = "FLOWER_OAUTH2_OKTA_BASE_URL"


class _Refused(click.ClickException):
    """Flower does not start."""

    exit_code = _WRONG_CONFIGURATION

    def show(self, file: Any = None) -> None:
        click.echo(f"rag-worker: {self.format_message()}", err=True, file=file)


def install(settings: Settings) -> None:
    """Put the settings and the check before Flower's command, where this process has it.

    The ``celery`` command has loaded its plugins before it imports an application; who
    imports one for other purposes does not pay for Flower.
    """
    module: Any = sys.modules.get("flower.command")
    if module is None:
        return
    original = module.flower.callback

    def start(tornado_argv: tuple[str, ...]) -> Any:
        try:
            prepare(module, settings, tornado_argv)
        except ConfigurationError as error:
            raise _Refused(str(error)) from error
        return original(tornado_argv=tornado_argv)

    module.flower.callback = start


def prepare(module: Any, settings: Settings, arguments: tuple[str, ...]) -> None:
    """Hand the settings to Flower, read its options as it will, and check them.

    Args:
        module: ``flower.command``.
        settings: ours.
        arguments: of its command line.

    Raises:
        ConfigurationError: it would be open, could let nobody in, or remember nothing.
    """
    for name, value in variables(settings).items():
        if value:
            os.environ[name] = value
        else:
            # To Flower an empty FLOWER_BASIC_AUTH is a login, and one that nobody has.
            os.environ.pop(name, None)
    # These are read when the module is imported, and that was before the settings.
    importlib.reload(importlib.import_module("flower.views.auth"))
    # At DEBUG it logs all its settings, the client's secret among them.
    logging.getLogger(module.__name__).setLevel(logging.INFO)
    module.apply_env_options()
    module.apply_options(sys.argv[0], arguments)
    options = module.options
    require_logins(options.basic_auth or ())
    require_whole_oauth({name: getattr(options, name) for name in _OAUTH})
    has_login = bool(options.basic_auth or options.auth)
    if not has_login and not options.unix_socket and not is_local(options.address):
        raise ConfigurationError(
            f"Flower would be open to everybody on {options.address or 'every address'}: set "
            "FLOWER_BASIC_AUTH=user:password, or FLOWER_AUTH with an OAuth provider, "
            "or FLOWER_ADDRESS=127.0.0.1"
        )
    if options.persistent:
        _require_writable(Path(options.db).absolute())


def variables(settings: Settings) -> dict[str, str]:
    """The settings as the variables that Flower reads."""
    flower = settings.flower
    values = {name: getattr(flower, name) for name in type(flower).model_fields}
    values["flower_auth_provider"] = flower.login_handler
    values["flower_db"] = flower.database_file(settings.application.rag_worker_data_dir)
    return {name.upper(): _text(value) for name, value in values.items()}


def _text(value: Any) -> str:
    return str(value.get_secret_value() if hasattr(value, "get_secret_value") else value)


def require_logins(logins: Iterable[str]) -> None:
    """Check that each login has a name and a password.

    Raises:
        ConfigurationError: one has not; it is not repeated.
    """
    for login in logins:
        name, _, password = login.partition(":")
        if not name or not password:
            raise ConfigurationError(
                "FLOWER_BASIC_AUTH: write user:password, several logins with commas between; "
                "a password holds no comma"
            )


def require_whole_oauth(options: Mapping[str, str | None]) -> None:
    """Check that OAuth is set up in full, or not at all.

    Without ``FLOWER_AUTH`` Flower lets everybody in, whatever else is set.

    Raises:
        ConfigurationError: something is missing; it names what.
    """
    # The redirect address alone may be a left-over that does no harm; the others mean OAuth.
    if not any(options[name] for name in ("auth", "auth_provider", "oauth2_key", "oauth2_secret")):
        return
    missing = [f"FLOWER_{name.upper()}" for name in _OAUTH if not options[name]]
    if "Okta" in (options["auth_provider"] or "") and not os.environ.get(_OKTA_ADDRESS):
        missing.append(_OKTA_ADDRESS)
    if missing:
        raise ConfigurationError(f"Flower's OAuth login also needs {', '.join(missing)}")


def is_local(address: str) -> bool:
    """Whether nobody beyond this machine reaches a server on this address or host name."""
    if not address:
        return False
    try:
        found = {entry[4][0] for entry in socket.getaddrinfo(address, None)}
    except OSError:
        return False
    return all(_is_loopback(str(one)) for one in found)


def _is_loopback(address: str) -> bool:
    parsed = ipaddress.ip_address(address.partition("%")[0])
    mapped = getattr(parsed, "ipv4_mapped", None)
    return (mapped or parsed).is_loopback


def _require_writable(file: Path) -> None:
    try:
        # What it remembers quotes tasks, and is unpickled at the next start: its owner's alone.
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        is_writable = os.access(file.parent, os.W_OK | os.X_OK)
        reason = "the folder cannot be written"
    except OSError as error:
        is_writable, reason = False, str(error.strerror)
    if not is_writable:
        raise ConfigurationError(
            f"FLOWER_DB: Flower cannot remember anything in {file} ({reason}): name a file in a "
            "folder that can be written, or set FLOWER_PERSISTENT=false"
        )
