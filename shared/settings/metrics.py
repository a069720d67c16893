"""Metrics: where Prometheus finds them, and how many series they may be."""

from pydantic import Field

from shared.settings.base import SettingsGroup


class MetricsSettings(SettingsGroup):
    metrics_port: int = Field(
        0, ge=0, le=65535, description="Where each worker serves Prometheus metrics; 0: nowhere."
    )
    metrics_ports: int = Field(
        10,
        ge=1,
        description="From that port on, how many a worker tries: each of a host takes a free one.",
    )
    metrics_host: str = Field(
        "127.0.0.1", description="The address for that; 0.0.0.0 is every one of the host."
    )
    metrics_tenants_max: int = Field(
        50, ge=0, description="Tenants with series of their own; the rest are `other` together."
    )
