"""Presence: workers say that they live, and prove that they consume."""

import os
import tempfile
from pathlib import Path

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
    live_seconds: float = Field(
        20, gt=1, description="A worker that gave no sign of life for this long is not alive."
    )
    presence_dir: Path | None = Field(
        None,
        description="Folder of the workers' signs of life, for `rag-worker health --live` on the "
        "same host; empty: rag-worker-UID in the folder for temporary files.",
    )

    @property
    def signs_folder(self) -> Path:
        """The folder of the signs of life."""
        own = Path(tempfile.gettempdir()) / f"rag-worker-{os.getuid()}"
        return (self.presence_dir or own).absolute()
