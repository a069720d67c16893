"""Secrets at rest: sealed with ``SECRET_KEY``, readable only with it, or with one it replaced."""

import base64
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import SecretStr

from shared.errors import ConfigurationError
from shared.settings.application import ApplicationSettings
from shared.settings.redaction import learn

#: What is written when there is no key: `rag-worker up` and tests need none.
_OPEN = "open:"


@dataclass(frozen=True, slots=True)
class SealingKeys:
    """The key that seals, and those it replaced.

    Attributes:
        current: ``SECRET_KEY``.
        previous: ``SECRET_KEY_PREVIOUS``; they only open.
    """

    current: SecretStr = field(default_factory=lambda: SecretStr(""))
    previous: tuple[SecretStr, ...] = ()

    @classmethod
    def of(cls, application: ApplicationSettings) -> "SealingKeys":
        """Those that the settings say."""
        return cls(application.secret_key, application.previous_keys)

    def open(self, sealed: str) -> dict[str, Any]:
        """What was sealed; see ``unseal``."""
        return unseal(sealed, self.current, self.previous)

    def renewed(self, sealed: str) -> str | None:
        """The same sealed with the current key; ``None`` when it is already.

        Raises:
            ConfigurationError: no key opens it.
        """
        if not sealed.startswith(_OPEN) and _opened(sealed, self.current) is not None:
            return None
        return seal(self.open(sealed), self.current)


def seal(value: dict[str, Any], secret_key: SecretStr) -> str:
    """The value as text that says nothing without the key; readable when the key is empty."""
    text = json.dumps(value, ensure_ascii=False)
    if not secret_key.get_secret_value():
        return _OPEN + text
    return str(_fernet(secret_key).encrypt(text.encode()).decode())


def unseal(
    sealed: str, secret_key: SecretStr, previous: Sequence[SecretStr] = ()
) -> dict[str, Any]:
    """What was sealed, by the key or by one it replaced.

    Raises:
        ConfigurationError: it was sealed with another key.
    """
    if sealed.startswith(_OPEN):
        opened: dict[str, Any] = json.loads(sealed.removeprefix(_OPEN))
        learn(opened)
        return opened
    for key in (secret_key, *previous):
        found = _opened(sealed, key)
        if found is not None:
            learn(found)  # from here on no line of the log shows it
            return found
    raise ConfigurationError(
        "SECRET_KEY is not the one this was sealed with: add the old one to "
        "SECRET_KEY_PREVIOUS, or submit it anew"
    )


def _opened(sealed: str, key: SecretStr) -> dict[str, Any] | None:
    from cryptography.fernet import InvalidToken

    if not key.get_secret_value():
        return None
    try:
        opened: dict[str, Any] = json.loads(_fernet(key).decrypt(sealed.encode()))
    except InvalidToken:
        return None
    return opened


def _fernet(secret_key: SecretStr) -> Any:
    # Here, not above: only who has secrets pays for the library.
    from cryptography.fernet import Fernet

    digest = hashlib.sha256(b"rag-worker sealed\0" + secret_key.get_secret_value().encode())
    return Fernet(base64.urlsafe_b64encode(digest.digest()))
