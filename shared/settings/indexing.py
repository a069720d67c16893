"""The indexing run: sizes, limits, lease."""

from pydantic import Field

from shared.settings.base import SettingsGroup


class IndexingSettings(SettingsGroup):
    indexing_batch_segments: int = Field(
        512, ge=1, le=10_000, description="Segments embedded and written in one transaction."
    )
    indexing_guard_seconds: int = Field(
        600,
        ge=5,
        description="Life of document_{id}_indexing in Redis; refreshed while work goes on.",
    )
    indexing_max_attempts: int = Field(
        5, ge=1, description="Pick-ups of one version before the document ends as error."
    )
    indexing_max_file_bytes: int = Field(
        512 * 1024**2, ge=1, description="Largest file that is read at all."
    )
    indexing_max_parsed_file_bytes: int = Field(
        100 * 1024**2,
        ge=1,
        description="Largest file that a parser is given whole (PDF, Office, HTML …).",
    )
    indexing_max_parse_seconds: float = Field(
        300, gt=0, description="Longest that parsing one such file may take."
    )
    indexing_max_parse_memory_bytes: int = Field(
        1024**3,
        ge=128 * 1024**2,
        description="Resident memory of the process that parses; it takes 50 MB by itself.",
    )
    indexing_parser_processes: int = Field(
        0, ge=0, description="Processes that parse, of each worker process; 0: one a CPU."
    )
    indexing_max_unpacked_bytes: int = Field(
        512 * 1024**2, ge=1, description="Largest content of a ZIP-based file (DOCX, XLSX, EPUB …)."
    )
    indexing_max_unpacked_ratio: int = Field(
        200, ge=1, description="Largest unpacked size of a ZIP-based file over its packed size."
    )
    indexing_max_archive_members: int = Field(
        10_000, ge=1, description="Most members a ZIP-based file may have."
    )
    indexing_max_segments: int = Field(
        1_000_000, ge=1, description="Most segments one document may become."
    )
    indexing_keywords: bool = Field(
        default=True,
        description="Keep the words of embedded datasets too: hybrid and keyword search need them.",
    )
    indexing_max_parent_characters: int = Field(
        40_000,
        ge=1_000,
        description="Where a parent ends that is to be the whole document; more become several.",
    )
    removal_batch_rows: int = Field(
        2000, ge=1, description="Rows of a deleted document deleted in one transaction."
    )
    removal_file_grace_seconds: float = Field(
        3600,
        ge=0,
        description="How long a file that nobody uses is set aside before it is deleted.",
    )
