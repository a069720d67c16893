"""Documents of one message are claimed together: a transaction for all, not one for each.

A worker that dies meanwhile counts against each of them, though it was at one. So only those
are claimed so that no worker died on; after such a death each travels alone.
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from uuid import UUID

from sqlalchemy import text

from shared.errors import Superseded
from shared.models import Document
from shared.queueing.outage import SERVER_LOST
from worker.services.dataset.claiming import Job, claim_documents
from worker.services.dataset.needs import IndexingNeeds

logger = logging.getLogger(__name__)

_HAND_BACK = text("""
    UPDATE documents
    SET indexing_status = 'waiting', lease_expires_at = NULL, lease_owner = NULL,
        attempts = attempts - 1
    FROM unnest(CAST(:ids AS uuid[]), CAST(:tokens AS bigint[])) AS held(id, token)
    WHERE documents.id = held.id AND documents.lease_token = held.token
""")


@contextmanager
def claimed_together(
    documents: Sequence[UUID], dataset_id: UUID, needs: IndexingNeeds
) -> Iterator[dict[UUID, Job]]:
    """The jobs of those that could be claimed at once; whoever begins one takes it out.

    Their leases are kept while the block runs. What is left at its end is handed back: it was
    not begun, and the attempt does not count. The others have to be claimed by themselves:
    they are gone, ended, held by somebody, or not to be claimed with others.
    """
    jobs = _claimed(documents, dataset_id, needs)
    with ExitStack() as kept:
        for job in jobs.values():
            kept.enter_context(needs.heartbeat.keep(job.lease, ends_run=False))
        try:
            yield jobs
        finally:
            if jobs:
                _hand_back(list(jobs.values()), needs)


def _claimed(documents: Sequence[UUID], dataset_id: UUID, needs: IndexingNeeds) -> dict[UUID, Job]:
    if needs.max_deaths == 1:  # the death of this worker would end them all
        return {}
    try:
        with needs.sessions.begin() as session:
            return claim_documents(session, documents, dataset_id, needs.lease_seconds)
    except Superseded:  # one of another dataset is among them, which its own claim says
        return {}


def _hand_back(jobs: Sequence[Job], needs: IndexingNeeds) -> None:
    give_back = partial(_give_back, jobs, needs)
    try:
        give_back()
    except SERVER_LOST as lost:
        # Should this process end before that, the leases run out by themselves.
        needs.heartbeat.owe(give_back)
        logger.warning(
            "%d documents not handed back: %s",
            len(jobs),
            lost,
            extra={"action": "lease.not_handed_back", "table": Document.__tablename__},
        )


def _give_back(jobs: Sequence[Job], needs: IndexingNeeds) -> None:
    values = {
        "ids": [str(one.document_id) for one in jobs],
        "tokens": [one.lease.token for one in jobs],
    }
    with needs.sessions.begin() as session:
        session.execute(_HAND_BACK, values)
