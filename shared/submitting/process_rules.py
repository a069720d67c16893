"""The rules of datasets and documents: rows that never change, named by who uses them.

A replaced rule counts from the next version on; what is indexed stays as it is, and
``rule_of_version`` goes on telling by which rule it was made.
"""

from typing import Any
from uuid import UUID

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from shared.errors import NotFound
from shared.models import Dataset, DatasetProcessRule, Document, DocumentVersion
from shared.models.process_rule import ProcessRule, parse_process_rule, require_form
from shared.submitting.ids import AnyId, checked_id

#: What ``parse_process_rule`` takes: a rule, or JSON as Dify's users write it.
AnyRule = ProcessRule | dict[str, Any]


def set_dataset_rule(session: Session, dataset_id: AnyId, rule: AnyRule) -> UUID:
    """Set the rule of a dataset's documents that have none of their own.

    Returns:
        The rule's id; the same rule set again has the same id.

    Raises:
        InvalidRequest: the rule says something wrong or does not go with the dataset's form,
            or the id is none.
        NotFound: there is no such dataset.
    """
    dataset_id = checked_id("dataset_id", dataset_id)
    rule_id = keep_rule(session, dataset_id, rule)
    session.execute(update(Dataset).where(Dataset.id == dataset_id).values(process_rule_id=rule_id))
    return rule_id


def set_document_rule(session: Session, document_id: AnyId, rule: AnyRule) -> UUID:
    """Set a document's own rule, for its next version: submit it again to make one.

    Returns:
        The rule's id.

    Raises:
        InvalidRequest: the rule says something wrong or does not go with the dataset's form,
            or the id is none.
        NotFound: there is no such document.
    """
    document_id = checked_id("document_id", document_id)
    query = select(Document.dataset_id).where(Document.id == document_id)
    dataset_id = session.scalars(query).one_or_none()
    if dataset_id is None:
        raise NotFound(f"there is no document {document_id}")
    rule_id = keep_rule(session, dataset_id, rule)
    session.execute(
        update(Document).where(Document.id == document_id).values(process_rule_id=rule_id)
    )
    return rule_id


def keep_rule(session: Session, dataset_id: AnyId, rule: AnyRule) -> UUID:
    """Write a rule's row, unless the dataset has one that says the same; nobody uses it yet.

    Raises:
        InvalidRequest: the rule says something wrong or does not go with the dataset's form,
            or the id is none.
        NotFound: there is no such dataset.
    """
    parsed = parse_process_rule(rule)
    dataset_id = checked_id("dataset_id", dataset_id)
    # The lock orders writers of one dataset: a rule is not written twice.
    query = select(Dataset.doc_form).where(Dataset.id == dataset_id)
    doc_form = session.scalars(query.with_for_update(key_share=True)).one_or_none()
    if doc_form is None:
        raise NotFound(f"there is no dataset {dataset_id}")
    require_form(parsed, doc_form)
    values = {"dataset_id": dataset_id, "mode": parsed.mode.value, "rules": parsed.as_json()}
    known = session.scalars(select(DatasetProcessRule.id).filter_by(**values).limit(1)).first()
    if known is not None:
        return known
    row = DatasetProcessRule(**values)
    session.add(row)
    session.flush()
    return row.id


def rule_of_dataset(session: Session, dataset_id: AnyId) -> ProcessRule:
    """The rule of a dataset's documents that have none of their own.

    Raises:
        NotFound: there is no such dataset.
    """
    dataset_id = checked_id("dataset_id", dataset_id)
    query = (
        select(DatasetProcessRule.mode, DatasetProcessRule.rules)
        .select_from(Dataset)
        .outerjoin(DatasetProcessRule, DatasetProcessRule.id == Dataset.process_rule_id)
        .where(Dataset.id == dataset_id)
    )
    return _rule(session, query, f"there is no dataset {dataset_id}")


def rule_of_document(session: Session, document_id: AnyId) -> ProcessRule:
    """The rule a document's next version will be made by: its own, or its dataset's.

    Raises:
        NotFound: there is no such document.
    """
    document_id = checked_id("document_id", document_id)
    counts = func.coalesce(Document.process_rule_id, Dataset.process_rule_id)
    query = (
        select(DatasetProcessRule.mode, DatasetProcessRule.rules)
        .select_from(Document)
        .join(Dataset, Dataset.id == Document.dataset_id)
        .outerjoin(DatasetProcessRule, DatasetProcessRule.id == counts)
        .where(Document.id == document_id)
    )
    return _rule(session, query, f"there is no document {document_id}")


def rule_of_version(session: Session, document_id: AnyId, version: int) -> ProcessRule:
    """The rule a completed version of a document was made by, whatever was set since.

    Raises:
        NotFound: there is no such document.
    """
    document_id = checked_id("document_id", document_id)
    query = (
        select(DatasetProcessRule.mode, DatasetProcessRule.rules)
        .select_from(Document)
        .outerjoin(
            DocumentVersion,
            (DocumentVersion.document_id == Document.id) & (DocumentVersion.version == version),
        )
        .outerjoin(DatasetProcessRule, DatasetProcessRule.id == DocumentVersion.process_rule_id)
        .where(Document.id == document_id)
    )
    return _rule(session, query, f"there is no document {document_id}")


def _rule(session: Session, query: Any, missing: str) -> ProcessRule:
    row = session.execute(query).one_or_none()
    if row is None:
        raise NotFound(missing)
    return ProcessRule() if row.mode is None else parse_process_rule(row._asdict())
