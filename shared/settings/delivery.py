"""Delivery: outbox, leases, retries, deadlines."""

from pydantic import Field

from shared.settings.base import SettingsGroup


class DeliverySettings(SettingsGroup):
    delivery_lease_seconds: float = Field(
        60, ge=1, description="How long a silent worker keeps what it works on."
    )
    delivery_max_attempts: int = Field(
        10, ge=1, description="Pick-ups of a message before it becomes a dead letter."
    )
    delivery_max_deaths: int = Field(
        3, ge=1, description="Workers that may die on a message or document before it ends."
    )
    delivery_retry_budget_seconds: float = Field(
        86400, ge=1, description="How long after it was accepted a message is still retried."
    )
    delivery_task_deadline_seconds: float = Field(
        3300, gt=0, description="A task that runs for longer is ended, in every pool."
    )
    delivery_stall_seconds: float = Field(
        600, gt=0, description="A task that reports no progress for this long is ended."
    )
    delivery_unstoppable_seconds: float = Field(
        15, gt=0, description="A task that does not end when told to costs its process then."
    )
    delivery_shutdown_grace_seconds: float = Field(
        20, ge=0, description="After SIGTERM, running tasks hand back their work this much later."
    )
    outbox_poll_seconds: float = Field(
        1, gt=0, description="How often a worker looks for messages nobody announced."
    )
    outbox_tenant_cap: int = Field(
        64,
        ge=1,
        description="Messages under way of a tenant in one queue; alone: beyond the slots.",
    )
    outbox_high_water_mark: int = Field(
        1000, ge=1, description="Messages waiting in a broker queue above which none are added."
    )
    outbox_redelivery_seconds: float = Field(
        60, ge=1, description="A message nobody started for this long is looked for in the broker."
    )
    sweep_seconds: float = Field(
        30, ge=1, description="How often the sweeper looks for what got stuck."
    )
