"""Claims, crashes, new versions and controls in any order, against a model of what they may do."""

from collections import Counter
from collections.abc import Iterator
from uuid import UUID

import pytest
from flask import Flask
from hypothesis import Phase, settings
from hypothesis.stateful import (
    run_state_machine_as_test,
)
from sqlalchemy import text
from sqlalchemy.orm import Session

from shared.errors import RagWorkerError
from shared.models import db
from tests.integration.lease_machine import REASONS, LeaseMachine
from tests.integration.leased_document import World
from worker.delivery import lease
from worker.wiring import indexing_needs

EXAMPLES, STEPS = 30, 30


@pytest.fixture
def world(app: Flask, session: Session, dataset_id: UUID) -> Iterator[World]:
    tenant_id = session.scalar(text("SELECT tenant_id FROM datasets"))
    session.rollback()
    name = lease._Node.name
    yield World(app, db.engine, dataset_id, tenant_id, indexing_needs())
    lease.name_node(name)


@pytest.fixture
def machine(world: World) -> LeaseMachine:
    """Driven by hand, with a document that waits."""
    made = LeaseMachine(world, Counter())
    made.submit_first(is_served=False)
    return made


def require_invariants(machine: LeaseMachine) -> None:
    machine.the_row_is_as_the_model()
    machine.search_sees_one_whole_version_and_every_segment_has_its_vector()


@pytest.mark.parametrize("reason", REASONS, ids=lambda reason: type(reason).__name__)
def test_an_attempt_that_splits_otherwise_leaves_nothing_of_the_one_before(
    reason: RagWorkerError, machine: LeaseMachine
) -> None:
    machine.claim(1)
    machine.write(1, 3)
    machine.hand_back(1, reason)
    machine.claim(1)
    machine.complete(1, 1)

    require_invariants(machine)


def test_new_content_leaves_nothing_of_half_a_first_version(machine: LeaseMachine) -> None:
    machine.claim(1)
    machine.write(1, 3)
    machine.submit_new_content()
    machine.claim(1)
    machine.complete(1, 1)

    require_invariants(machine)


def test_new_content_of_a_paused_document_is_indexed(machine: LeaseMachine) -> None:
    machine.stop(is_cancelled=False)
    machine.submit_new_content()
    require_invariants(machine)
    machine.claim(1)
    machine.complete(1, 1)

    require_invariants(machine)


def test_no_order_of_events_loses_doubles_or_blocks_a_document(world: World) -> None:
    reached = Counter[object]()
    run_state_machine_as_test(
        lambda: LeaseMachine(world, reached),
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            derandomize=True,
            deadline=None,
            database=None,
            # To make a failure shorter would take minutes of database work.
            phases=(Phase.generate,),
        ),
    )
    # The examples are chosen by chance, once: these were among them.
    wanted = {
        ("completed", False): "a first version",
        ("completed", True): "a later one, while the first one served",
        "refused by its token": "a worker that lost its lease",
        "taken over": "a worker that died",
        "resumed": "a pause",
    }
    assert [what for key, what in wanted.items() if not reached[key]] == []
