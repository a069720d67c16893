"""Where uploaded files live."""

from pydantic import Field

from shared.settings.base import SettingsGroup


class StorageSettings(SettingsGroup):
    storage_url: str = Field(
        "file://.rag-worker/storage",
        description="An fsspec URL: file:///folder, s3://bucket/prefix, gs://…, memory://.",
    )
