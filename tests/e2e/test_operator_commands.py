"""What an operator does to a running system, by the commands a user types."""

from uuid import UUID, uuid4

from flask import Flask
from sqlalchemy.orm import Session

from shared.contract import DOCUMENT_INDEXING
from shared.models import DeadLetter, Document, DocumentStatus, db
from tests.fixtures.application import Reader, Submit
from tests.fixtures.commands import rag_worker
from tests.fixtures.messages import Messages
from tests.fixtures.waiting import eventually
from tests.fixtures.worker_process import StartWorker

TEXT = b"The gull follows the boat."


def statuses(reader: Reader, *ids: UUID) -> list[str]:
    return [str(reader.document(one).indexing_status) for one in ids]


def test_dead_letters_are_listed_shown_replayed_and_discarded(
    submit: Submit,
    reader: Reader,
    messages: Messages,
    start_worker: StartWorker,
) -> None:
    document_id = submit({"a.txt": TEXT})[0].document_id
    rule = rag_worker("switches", "skip", "--task", "document_indexing_task", "--reason", "no\x1b")
    assert rule.code == 0
    assert "\x1b" not in rule.out
    start_worker("threads", 2, "-I", "tests.fixtures.probe_tasks")
    (document,) = reader.await_end(document_id)
    assert (document.error or "").startswith("skipped: skip task document_indexing_task")
    defects = [messages.delay("probe.defect", f"{number}\x1b[31m") for number in range(2)]
    letters = {one: messages.await_letter(one).id for one in defects}
    eventually(lambda: len(messages.letters()) == 3)

    listed = rag_worker("dead-letters", "list", "--json").json()["letters"]
    assert {one["id"] for one in listed} == {str(one.id) for one in messages.letters()}
    (skipped,) = (one for one in listed if one["task"] == DOCUMENT_INDEXING.name)
    of_task = rag_worker("dead-letters", "list", "--task", "defect").out
    assert all(str(one) in of_task for one in letters.values())
    assert skipped["id"] not in of_task
    shown = rag_worker("dead-letters", "show", str(letters[defects[0]])[:13])
    assert "attempts: 1" in shown.out
    assert "reason: a defect" in shown.out
    assert "    Traceback (most recent call last):" in shown.out
    assert "\x1b" not in shown.out

    rule_id = rule.out.split()[0]
    assert rag_worker("switches", "release", rule_id[:8]).code == 0
    assert rag_worker("dead-letters", "replay", skipped["id"][:13]).out == "1 replayed\n"

    asked = rag_worker("dead-letters", "discard", "--task", "probe.defect")
    assert (asked.code, "Discard 2 dead letters?" in asked.err) == (1, True)
    assert rag_worker("dead-letters", "discard", letters[defects[0]]).out == "1 discarded\n"
    discarded = rag_worker("dead-letters", "discard", "--task", "defect", "--yes", "--json")
    assert discarded.json() == {"discarded": 1}

    # Until the worker has seen that the rule is gone, the document is skipped once more.
    def completed() -> bool:
        if messages.letters():
            rag_worker("dead-letters", "replay", "--all")
        return statuses(reader, document_id) == ["completed"]

    eventually(completed)
    assert rag_worker("dead-letters", "list").out == "no dead letters\n"


def test_documents_are_paused_resumed_and_cancelled(
    submit: Submit, reader: Reader, messages: Messages, app: Flask
) -> None:
    ids = [one.document_id for one in submit({f"{number}.txt": TEXT for number in range(3)})]
    with Session(db.engine) as session, session.begin():
        session.get_one(Document, ids[2]).indexing_status = DocumentStatus.COMPLETED

    paused = rag_worker("documents", "pause", *ids)
    assert paused.out == f"2 paused, 1 left alone\n  {ids[2]}: is completed\n"
    assert statuses(reader, *ids) == ["paused", "paused", "completed"]
    assert not app.extensions["redis"].exists(f"document_{ids[0]}_indexing")

    resumed = rag_worker("documents", "resume", ids[0], ids[2], "--json").json()
    assert resumed == {
        "resumed": [str(ids[0])],
        "left_alone": [{"document_id": str(ids[2]), "status": "completed"}],
    }
    assert statuses(reader, *ids) == ["waiting", "paused", "completed"]

    whole = rag_worker("documents", "cancel", "--tenant", "acme", "--dataset", "manuals")
    assert whole.out == "2 cancelled\n"
    assert statuses(reader, *ids) == ["error", "error", "completed"]


def test_a_wrong_order_is_one_line_and_changes_nothing(
    submit: Submit, reader: Reader, app: Flask
) -> None:
    document_id = submit({"a.txt": TEXT})[0].document_id
    missing = uuid4()
    with Session(db.engine) as session, session.begin():
        for number in range(2):
            session.add(
                DeadLetter(
                    id=UUID(int=number),
                    message_id=uuid4(),
                    task="probe.quiet",
                    queue="dataset",
                    exception="E",
                    reason="r",
                )
            )

    for arguments in (
        ("documents", "pause", document_id, missing),
        ("dead-letters", "replay", "00000000"),
        ("switches", "hold", "--tenant", "nobody"),
    ):
        rag_worker(*arguments).failed_in_one_line(4)
    for arguments in (
        ("documents", "pause", document_id, "--dataset", "manuals"),
        ("dead-letters", "replay", missing, "--all"),
        ("switches", "hold"),
    ):
        assert rag_worker(*arguments).code == 2

    assert statuses(reader, document_id) == ["waiting"]
    held = rag_worker("switches", "hold", "--tenant", "acme", "--task", "*", "--json").json()
    assert (held["action"], held["task"], held["subject_id"]) == ("hold", None, None)
    assert rag_worker("switches", "list", "--json").json() == {"rules": [held]}
