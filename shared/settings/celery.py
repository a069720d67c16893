"""Celery: broker, results, pools."""

from pydantic import Field, SecretStr, field_validator

from shared.settings.base import SettingsGroup
from shared.settings.endpoints import SentinelLogin


class CelerySettings(SettingsGroup):
    celery_broker_url: SecretStr = Field(
        SecretStr(""),
        description="redis://, rediss:// or sentinel://a:26379;sentinel://b:26379; "
        "empty: the Redis above, database REDIS_DB + 1.",
    )
    celery_backend: str = Field(
        "database",
        description="database (pooled, this project's) or any Celery result backend URL.",
    )
    celery_use_sentinel: bool = Field(default=False, description="The broker URL names Sentinels.")
    celery_sentinel_master_name: str = Field("mymaster", description="The broker's name there.")
    celery_sentinel_password: SecretStr = Field(
        SecretStr(""), description="The Sentinels' own password."
    )
    broker_use_ssl: bool = Field(
        default=False, description="TLS to the broker; implied by a rediss:// URL."
    )
    celery_visibility_timeout_seconds: int = Field(
        3600, ge=60, description="When the broker hands an unacknowledged message out again."
    )
    celery_result_expires_seconds: int = Field(
        86400, ge=60, description="Age at which task results are deleted."
    )
    celery_task_soft_time_limit_seconds: int = Field(
        3300, ge=1, description="A task is told to stop; works in prefork."
    )
    celery_task_time_limit_seconds: int = Field(
        3500, ge=1, description="A task's process is killed; works in prefork."
    )
    celery_max_memory_per_child_kilobytes: int = Field(
        600_000, ge=100_000, description="A prefork child above this is replaced after its task."
    )
    celery_soft_shutdown_timeout_seconds: float = Field(
        10, ge=0, description="Grace for running tasks after SIGTERM became a cold shutdown."
    )

    @field_validator("celery_broker_url")
    @classmethod
    def _must_be_a_url(cls, value: SecretStr) -> SecretStr:
        if value.get_secret_value() and "://" not in value.get_secret_value():
            raise ValueError("not a broker URL: write redis://user:password@host:port/database")
        return value

    def login(self, other: SentinelLogin) -> SentinelLogin:
        """Of the broker's Sentinels; their password is the ``other`` ones' when none is given."""
        password = self.celery_sentinel_password.get_secret_value()
        return SentinelLogin(
            self.celery_sentinel_master_name,
            None if password else other.username,
            password or other.password,
        )
