"""One mail is sent: claimed, composed, handed over, and what the provider said is written down.

``sending`` is committed right before the point of no return. A worker that dies, or
a connection that is cut, after it leaves a mail that may have arrived: its row says
``unknown``, and one more copy goes out with the same Message-ID.
"""

import logging
import random
import time
from functools import partial
from typing import Any
from uuid import UUID

from shared.errors import (
    AttemptsExhausted,
    ConfigurationError,
    MailDeferred,
    MailRefused,
    Permanent,
    RagWorkerError,
    RateLimited,
)
from shared.models import MailStatus
from shared.queueing.outage import SERVER_LOST
from shared.submitting.files import storable
from worker.delivery import runs
from worker.delivery.lease import Ago
from worker.delivery.leased_run import attempts_after, run_leased
from worker.providers.mailer import Mailer, Receipt
from worker.services.mail.claiming import (
    MOST_COPIES,
    ClaimedMail,
    handed_over_twice,
    opened,
    require_attempts_left,
    take_mail,
)
from worker.services.mail.needs import MailNeeds
from worker.services.mail.waiting_mail import WaitingMail

logger = logging.getLogger(__name__)

#: A mail whose turn is further away goes back into the outbox.
_LONGEST_WAIT_SECONDS = 1.0
#: What the provider confirmed is written down for so long, whatever the database does.
_RECORDING_SECONDS = 30.0
_DISABLED = "mail is switched off (MAIL_TYPE is empty): set it, then `rag-worker mail retry`"


def deliver_mail(delivery_id: UUID, needs: MailNeeds) -> MailStatus | None:
    """Send the mail of a delivery row.

    Delivered twice it does nothing the second time. Late is no different.

    Returns:
        How it ended; ``None`` when it had ended before.

    Raises:
        SubjectGone: (superseded) the row was deleted.
        LeaseLost: (superseded) another worker took it over.
        LeaseHeld: (superseded) another worker has it now.
        MailDeferred: (transient) the provider did not take it.
        MailUnconfirmed: (transient) it may have been taken: one more copy will follow.
        RateLimited: (transient) its turn is later.
        MailRefused: (permanent) by the provider; written to the row's ``error``.
        AttemptsExhausted: (permanent) likewise.
    """
    claimed = take_mail(delivery_id, needs)
    if claimed is None:
        return None
    attempt = _Attempt(claimed, needs)
    return run_leased(
        attempt.run, claimed.lease, attempt, heartbeat=needs.heartbeat, words=_unrevealing
    )


def _unrevealing(error: Exception) -> str:
    # What a library says of itself may hold the mail's text.
    return str(error) if isinstance(error, RagWorkerError) else f"unexpected {type(error).__name__}"


class _Attempt:
    def __init__(self, claimed: ClaimedMail, needs: MailNeeds) -> None:
        self._claimed = claimed
        self._lease = claimed.lease
        self._needs = needs
        self._mail: WaitingMail | None = None
        self._mailer: Mailer | None = None
        self._is_handed_over = False

    def run(self) -> MailStatus:
        """Send it."""
        runs.checkpoint()
        mail = self._mail = opened(self._claimed, self._needs)
        require_attempts_left(mail, self._lease, self._needs)
        mailer = self._mailer = self._needs.mailer()
        if mailer is None:
            return self._disable(mail)
        letter = self._needs.composer.compose(mail)
        self._await_turn()
        receipt = mailer.send(
            letter,
            str(mail.delivery_id),
            partial(self._hand_over, mail, mailer.name),
        )
        return self._record(mail, receipt)

    def hand_back(self, error: Exception) -> None:
        """Free the row for the next delivery; ``error`` says what stopped this attempt.

        Raises:
            AttemptsExhausted: (permanent) two copies are out and nobody confirmed one.
        """
        copies = self._copies_after(error)
        if copies >= MOST_COPIES:
            exhausted = AttemptsExhausted(handed_over_twice(error))
            self.fail(exhausted)
            raise exhausted from error
        values: dict[str, Any] = {
            "error": storable(f"attempt {self._lease.attempt}: {error}"),
            "attempts": attempts_after(self._lease, error),
        }
        if isinstance(error, MailDeferred):
            values["provider_words"] = storable(str(error))
        if self._mail is not None:
            values["status"] = MailStatus.UNKNOWN if copies else MailStatus.QUEUED
            values["copies"] = copies
        self._needs.rows.release(self._lease, **values)

    def fail(self, error: Permanent | ConfigurationError) -> None:
        """End the row as ``failed``; its secrets stay sealed, for a retry."""
        reason = str(error)
        if 0 < self._copies_after(error) < MOST_COPIES:
            reason = f"{reason} (an earlier copy may have arrived)"
        values: dict[str, Any] = {"status": MailStatus.FAILED, "error": storable(reason)}
        if self._mailer is not None:
            values["provider"] = self._mailer.name
        if isinstance(error, MailRefused):
            values["provider_words"] = storable(str(error))
        self._needs.rows.release(self._lease, ended_at=Ago(), **values)
        self._log(MailStatus.FAILED, reason)

    def _copies_after(self, error: Exception) -> int:
        before = self._mail.copies if self._mail is not None else 0
        # The provider said so itself: it has not got this copy.
        is_out = self._is_handed_over and not isinstance(error, (MailDeferred, MailRefused))
        return min(before + is_out, self._most_copies())

    def _most_copies(self) -> int:
        # Where a second copy with the same key goes to nobody, it does not count.
        is_once = self._mailer is not None and self._mailer.sends_key_once
        return 1 if is_once else MOST_COPIES

    def _disable(self, mail: WaitingMail) -> MailStatus:
        self._needs.rows.release(
            self._lease, status=MailStatus.DISABLED, error=_DISABLED, ended_at=Ago()
        )
        logger.warning(
            "mail %s (%s) is not sent: %s",
            mail.delivery_id,
            mail.kind.name,
            _DISABLED,
            extra={"action": "mail.disabled", "delivery_id": str(mail.delivery_id)},
        )
        return MailStatus.DISABLED

    def _await_turn(self) -> None:
        rate = self._needs.rate
        if rate is None:
            return
        wait_seconds = rate.reserve(_LONGEST_WAIT_SECONDS)
        if wait_seconds < 0:
            spread = 1 + random.random()  # noqa: S311 - spreading load, not a secret
            raise RateLimited(retry_after_seconds=-wait_seconds * spread)
        if wait_seconds:
            time.sleep(wait_seconds)
            runs.checkpoint()

    def _hand_over(self, mail: WaitingMail, provider: str) -> None:
        self._needs.rows.renew(
            self._lease,
            status=MailStatus.UNKNOWN if mail.copies else MailStatus.SENDING,
            copies=min(mail.copies + 1, self._most_copies()),
            handed_over_at=Ago(),
            provider=provider,
            header_id=self._needs.composer.header_id(mail),
        )
        self._is_handed_over = True

    def _record(self, mail: WaitingMail, receipt: Receipt) -> MailStatus:
        status = MailStatus.RESENT if mail.copies else MailStatus.SENT
        give_up = time.monotonic() + _RECORDING_SECONDS
        while True:
            try:
                self._needs.rows.release(
                    self._lease,
                    status=status,
                    error=mail.last_error if status is MailStatus.RESENT else None,
                    provider_id=receipt.provider_id,
                    provider_words=storable(receipt.words),
                    secrets=None,
                    ended_at=Ago(),
                )
                break
            except SERVER_LOST:
                # It is delivered: forgetting that would send it twice.
                if time.monotonic() > give_up:
                    raise
                time.sleep(0.5)
        self._log(status, receipt.words)
        return status

    def _log(self, status: MailStatus, words: str) -> None:
        mail = self._mail
        logger.log(
            logging.WARNING if status is MailStatus.FAILED else logging.INFO,
            "mail %s (%s) %s: %s",
            self._lease.row_id,
            mail.kind.name if mail else "?",
            status,
            words,
            extra={"action": f"mail.{status}", "delivery_id": str(self._lease.row_id)},
        )
