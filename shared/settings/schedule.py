"""The schedule: what beat sends, when, and how long things are kept."""

import re

from pydantic import Field, field_validator

from shared.settings.base import SettingsGroup

_ADDRESS = re.compile(r"[^@\s,]+@[^@\s,]+")


class ScheduleSettings(SettingsGroup):
    beat_lock_seconds: float = Field(
        15, ge=2, description="A beat that dies frees the schedule for another after this long."
    )
    enable_sweep_task: bool = Field(
        default=True, description="Beat has what got stuck sent out again; workers do so anyway."
    )
    enable_probe_task: bool = Field(
        default=True, description="Beat sends the messages that prove that queues are consumed."
    )
    enable_clean_results_task: bool = Field(
        default=True, description="Delete results after CELERY_RESULT_EXPIRES_SECONDS, hourly."
    )
    enable_clean_outbox_task: bool = Field(
        default=True,
        description="Daily: dead letters for messages no task takes, and DEAD_LETTER_DAYS.",
    )
    enable_clean_embedding_cache_task: bool = Field(
        default=True, description="Delete vectors unused for EMBEDDING_CACHE_DAYS, daily."
    )
    enable_clean_mail_task: bool = Field(
        default=True, description="Delete ended mails after MAIL_RETENTION_DAYS, daily."
    )
    enable_clean_traces_task: bool = Field(
        default=True, description="Delete old traces by TRACE_*_RETENTION_DAYS, hourly."
    )
    enable_clean_unused_datasets_task: bool = Field(
        default=False, description="Disable documents of datasets nobody uses, daily."
    )
    enable_mail_clean_document_notify_task: bool = Field(
        default=True, description="Tell owners weekly which documents were disabled so."
    )
    enable_dead_letter_alert_task: bool = Field(
        default=True, description="Log an error for new dead letters, every 10 minutes."
    )
    enable_queue_monitor_task: bool = Field(
        default=True, description="Look at backlogs and consumers; see QUEUE_MONITOR_SECONDS."
    )
    enable_clean_orphaned_files_task: bool = Field(
        default=True, description="Look for stored files that no row names, daily."
    )
    enable_reconcile_vectors_task: bool = Field(
        default=True, description="Compare segments with their vectors, both ways, daily."
    )
    enable_index_vectors_task: bool = Field(
        default=True, description="Build indexes over the vectors of large datasets, hourly."
    )
    unused_datasets_days: int = Field(
        30, ge=1, description="A dataset neither searched nor changed for so long is unused."
    )
    auto_disable_log_days: int = Field(
        90, ge=1, description="How long the log of what was disabled so is kept."
    )
    dead_letter_days: int = Field(
        0, ge=0, description="Dead letters are deleted after this; 0: only by people."
    )
    dead_letter_alert_emails: str = Field(
        "", description="Who gets a mail of new dead letters, with commas between."
    )
    queue_monitor_seconds: float = Field(60, ge=1, description="How often queues are looked at.")
    queue_monitor_threshold: int = Field(
        10000, ge=0, description="Messages waiting in a queue that are too many; 0: any number."
    )
    queue_monitor_oldest_seconds: float = Field(
        3600, ge=0, description="Age of the oldest waiting message that is too much; 0: any."
    )
    queue_monitor_alert_emails: str = Field(
        "", description="Who gets a mail when a queue needs looking after, with commas between."
    )
    alert_mail_seconds: float = Field(
        3600, ge=60, description="The same alert is mailed at most once in this time."
    )

    storage_orphan_days: int = Field(
        7, ge=1, description="Stored files no row names are orphans after this."
    )
    storage_orphans_delete: bool = Field(
        default=False, description="Delete them; only if no other database uses the storage."
    )
    vector_orphans_delete: bool = Field(
        default=False,
        description="Delete an external store's vectors without rows; if nobody shares it.",
    )
    vectors_rebuild: bool = Field(
        default=True, description="Datasets whose segments lack vectors get a new index."
    )

    @field_validator("dead_letter_alert_emails", "queue_monitor_alert_emails")
    @classmethod
    def _are_addresses(cls, value: str) -> str:
        wrong = [one for one in addresses(value) if not _ADDRESS.fullmatch(one)]
        if wrong:
            raise ValueError(f"{wrong[0]!r} is no mail address")
        return value


def addresses(listed: str) -> list[str]:
    """The addresses of a setting."""
    return [one.strip() for one in listed.split(",") if one.strip()]
