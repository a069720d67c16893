"""The application itself: secrets, logging, where the embedded stack lives."""

import json
from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr, field_validator

from shared.settings.base import SettingsGroup


class ApplicationSettings(SettingsGroup):
    secret_key: SecretStr = Field(
        SecretStr(""), description="Signs sessions and encrypts provider secrets; 32+ random bytes."
    )
    secret_key_previous: SecretStr = Field(
        SecretStr(""),
        description='The key that SECRET_KEY replaced, which still opens secrets; or ["a", "b"].',
    )
    debug: bool = Field(default=False, description="Logs each extension's start-up time.")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO", description="The least severe record that is written."
    )
    log_format: Literal["json", "text"] = Field(
        "text", description="json: one object a line for a log collector; text: for people."
    )
    audit_log_file: Path | None = Field(
        None, description="Where changing commands write who called them; empty: to stderr."
    )
    rag_worker_data_dir: Path = Field(
        Path(".rag-worker"), description="Where `rag-worker up` and `demo` keep all their data."
    )

    @field_validator("secret_key_previous")
    @classmethod
    def _must_be_keys(cls, value: SecretStr) -> SecretStr:
        _keys(value.get_secret_value())
        return value

    @property
    def previous_keys(self) -> tuple[SecretStr, ...]:
        """``SECRET_KEY_PREVIOUS`` one by one."""
        return tuple(map(SecretStr, _keys(self.secret_key_previous.get_secret_value())))


def _keys(value: str) -> list[str]:
    if not value.startswith("["):
        return [value] if value else []
    try:
        found = json.loads(value)
    except ValueError:
        found = None
    if not isinstance(found, list) or not all(isinstance(one, str) and one for one in found):
        raise ValueError('several keys are a JSON list of texts: ["older", "oldest"]')
    return found
