"""A provider that is down is left alone, by all workers; what waits for it costs nobody anything.

See ``shared.models.trace_breaker`` for the three states.
"""

import logging
import random
from dataclasses import dataclass
from datetime import datetime
from enum import Enum, auto
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session

from shared.submitting.files import storable
from worker.services.ops_trace.export_needs import BreakerRules

logger = logging.getLogger(__name__)

_STATE = text("SELECT open_until FROM trace_breakers WHERE config_id = :config_id")
_PROBE = text("""
    UPDATE trace_breakers
    SET probe_until = statement_timestamp() + make_interval(secs => :seconds)
    WHERE config_id = :config_id AND open_until <= now()
      AND (probe_until IS NULL OR probe_until < now())
    RETURNING config_id
""")
_WITHDRAW = text("UPDATE trace_breakers SET probe_until = NULL WHERE config_id = :config_id")
_FAILED = text("""
    INSERT INTO trace_breakers AS breaker (config_id, failures, reason)
    SELECT id, 1, :reason FROM trace_configs WHERE id = :config_id
    ON CONFLICT (config_id) DO UPDATE
    SET failures = breaker.failures + 1, reason = excluded.reason
    RETURNING failures, openings, open_until IS NOT NULL AS is_open,
              coalesce(open_until > now(), false) AS is_waiting
""")
_OPEN = text("""
    UPDATE trace_breakers
    SET openings = openings + :opened, probe_until = NULL,
        open_until = greatest(
            open_until, statement_timestamp() + make_interval(secs => :seconds)
        )
    WHERE config_id = :config_id
    RETURNING CAST(extract(epoch FROM open_until - statement_timestamp()) AS float8) AS seconds
""")
# A success that was under way when it was opened does not close it.
_SUCCEEDED = text("""
    DELETE FROM trace_breakers
    WHERE config_id = :config_id AND (open_until IS NULL OR open_until <= now())
    RETURNING open_until IS NOT NULL AS was_open
""")


class Admission(Enum):
    """Whether spans may be sent to a provider now."""

    CLOSED = auto()  #: nothing is wrong
    PROBE = auto()  #: this one, and nobody else, may try
    OPEN = auto()  #: not now


@dataclass(frozen=True, slots=True)
class FailingProvider:
    """What an operator sees of a provider that fails."""

    config_id: UUID
    tenant_id: UUID
    app_id: str | None
    provider: str
    failures: int
    reason: str
    failing_since: datetime
    open_until: datetime | None

    @property
    def words(self) -> str:
        """One sentence."""
        since = f"{self.failures} failures since {self.failing_since:%Y-%m-%d %H:%M:%S %Z}"
        if self.open_until is None:
            return f"{self.provider} fails: {since}; {self.reason}"
        until = f"{self.open_until:%H:%M:%S %Z}"
        return (
            f"{self.provider} is left alone, its traces wait: {since}, next try after {until}; "
            f"{self.reason}"
        )


_FAILING = text("""
    SELECT config.id AS config_id, tenant_id, app_id, provider, failures, reason, failing_since,
           open_until
    FROM trace_breakers JOIN trace_configs AS config ON config.id = config_id
    WHERE CAST(:tenant_id AS uuid) IS NULL OR tenant_id = CAST(:tenant_id AS uuid)
    ORDER BY failing_since
""")


def failing_providers(session: Session, tenant_id: UUID | None = None) -> list[FailingProvider]:
    """The providers, a tenant's or everybody's, whose latest request failed."""
    rows = session.execute(_FAILING, {"tenant_id": tenant_id})
    return [FailingProvider(**row) for row in rows.mappings()]


def admit(session: Session, config_id: UUID, probe_seconds: float) -> Admission:
    """Ask whether spans may be sent now; ``PROBE`` is given to one caller only.

    Args:
        session: its transaction is the claim's.
        config_id: the provider's configuration.
        probe_seconds: how long that caller may take to tell.
    """
    values = {"config_id": config_id}
    row = session.execute(_STATE, values).one_or_none()
    if row is None or row.open_until is None:
        return Admission.CLOSED
    taken = session.execute(_PROBE, {**values, "seconds": probe_seconds}).one_or_none()
    return Admission.OPEN if taken is None else Admission.PROBE


def withdraw(session: Session, config_id: UUID) -> None:
    """The probe has nothing to try with: the next one may."""
    session.execute(_WITHDRAW, {"config_id": config_id})


def note_failure(
    session: Session,
    config_id: UUID,
    reason: str,
    rules: BreakerRules,
    *,
    wanted_seconds: float | None = None,
    is_at_once: bool = False,
) -> float | None:
    """Count a failed request.

    Args:
        session: the caller's.
        config_id: the provider's configuration.
        reason: the provider's words.
        rules: when it opens.
        wanted_seconds: what the provider asked for: it is left alone at once.
        is_at_once: likewise, for as long as the rules say.

    Returns:
        Seconds until the next try; ``None`` while it stays closed, or is gone.
    """
    values = {"config_id": config_id, "reason": storable(reason)}
    row = session.execute(_FAILED, values).one_or_none()
    if row is None:
        return None
    opens = row.is_open or row.failures >= rules.failures or is_at_once
    if not opens and wanted_seconds is None:
        return None
    # Failures of requests that were under way already are the same failure.
    openings = max(row.openings - int(row.is_waiting), 0)
    if wanted_seconds is None:
        seconds = _seconds(openings, rules)
    else:  # "after 0 seconds" is no pause
        seconds = max(wanted_seconds, min(1.0, rules.shortest_seconds))
    values = {"config_id": config_id, "seconds": seconds, "opened": int(not row.is_waiting)}
    left = session.execute(_OPEN, values).scalar_one()
    logger.warning(
        "the provider of trace configuration %s is left alone for %.1f s after %s failures: %s",
        config_id,
        left,
        row.failures,
        reason,
        extra={"action": "trace.breaker_opened", "config_id": str(config_id)},
    )
    return max(float(left), 0.0)


def note_success(session: Session, config_id: UUID) -> bool:
    """Forget the failures; returns whether the breaker was open until now."""
    row = session.execute(_SUCCEEDED, {"config_id": config_id}).one_or_none()
    if row is None or not row.was_open:
        return False
    logger.info(
        "the provider of trace configuration %s is back",
        config_id,
        extra={"action": "trace.breaker_closed", "config_id": str(config_id)},
    )
    return True


def backoff_seconds(attempt: int, rules: BreakerRules) -> float:
    """The wait of a trace whose provider failed, while the breaker is closed."""
    return _seconds(max(attempt - 1, 0), rules) / 2


def _seconds(openings: int, rules: BreakerRules) -> float:
    ceiling = min(rules.longest_seconds, rules.shortest_seconds * 2 ** min(openings, 30))
    return float(ceiling * random.uniform(0.5, 1))  # noqa: S311 - spreading load, not a secret
