"""What every group of settings shares: its sources, and one clear line when a value is wrong."""

from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from shared.errors import ConfigurationError

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
        first = error.errors(include_url=False)[0]
        variable = "_".join(str(part) for part in first["loc"]).upper() or group.__name__
        shown = "" if _is_secret(variable) else f" (got {first['input']!r})"
        raise ConfigurationError(f"{variable}: {first['msg']}{shown}") from None


def _is_secret(variable: str) -> bool:
    return any(word in variable for word in ("PASSWORD", "SECRET", "KEY", "URL", "URI"))
