"""What a file may cost."""

from dataclasses import dataclass

from shared.errors import LimitExceeded


@dataclass(frozen=True, slots=True)
class Limits:
    """What a file may cost; see the settings ``INDEXING_MAX_…``."""

    file_bytes: int
    parsed_file_bytes: int
    unpacked_bytes: int
    unpacked_ratio: int
    archive_members: int


def require(value: int, limit: int, name: str, unit: str, setting: str) -> None:
    """Raise ``LimitExceeded``, with the ``setting`` to raise, if ``value`` passes ``limit``."""
    if value > limit:
        raise LimitExceeded(
            f"{name} has {value:,} {unit}, more than {limit:,}: split it, or raise {setting}"
        )
