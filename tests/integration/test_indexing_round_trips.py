"""What indexing asks of the servers, counted by the driver's events and by the server itself."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from uuid import UUID

import pytest
from flask import Flask
from redis import Redis
from sqlalchemy import Engine, event
from sqlalchemy.orm import Session

from shared.models import db
from tests.integration.form_documents import Place
from worker.services.dataset.indexing import index_document
from worker.wiring import indexing_needs


@dataclass
class RoundTrips:
    statements: int = 0
    commits: int = 0
    redis: int = 0

    @property
    def all(self) -> int:
        """All of them."""
        return self.statements + self.commits + self.redis


@contextmanager
def counted(engine: Engine, redis: "Redis") -> Iterator[RoundTrips]:
    found = RoundTrips()

    def statement(*_: object) -> None:
        found.statements += 1

    def commit(*_: object) -> None:
        found.commits += 1

    event.listen(engine, "before_cursor_execute", statement)
    event.listen(engine, "commit", commit)
    redis.config_resetstat()
    try:
        yield found
    finally:
        event.remove(engine, "before_cursor_execute", statement)
        event.remove(engine, "commit", commit)
    calls = redis.info("commandstats")
    # What goes with them in the same packet, or inside a script, waits for nobody.
    wanted = {"cmdstat_xadd", "cmdstat_eval", "cmdstat_evalsha"}
    found.redis = sum(one["calls"] for name, one in calls.items() if name in wanted)


def book(chapters: int) -> str:
    made = (
        f"# Chapter {one}\n\n" + f"Lamp {one} turns and sleeps. " * 45 for one in range(chapters)
    )
    return "\n\n".join(made)


@pytest.mark.parametrize("chapters", [5, 1500])
def test_a_document_takes_few_and_a_long_one_few_more_for_each_hundred_segments(
    chapters: int, app: Flask, session: Session
) -> None:
    place = Place(app, session, "text_model")
    document_id: UUID = place.submit("book.md", book(chapters)).document_id
    with counted(db.engine, app.extensions["redis"]) as found:
        totals = index_document(document_id, place.dataset_id, indexing_needs())
    assert totals.segments >= chapters
    assert found.statements > 0
    assert found.redis > 0
    assert found.all <= 12 + 2 * totals.segments / 100, found
