"""Sending traces: requests, batches, and the patience with a provider that is down."""

from typing import Self

from pydantic import Field, model_validator

from shared.settings.base import SettingsGroup


class TraceExportSettings(SettingsGroup):
    trace_timeout_seconds: float = Field(
        10, gt=0, description="How long a trace provider may take to answer a request."
    )
    trace_max_connections: int = Field(
        32, ge=1, description="Connections to trace providers, of each worker process."
    )
    trace_batch_traces: int = Field(
        200, ge=1, description="Most traces of one provider that a task sends."
    )
    trace_batch_spans: int = Field(5000, ge=1, description="Most spans that a task sends.")
    trace_max_attempts: int = Field(
        20,
        ge=1,
        description="Attempts at a trace, while its provider takes others, before it ends.",
    )
    trace_breaker_failures: int = Field(
        3, ge=1, description="Failed requests in a row after which a provider is left alone."
    )
    trace_breaker_shortest_seconds: float = Field(
        5, gt=0, description="For how long, the first time; each further time twice as long."
    )
    trace_breaker_longest_seconds: float = Field(
        300, gt=0, description="For how long at most, unless the provider asks for more."
    )

    @model_validator(mode="after")
    def _must_be_in_order(self) -> Self:
        if self.trace_breaker_longest_seconds < self.trace_breaker_shortest_seconds:
            raise ValueError(
                "TRACE_BREAKER_LONGEST_SECONDS is below TRACE_BREAKER_SHORTEST_SECONDS"
            )
        return self
