"""Files at paths are submitted and followed to their end."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

from flask import current_app
from rich.console import Console

from shared.errors import ServiceUnavailable
from shared.models import DocumentStatus
from shared.models.process_rule import parse_process_rule
from shared.queueing.publishing import BROKER_ERRORS
from shared.submitting.dataset import Outcome, Submission
from shared.submitting.urls import checked_url
from worker.cli.following import Seen
from worker.cli.found_files import found_files
from worker.cli.progress import show_progress
from worker.cli.submitting import AS_BEFORE, Manner, ensure_place, submit_files
from worker.cli.url_sources import await_fetched, submit_all


@dataclass(frozen=True, slots=True)
class IndexedFile:
    """A file, its document where there is one, and why it failed where it did."""

    name: str
    document_id: UUID | None
    reason: str | None = None


@dataclass(slots=True)
class IndexReport:
    """What became of the files."""

    dataset_id: UUID
    indexed: list[IndexedFile] = field(default_factory=list)
    unchanged: list[IndexedFile] = field(default_factory=list)
    submitted: list[IndexedFile] = field(default_factory=list)
    failed: list[IndexedFile] = field(default_factory=list)


def index_paths(
    paths: tuple[Path, ...],
    tenant: str,
    dataset: str,
    *,
    wait: bool,
    timeout_seconds: float,
    manner: Manner = AS_BEFORE,
    urls: tuple[str, ...] = (),
    check: Callable[[], None] = lambda: None,
) -> IndexReport:
    """Submit the files at the paths, and URLs, and, if asked to, follow them to their end.

    ``check`` is called at every look and may raise to end it.

    Raises:
        InvalidRequest: the dataset or the rule is not of this manner, or a URL is none.
        ServiceUnavailable: nobody can follow, the broker is away; what is accepted stays so.
    """
    if manner.rule is not None:
        parse_process_rule(manner.rule)  # before a dataset is made for it
    for url in urls:
        checked_url(url)  # likewise
    tenant_id, dataset_id = ensure_place(tenant, dataset, manner)
    files = found_files(paths)
    submissions, unreadable = submit_files(tenant_id, dataset_id, files, manner.rule)
    report = IndexReport(dataset_id)
    report.failed += [IndexedFile(name, None, reason) for name, reason in unreadable]
    work: dict[UUID, str] = {}
    for one in submissions:
        if one.will_be_indexed:
            work[one.document_id] = one.name
        else:
            _sort_in(report, one)
    fetched: dict[UUID, str] = {}
    for source in submit_all(dataset_id, urls):
        if source.will_be_fetched:
            fetched[source.document_id] = source.url
        else:
            refusal = f"is {source.outcome}: see `rag-worker why`"
            report.failed.append(IndexedFile(source.url, source.document_id, refusal))
    work |= fetched
    if not wait:
        report.submitted = [IndexedFile(name, one) for one, name in work.items()]
        return report
    if work:
        _require_broker(len(work))
    await_fetched(list(fetched), timeout_seconds, check)
    ended = {
        one.id: one
        for one in show_progress(Console(stderr=True), list(work), timeout_seconds, check)
    }
    for document_id, name in work.items():
        reason = _reason(ended.get(document_id))
        (report.failed if reason else report.indexed).append(IndexedFile(name, document_id, reason))
    return report


def _require_broker(number: int) -> None:
    try:
        with current_app.extensions["celery"].connection_for_write() as connection:
            connection.ensure_connection(max_retries=1, interval_start=0)
    except BROKER_ERRORS as error:
        raise ServiceUnavailable(
            f"the broker does not answer ({error}): {number} accepted documents wait, "
            "and are indexed when it does"
        ) from error


def _sort_in(report: IndexReport, one: Submission) -> None:
    if one.outcome is Outcome.UNCHANGED:
        report.unchanged.append(IndexedFile(one.name, one.document_id))
    elif one.outcome is Outcome.PAUSED:
        reason = f"is paused: rag-worker documents resume {one.document_id}"
        report.failed.append(IndexedFile(one.name, one.document_id, reason))
    else:
        reason = "an earlier version is being indexed: index it again afterwards"
        report.failed.append(IndexedFile(one.name, one.document_id, reason))


def _reason(seen: Seen | None) -> str | None:
    """Why a followed document is not indexed, ``None`` when it is."""
    if seen is None:
        return "not finished in time; it goes on: see status"
    if seen.status is DocumentStatus.COMPLETED:
        return seen.error  # of a URL that is gone, whose content goes on serving
    return seen.error or str(seen.status)
