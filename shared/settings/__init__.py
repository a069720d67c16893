"""Typed settings: one group per concern, composed here.

Values come from the environment, then ``.env``, then the file that
``rag-worker up`` writes while it runs, then the defaults.
"""

from dataclasses import dataclass, fields, replace
from pathlib import Path

from pydantic import SecretStr

from shared.errors import ConfigurationError
from shared.settings.answers import AnswerSettings
from shared.settings.application import ApplicationSettings
from shared.settings.base import ENV_FILES, SettingsGroup, load_group
from shared.settings.celery import CelerySettings
from shared.settings.database import DatabaseSettings
from shared.settings.delivery import DeliverySettings
from shared.settings.embedding import EmbeddingSettings
from shared.settings.endpoints import SCHEMES, Endpoint, masked, next_database, scheme_of
from shared.settings.fetching import FetchingSettings
from shared.settings.flower import FlowerSettings
from shared.settings.generation import GenerationSettings
from shared.settings.indexing import IndexingSettings
from shared.settings.mail import MailSettings
from shared.settings.metrics import MetricsSettings
from shared.settings.presence import PresenceSettings
from shared.settings.redis import RedisSettings
from shared.settings.schedule import ScheduleSettings
from shared.settings.storage import StorageSettings
from shared.settings.telemetry import TelemetrySettings
from shared.settings.trace_export import TraceExportSettings
from shared.settings.tracing import TracingSettings
from shared.settings.vectors import VectorSettings

GROUPS: tuple[tuple[str, type[SettingsGroup]], ...] = (
    ("application", ApplicationSettings),
    ("database", DatabaseSettings),
    ("redis", RedisSettings),
    ("celery", CelerySettings),
    ("delivery", DeliverySettings),
    ("metrics", MetricsSettings),
    ("presence", PresenceSettings),
    ("schedule", ScheduleSettings),
    ("flower", FlowerSettings),
    ("storage", StorageSettings),
    ("indexing", IndexingSettings),
    ("mail", MailSettings),
    ("vectors", VectorSettings),
    ("embedding", EmbeddingSettings),
    ("fetching", FetchingSettings),
    ("generation", GenerationSettings),
    ("tracing", TracingSettings),
    ("answers", AnswerSettings),
    ("trace_export", TraceExportSettings),
    ("telemetry", TelemetrySettings),
)


@dataclass(frozen=True, slots=True)
class Settings:
    """All groups; pass a group, not the whole, to what needs one."""

    application: ApplicationSettings
    database: DatabaseSettings
    redis: RedisSettings
    celery: CelerySettings
    delivery: DeliverySettings
    metrics: MetricsSettings
    presence: PresenceSettings
    schedule: ScheduleSettings
    flower: FlowerSettings
    storage: StorageSettings
    indexing: IndexingSettings
    mail: MailSettings
    vectors: VectorSettings
    embedding: EmbeddingSettings
    fetching: FetchingSettings
    generation: GenerationSettings
    tracing: TracingSettings
    answers: AnswerSettings
    trace_export: TraceExportSettings
    telemetry: TelemetrySettings

    @property
    def broker(self) -> Endpoint:
        """The broker: the one given, or the Redis of guards on its next database."""
        celery, given = self.celery, self.celery.celery_broker_url.get_secret_value()
        if not given:
            redis = self._redis()
            return replace(redis, url=next_database(redis.url))
        uses_tls = celery.broker_use_ssl or given.startswith("rediss://")
        return Endpoint(
            given,
            tls=self.redis.tls_options if uses_tls else None,
            login=celery.login(self.redis.login) if given.startswith("sentinel://") else None,
        )

    @property
    def guards(self) -> Endpoint:
        """The Redis of guards and progress: with only a Redis broker named, that server."""
        broker = self.celery.celery_broker_url.get_secret_value()
        if broker and not self.redis.is_configured and scheme_of(broker) in SCHEMES:
            found = self.broker
            plain = found.tls is not None and found.url.startswith("redis://")
            return replace(found, url="rediss" + found.url[5:]) if plain else found
        return self._redis()

    @property
    def broker_url(self) -> str:
        """The broker's URL, password included: never log it."""
        return self.broker.url

    @property
    def redis_url(self) -> str:
        """The URL for guards and progress, password included: never log it."""
        return self.guards.url

    def _redis(self) -> Endpoint:
        redis, url = self.redis, self.redis.url
        uses_tls = redis.redis_use_ssl or url.startswith("rediss://")
        return Endpoint(
            url,
            tls=redis.tls_options if uses_tls else None,
            login=redis.login if url.startswith("sentinel://") else None,
        )

    def shown(self) -> dict[str, str]:
        """Every variable and its value, secrets masked, in the order of the groups."""
        return {
            name.upper(): _masked(getattr(group, name))
            for group in (getattr(self, field.name) for field in fields(self))
            for name in type(group).model_fields
        }


def load_settings(env_files: tuple[Path, ...] = ENV_FILES) -> Settings:
    """Read all groups.

    Raises:
        ConfigurationError: a variable is wrong; one line naming it.
    """
    settings = Settings(
        application=load_group(ApplicationSettings, env_files),
        database=load_group(DatabaseSettings, env_files),
        redis=load_group(RedisSettings, env_files),
        celery=load_group(CelerySettings, env_files),
        delivery=load_group(DeliverySettings, env_files),
        metrics=load_group(MetricsSettings, env_files),
        presence=load_group(PresenceSettings, env_files),
        schedule=load_group(ScheduleSettings, env_files),
        flower=load_group(FlowerSettings, env_files),
        storage=load_group(StorageSettings, env_files),
        indexing=load_group(IndexingSettings, env_files),
        mail=load_group(MailSettings, env_files),
        vectors=load_group(VectorSettings, env_files),
        embedding=load_group(EmbeddingSettings, env_files),
        fetching=load_group(FetchingSettings, env_files),
        generation=load_group(GenerationSettings, env_files),
        tracing=load_group(TracingSettings, env_files),
        answers=load_group(AnswerSettings, env_files),
        trace_export=load_group(TraceExportSettings, env_files),
        telemetry=load_group(TelemetrySettings, env_files),
    )
    _require_a_vector_store(settings)
    return settings


def _require_a_vector_store(settings: Settings) -> None:
    if settings.database.is_mysql and settings.vectors.vector_store == "pgvector":
        raise ConfigurationError(
            "VECTOR_STORE: pgvector is PostgreSQL's; with MariaDB or MySQL set VECTOR_STORE=qdrant "
            "and QDRANT_URL"
        )


def env_example() -> str:
    """The text of ``.env.example``: every variable, what it means, its default."""
    lines = ["# Generated from shared/settings by `rag-worker config example`; copy to .env."]
    for name, group in GROUPS:
        lines += ["", f"# --- {name} ---"]
        for field, info in group.model_fields.items():
            default = info.default
            text = default.get_secret_value() if isinstance(default, SecretStr) else default
            shown = str(text).lower() if isinstance(text, bool) else "" if text is None else text
            lines += [f"# {info.description}", f"#{field.upper()}={shown}"]
    return "\n".join(lines) + "\n"


def _masked(value: object) -> str:
    if isinstance(value, SecretStr):
        return "********" if value.get_secret_value() else ""
    return masked(str(value))
