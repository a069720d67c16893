"""Where vectors live."""

from typing import Literal

from pydantic import Field, SecretStr

from shared.settings.base import SettingsGroup


class VectorSettings(SettingsGroup):
    vector_store: Literal["pgvector", "qdrant"] = Field(
        "pgvector",
        description="Where new datasets go: pgvector, in the same PostgreSQL, or qdrant.",
    )
    vector_index_least_segments: int = Field(
        50_000,
        ge=0,
        description="pgvector: a dataset of so many gets an approximate index; 0: none does.",
    )
    vector_index_megabytes: int = Field(
        512,
        ge=1,
        description="Memory of the database for building one; beyond it a build is far slower.",
    )
    qdrant_url: str = Field("", description="Qdrant's address, as http://host:6333.")
    qdrant_api_key: SecretStr = Field(SecretStr(""), description="Its key.")
    qdrant_path: str = Field(
        "", description="A folder for Qdrant inside one process, without a server: to try it out."
    )
    qdrant_collection_prefix: str = Field(
        "rag_worker",
        pattern=r"^[A-Za-z0-9_-]{1,64}$",
        description="Collections are called by it and their dimension.",
    )
    qdrant_timeout_seconds: int = Field(
        30, ge=1, description="How long one request to Qdrant may take."
    )
