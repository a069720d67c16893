"""What every group of settings shares: its sources, and one clear line when a value is wrong."""

from pathlib import Path
from typing import Any, TypeVar

from pydantic import SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from shared.errors import ConfigurationError
from shared.settings.endpoints import masked

#: Written by ``rag-worker up`` while its embedded servers run; ``.env`` and the environment win.
STACK_ENV_FILE = Path(".rag-worker") / "stack.env"
ENV_FILES = (STACK_ENV_FILE, Path(".env"))


class SettingsGroup(BaseSettings):
    """One concern's settings; a field ``db_host`` is the variable ``DB_HOST``."""

    model_config = SettingsConfigDict(
        extra="ignore", frozen=True, env_ignore_empty=True, env_file_encoding="utf-8"
    )


Group = TypeVar("Group", bound=SettingsGroup)


def load_group(group: type[Group], env_files: tuple[Path, ...] = ENV_FILES) -> Group:
    """Read one group from the environment, over the files, over the defaults.

    Raises:
        ConfigurationError: one line naming the variable, what it got and what it takes.
    """
    try:
        return group(_env_file=env_files)
    except ValidationError as error:
        first: Any = error.errors(include_url=False)[0]
        field = "".join(str(part) for part in first["loc"][:1])
        wanted = first["msg"].removeprefix("Value error, ")
        named = f"{field.upper()}: " if field else ""
        got = _shown(group, field, first["input"])
        raise ConfigurationError(f"{named}{wanted}{got}") from None
    except UnicodeDecodeError as error:
        files = " or ".join(map(str, env_files))
        raise ConfigurationError(f"{files}: not UTF-8 text ({error.reason})") from None


def _shown(group: type[SettingsGroup], field: str, value: object) -> str:
    info = group.model_fields.get(field)
    if info is None or info.annotation is SecretStr:
        return ""
    return f" (got {masked(str(value))!r})"
