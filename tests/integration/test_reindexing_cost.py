"""A re-index costs what has changed: counted at the server, of 5,000 segments."""

import re
import time
from uuid import UUID

import pytest
from sqlalchemy.orm import Session

from shared.submitting import reindexing
from shared.submitting.dataset import ensure_dataset, ensure_tenant
from tests.fixtures.application import Reader, Submit
from tests.fixtures.embedding_server import EmbeddingServer
from worker.services.dataset.indexing import index_document
from worker.wiring import indexing_needs

SEGMENTS = 5_000
CHANGED = SEGMENTS // 100


@pytest.fixture
def environment(
    environment: dict[str, str], embedding_server: EmbeddingServer, monkeypatch: pytest.MonkeyPatch
) -> dict[str, str]:
    monkeypatch.setenv("EMBEDDING_BASE_URL", embedding_server.url)
    return environment


@pytest.fixture
def dataset_id(session: Session) -> UUID:
    made = ensure_dataset(
        session, ensure_tenant(session, "acme"), "remote", "openai_compatible", "bag-of-words"
    )
    session.commit()
    return made


def book(changed: range = range(0)) -> bytes:
    """Each chapter fills a passage: what changes in one moves no other."""
    chapters = [
        f"# Chapter {number}\n\n"
        + f"{'New' if number in changed else 'Old'} words of chapter {number}. " * 45
        for number in range(SEGMENTS)
    ]
    return "\n\n".join(chapters).encode()


def words_of(texts: list[str]) -> set[int]:
    return {int(number) for text in texts for number in re.findall(r"hapter (\d+)", text)}


@pytest.mark.long
@pytest.mark.timeout(400)
def test_what_is_unchanged_costs_no_call_and_what_changed_costs_itself(
    dataset_id: UUID,
    session: Session,
    submit: Submit,
    reader: Reader,
    embedding_server: EmbeddingServer,
) -> None:
    changed = range(100, 100 + CHANGED)
    needs, seconds, asked = indexing_needs(), [], []
    for content in (book(), book(), book() + b"\n", book(changed)):
        (submission,) = submit({"book.md": content})
        if not submission.will_be_indexed:
            reindexing.duplicate_documents(session, [submission.document_id])
            session.commit()
        embedding_server.asked.clear()
        started = time.monotonic()
        index_document(submission.document_id, dataset_id, needs)
        seconds.append(time.monotonic() - started)
        asked.append(list(embedding_server.texts))

    document = reader.document(submission.document_id)
    print(  # noqa: T201 - what it is run for
        f"\n{document.total_segments} segments: {seconds[0]:.1f} s, {len(asked[0])} embedded; "
        f"unchanged {seconds[1]:.2f} s ({seconds[1] / seconds[0]:.1%}), {len(asked[1])} embedded; "
        f"a blank line {seconds[2]:.1f} s ({seconds[2] / seconds[0]:.1%}), {len(asked[2])}; "
        f"1 % changed {seconds[3]:.1f} s ({seconds[3] / seconds[0]:.1%}), {len(asked[3])} embedded"
    )
    assert document.total_segments >= SEGMENTS
    assert len(asked[0]) >= SEGMENTS
    assert asked[1] == asked[2] == []
    assert seconds[1] <= seconds[0] * 0.05
    assert CHANGED <= len(asked[3]) <= CHANGED * 1.1
    assert words_of(asked[3]) <= set(changed)
