"""Secrets at rest: sealed with ``SECRET_KEY``, readable only with it."""

import base64
import hashlib
import json
from typing import Any

from pydantic import SecretStr

from shared.errors import ConfigurationError

#: What is written when there is no key: `rag-worker up` and tests need none.
_OPEN = "open:"


def seal(value: dict[str, Any], secret_key: SecretStr) -> str:
    """The value as text that says nothing without the key; readable when the key is empty."""
    text = json.dumps(value, ensure_ascii=False)
    if not secret_key.get_secret_value():
        return _OPEN + text
    return str(_fernet(secret_key).encrypt(text.encode()).decode())


def unseal(sealed: str, secret_key: SecretStr) -> dict[str, Any]:
    """What was sealed.

    Raises:
        ConfigurationError: it was sealed with another key.
    """
    from cryptography.fernet import InvalidToken

    if sealed.startswith(_OPEN):
        opened: dict[str, Any] = json.loads(sealed.removeprefix(_OPEN))
        return opened
    try:
        opened = json.loads(_fernet(secret_key).decrypt(sealed.encode()))
    except InvalidToken:
        raise ConfigurationError(
            "SECRET_KEY is not the one this was sealed with: set the old one again, "
            "or submit it anew"
        ) from None
    return opened


def _fernet(secret_key: SecretStr) -> Any:
    # Here, not above: only who has secrets pays for the library.
    from cryptography.fernet import Fernet

    digest = hashlib.sha256(b"rag-worker sealed\0" + secret_key.get_secret_value().encode())
    return Fernet(base64.urlsafe_b64encode(digest.digest()))
