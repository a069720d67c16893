"""The application itself: secrets, logging, where the embedded stack lives."""

from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr

from shared.settings.base import SettingsGroup


class ApplicationSettings(SettingsGroup):
    secret_key: SecretStr = Field(
        SecretStr(""), description="Signs sessions and encrypts provider secrets; 32+ random bytes."
    )
    secret_key_previous: SecretStr = Field(
        SecretStr(""),
        description="Keys that SECRET_KEY replaced, separated by spaces: they still open secrets.",
    )
    debug: bool = Field(default=False, description="Logs each extension's start-up time.")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO", description="The least severe record that is written."
    )
    log_format: Literal["json", "text"] = Field(
        "text", description="json: one object a line for a log collector; text: for people."
    )
    rag_worker_data_dir: Path = Field(
        Path(".rag-worker"), description="Where `rag-worker up` and `demo` keep all their data."
    )
