"""Where documents belong: tenants and datasets, made when there are none."""

from uuid import UUID

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from shared.errors import InvalidRequest
from shared.models import Dataset, Tenant
from shared.models.dataset import HIGH_QUALITY, TECHNIQUES
from shared.models.process_rule import DocForm, parse_doc_form


def ensure_tenant(session: Session, name: str) -> UUID:
    """The tenant of that name, made when there is none; safe under concurrency."""
    session.execute(insert(Tenant).values(name=name).on_conflict_do_nothing())
    return session.scalars(select(Tenant.id).where(Tenant.name == name)).one()


def ensure_dataset(
    session: Session,
    tenant_id: UUID,
    name: str,
    embedding_provider: str = "wordllama",
    embedding_model: str = "l2_supercat_256",
    *,
    technique: str | None = None,
    doc_form: str | None = None,
) -> UUID:
    """The tenant's dataset of that name, made when there is none; safe under concurrency.

    Args:
        session: the caller's transaction.
        tenant_id: whose it is.
        name: what the tenant calls it.
        embedding_provider: of a new dataset.
        embedding_model: of a new dataset.
        technique: ``high_quality`` (vectors, and keywords beside them) or ``economy``
            (keywords only); ``None`` takes what is there, and makes ``high_quality``.
        doc_form: what is searched and returned: ``text_model``, ``hierarchical_model`` or
            ``qa_model``; ``None`` takes what is there, and makes ``text_model``.

    Raises:
        InvalidRequest: there is no such technique or form, or the dataset has another one.
    """
    if technique is not None and technique not in TECHNIQUES:
        raise InvalidRequest(
            f"there is no indexing technique {technique!r}, only: {', '.join(TECHNIQUES)}"
        )
    form = None if doc_form is None else parse_doc_form(doc_form)
    session.execute(
        insert(Dataset)
        .values(
            tenant_id=tenant_id,
            name=name,
            embedding_provider=embedding_provider,
            embedding_model=embedding_model,
            indexing_technique=technique or HIGH_QUALITY,
            doc_form=(form or DocForm.TEXT).value,
        )
        .on_conflict_do_nothing()
    )
    query = select(Dataset.id, Dataset.indexing_technique, Dataset.doc_form).where(
        Dataset.tenant_id == tenant_id, Dataset.name == name
    )
    row = session.execute(query).one()
    if technique not in {None, row.indexing_technique}:
        raise InvalidRequest(
            f"dataset {name!r} is indexed as {row.indexing_technique}, not as {technique}: "
            "give the documents a dataset of another name"
        )
    if form not in {None, row.doc_form}:
        raise InvalidRequest(
            f"dataset {name!r} is of form {row.doc_form}, not {form}: a form is chosen once; "
            "give the documents a dataset of another name"
        )
    made: UUID = row.id
    return made
