"""Presence: workers say that they live, and prove that they consume."""

from pydantic import Field

from shared.settings.base import SettingsGroup


class PresenceSettings(SettingsGroup):
    presence_seconds: float = Field(
        10, gt=0, description="How often a worker writes that it lives and what it has in hand."
    )
    wedged_seconds: float = Field(
        90,
        gt=0,
        description="A worker that takes nothing for this long, with room and work, is restarted.",
    )
    probe_seconds: float = Field(
        30, ge=1, description="How often an empty queue gets a message that proves it is consumed."
    )
