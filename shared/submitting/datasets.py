"""Where documents belong: tenants and datasets, made when there are none."""

from uuid import UUID

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from shared.errors import InvalidRequest, NotFound
from shared.models import Dataset, Tenant
from shared.models.dataset import HIGH_QUALITY, TECHNIQUES
from shared.models.process_rule import DocForm, parse_doc_form
from shared.submitting.embedding_models import require_known_model
from shared.submitting.files import storable
from shared.submitting.ids import AnyId, checked_id

_NAME_CHARACTERS = 255


def ensure_tenant(session: Session, name: str) -> UUID:
    """The tenant of that name, made when there is none; safe under concurrency.

    Raises:
        InvalidRequest: the name is empty, too long, or none.
    """
    _require_name("tenant", name)
    session.execute(insert(Tenant).values(name=name).on_conflict_do_nothing())
    return session.scalars(select(Tenant.id).where(Tenant.name == name)).one()


def ensure_dataset(
    session: Session,
    tenant_id: AnyId,
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
        InvalidRequest: there is no such technique, form, provider or model, the dataset has
            another technique or form, or the name is empty, too long, or none.
        NotFound: there is no such tenant.
    """
    tenant_id = checked_id("tenant_id", tenant_id)
    _require_name("dataset", name)
    if technique is not None and technique not in TECHNIQUES:
        raise InvalidRequest(
            f"there is no indexing technique {technique!r}, only: {', '.join(TECHNIQUES)}"
        )
    require_known_model(embedding_provider, embedding_model)
    form = None if doc_form is None else parse_doc_form(doc_form)
    if session.scalar(select(Tenant.id).where(Tenant.id == tenant_id)) is None:
        raise NotFound(f"there is no tenant {tenant_id}")
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


def _require_name(what: str, name: str) -> None:
    if not isinstance(name, str) or not name.strip():
        raise InvalidRequest(f"a {what} needs a name, not {name!r}")
    if len(name) > _NAME_CHARACTERS or storable(name) != name:
        raise InvalidRequest(
            f"the name of a {what} has at most {_NAME_CHARACTERS} characters, "
            "and none that no text has (NUL or half of a pair)"
        )
