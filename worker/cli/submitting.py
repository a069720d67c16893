"""Files from this machine are submitted and announced, a batch a transaction."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any
from uuid import UUID

from flask import current_app
from sqlalchemy.orm import Session

from shared.errors import InvalidRequest
from shared.models import Dataset, db
from shared.settings import Settings
from shared.settings.embedding import EmbeddingSettings
from shared.submitting.dataset import (
    Submission,
    ensure_dataset,
    ensure_tenant,
    submit_documents,
)
from shared.submitting.files import StoredFile, storable, store_file
from worker.cli.found_files import FoundFile
from worker.cli.transactions import committed

_BATCH_FILES = 100
#: Of the first: workers begin with it while the others are stored.
_FIRST_BATCH_FILES = 20


@dataclass(frozen=True, slots=True)
class Manner:
    """How files are to be indexed; what is unset stays as it is, or is the default.

    Attributes:
        technique: of a new dataset, ``high_quality`` or ``economy``.
        doc_form: of a new dataset, ``text_model`` and its kin.
        rule: how these files are cleaned and split from now on.
        embedding_provider: of a new dataset; the setting's, with its model, when unset.
        embedding_model: likewise.
    """

    technique: str | None = None
    doc_form: str | None = None
    rule: dict[str, Any] | None = None
    embedding_provider: str | None = None
    embedding_model: str | None = None


AS_BEFORE = Manner()


def ensure_place(tenant: str, dataset: str, manner: Manner = AS_BEFORE) -> tuple[UUID, UUID]:
    """The ids of the tenant and the dataset of these names, made when there are none.

    Raises:
        InvalidRequest: the dataset is of another technique, form or embedding model; or
            a provider is named without its model.
    """
    settings: Settings = current_app.extensions["settings"]
    provider, model = _embedding(manner, settings.embedding)
    with Session(db.engine) as session, session.begin():
        tenant_id = ensure_tenant(session, tenant)
        dataset_id = ensure_dataset(
            session,
            tenant_id,
            dataset,
            provider,
            model,
            technique=manner.technique,
            doc_form=manner.doc_form,
        )
        _require_embedding(session.get_one(Dataset, dataset_id), manner)
    return tenant_id, dataset_id


def _embedding(manner: Manner, settings: EmbeddingSettings) -> tuple[str, str]:
    if manner.embedding_provider is None:
        return settings.embedding_provider, manner.embedding_model or settings.embedding_model
    if manner.embedding_model is None:
        raise InvalidRequest(f"{manner.embedding_provider}: name its model as well")
    return manner.embedding_provider, manner.embedding_model


def _require_embedding(dataset: Dataset, manner: Manner) -> None:
    pairs = (
        (manner.embedding_provider, dataset.embedding_provider),
        (manner.embedding_model, dataset.embedding_model),
    )
    if any(wanted not in {None, found} for wanted, found in pairs):
        raise InvalidRequest(
            f"dataset {dataset.name} is embedded with {dataset.embedding_provider} "
            f"{dataset.embedding_model}: leave the option out, or take another dataset"
        )


def submit_files(
    tenant_id: UUID,
    dataset_id: UUID,
    files: Iterable[FoundFile],
    rule: dict[str, Any] | None = None,
) -> tuple[list[Submission], list[tuple[str, str]]]:
    """Store, submit and announce files.

    Returns:
        The submissions, and the names of files that could not be read with their reasons.

    Raises:
        InvalidRequest: the rule says something wrong, or does not go with the dataset's form.
        StorageFull: the storage has no room; hand the files in again.
        ServiceUnavailable: the storage does not answer; likewise.
    """
    submissions: list[Submission] = []
    unreadable: list[tuple[str, str]] = []
    remaining, number = iter(files), _FIRST_BATCH_FILES
    while batch := list(islice(remaining, number)):
        stored = _stored(tenant_id, batch, unreadable)
        submissions += _submitted(dataset_id, stored, rule)
        number = _BATCH_FILES
    return submissions, unreadable


def _stored(
    tenant_id: UUID, batch: Sequence[FoundFile], unreadable: list[tuple[str, str]]
) -> list[tuple[str, StoredFile]]:
    storage = current_app.extensions["storage"]
    stored: list[tuple[str, StoredFile]] = []
    for file in batch:
        if file.problem:
            unreadable.append((storable(file.name), file.problem))
            continue
        try:
            with file.path.open("rb") as content:
                stored.append((file.key, store_file(storage, tenant_id, file.name, content)))
        except OSError as error:
            unreadable.append((storable(file.name), error.strerror or str(error)))
    return stored


def _submitted(
    dataset_id: UUID, stored: list[tuple[str, StoredFile]], rule: dict[str, Any] | None
) -> list[Submission]:
    redis = current_app.extensions["redis"]
    settings: Settings = current_app.extensions["settings"]
    guard_seconds = settings.indexing.indexing_guard_seconds
    return committed(
        lambda session: submit_documents(
            session,
            redis,
            dataset_id,
            stored,
            guard_seconds,
            celery=current_app.extensions["celery"],
            rule=rule,
        ),
    )
