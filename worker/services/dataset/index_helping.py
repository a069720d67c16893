"""A process that is no worker does parts of a change of the index itself, beside the workers."""

from uuid import UUID

from sqlalchemy import text

from shared.errors import LeaseHeld, Superseded
from worker.services.dataset.index_building import build_documents
from worker.services.dataset.index_changing import change_index
from worker.services.dataset.index_cleaning import clean_index
from worker.services.dataset.index_needs import IndexNeeds, find_build

_FREE = text("""
    SELECT document_id FROM index_build_documents
    WHERE build_id = :build_id AND status = 'waiting'
      AND (lease_expires_at IS NULL OR lease_expires_at < now())
    ORDER BY document_id LIMIT 1
""")


def help_build(build_id: UUID, needs: IndexNeeds) -> bool:
    """Do one part that nobody has in hand; after the last one switch, and clean up.

    Returns:
        Whether there was something to do; not so when all that is left is in other hands.

    Raises:
        Transient: the part is tried again by whoever comes first.
        Permanent: the build is given up; its ``error`` says why.
    """
    with needs.sessions() as session:
        build = find_build(session, build_id)
        free = session.scalar(_FREE, {"build_id": build_id})
    if build is None:
        return False
    try:
        if free is None:
            change_index(build.dataset_id, build.action, build_id, needs)
        else:
            build_documents(build_id, [free], needs)
    except LeaseHeld:
        return False
    except Superseded:
        return True
    with needs.sessions() as session:
        is_over = find_build(session, build_id) is None
    if is_over:
        clean_index(build.dataset_id, needs)
        needs.vectors.collect()
    return free is not None
