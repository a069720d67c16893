"""What this installation tells about itself: spans to a collector, errors to Sentry.

The variables of OpenTelemetry have its names; those that are not here its SDK reads
from the environment itself: https://opentelemetry.io/docs/languages/sdk-configuration/
"""

from typing import Literal

from pydantic import Field, SecretStr, field_validator

from shared.settings.base import SettingsGroup


class TelemetrySettings(SettingsGroup):
    telemetry_enabled: bool = Field(
        default=False,
        description="Sends spans to an OpenTelemetry collector; needs the extra telemetry.",
    )
    otel_service_name: str = Field("rag-worker", description="What traces call this service.")
    otel_exporter_otlp_endpoint: str = Field(
        "http://localhost:4318", description="The collector, OTLP over HTTP; without /v1/traces."
    )
    otel_exporter_otlp_headers: SecretStr = Field(
        SecretStr(""), description="What the collector wants in each request: name=value,name=value"
    )
    otel_exporter_otlp_compression: Literal["gzip", "deflate", "none"] = Field(
        "gzip", description="How spans are packed."
    )
    otel_exporter_otlp_timeout: float = Field(
        10, gt=0, description="Seconds that the collector gets to take some spans."
    )
    otel_traces_sampler: Literal[
        "always_on",
        "always_off",
        "traceidratio",
        "parentbased_always_on",
        "parentbased_always_off",
        "parentbased_traceidratio",
    ] = Field("parentbased_always_on", description="Which traces are recorded.")
    otel_traces_sampler_arg: float = Field(
        1.0, ge=0, le=1, description="The share that traceidratio records."
    )
    sentry_dsn: SecretStr = Field(
        SecretStr(""), description="Where errors are reported; needs the extra sentry."
    )
    sentry_environment: str = Field("production", description="What Sentry calls it.")
    sentry_traces_sample_rate: float = Field(
        0.0, ge=0, le=1, description="The share of tasks and requests whose times Sentry gets."
    )

    @field_validator("otel_exporter_otlp_endpoint")
    @classmethod
    def _is_a_url(cls, value: str) -> str:
        if not value.startswith(("http://", "https://")):
            raise ValueError("not an address: write http://collector:4318")
        return value.rstrip("/")

    @field_validator("otel_exporter_otlp_headers")
    @classmethod
    def _are_pairs(cls, value: SecretStr) -> SecretStr:
        header_pairs(value.get_secret_value())
        return value

    @field_validator("sentry_dsn")
    @classmethod
    def _is_a_dsn(cls, value: SecretStr) -> SecretStr:
        given = value.get_secret_value()
        if given and ("://" not in given or "@" not in given):
            raise ValueError("not a DSN: write https://KEY@HOST/PROJECT, as Sentry shows it")
        return value

    @property
    def collector_headers(self) -> dict[str, str]:
        """``OTEL_EXPORTER_OTLP_HEADERS`` by name."""
        return header_pairs(self.otel_exporter_otlp_headers.get_secret_value())


def header_pairs(value: str) -> dict[str, str]:
    """Headers that are written ``name=value,name=value``."""
    pairs = [one.partition("=") for one in value.split(",") if one.strip()]
    if not all(name.strip() and equals for name, equals, _ in pairs):
        raise ValueError("not name=value,name=value")
    return {name.strip().lower(): found.strip() for name, _, found in pairs}
