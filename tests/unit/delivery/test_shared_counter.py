"""What a child of a worker counts is counted, however the child ends."""

import os
import signal
from collections.abc import Callable, Iterator
from uuid import uuid4

import pytest
from prometheus_client import REGISTRY

from worker.delivery import shared_counter
from worker.delivery.shared_counter import Channel, SharedCounter
from worker.delivery.tenant_labels import NOBODY, OTHER, TENANTS, TenantLabels


@pytest.fixture
def channel(monkeypatch: pytest.MonkeyPatch) -> Iterator[Channel]:
    made = Channel()
    monkeypatch.setattr(shared_counter, "_channel", made)
    yield made
    made.close()


@pytest.fixture
def counter() -> Iterator[SharedCounter]:
    made = SharedCounter("rag_worker_of_the_test", "Of the test.", ["word", "tenant"])
    yield made
    REGISTRY.unregister(made)


def fork(work: Callable[[], None]) -> int:
    """Do it in a child, which is killed as soon as it has done it; returns its process id."""
    pid = os.fork()
    if pid == 0:
        # Whatever happens: the child must not go on with the suite.
        try:
            work()
        finally:
            os.kill(os.getpid(), signal.SIGKILL)
    return pid


def in_child(work: Callable[[], None]) -> None:
    """As ``fork``, and wait for the child's end."""
    os.waitpid(fork(work), 0)


def values(counter: SharedCounter) -> dict[tuple[str, str], float]:
    (family,) = counter.collect()
    return {(one.labels["word"], one.labels["tenant"]): one.value for one in family.samples}


@pytest.mark.usefixtures("channel")
def test_killed_children_and_the_parent_count_together(counter: SharedCounter) -> None:
    counter.add(1, "a", "")

    def count() -> None:
        counter.add(2, "a", "")
        counter.add(0.5, "b", "")

    for _ in range(3):
        in_child(count)

    assert values(counter) == {("a", NOBODY): 7, ("b", NOBODY): 1.5}
    assert values(counter) == {("a", NOBODY): 7, ("b", NOBODY): 1.5}, "once, however often asked"


@pytest.mark.usefixtures("channel")
def test_while_nobody_listens_nothing_is_lost_and_nobody_waits(counter: SharedCounter) -> None:
    asked, answer = os.pipe(), os.pipe()

    def count() -> None:
        os.close(asked[1])  # so that the parent's end is the last, and its death is heard of
        for _ in range(20_000):  # many times what the pipe holds
            counter.add(1, "many", "")
        os.write(answer[1], b"1")
        os.read(asked[0], 1)
        counter.add(1, "last", "")

    pid = fork(count)
    os.close(answer[1])
    try:
        assert os.read(answer[0], 1) == b"1"
        assert values(counter)["many", NOBODY] < 20_000
    finally:
        os.close(asked[1])
        os.waitpid(pid, 0)
        os.close(asked[0])
        os.close(answer[0])

    assert values(counter) == {("many", NOBODY): 20_000, ("last", NOBODY): 1}


@pytest.mark.usefixtures("channel")
def test_a_label_longer_than_a_pipe_writes_at_once_is_cut(counter: SharedCounter) -> None:
    in_child(lambda: counter.add(1, "x" * 10_000, ""))
    ((word, _),) = values(counter)
    assert word == "x" * 200


def test_tenants_beyond_the_bound_are_one_series(
    counter: SharedCounter, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, third = (str(uuid4()) for _ in range(3))
    labels = TenantLabels(most=2)
    monkeypatch.setattr(shared_counter, "TENANTS", labels)

    for tenant_id in (first, second, third, first, "", str(uuid4())):
        counter.add(1, "w", tenant_id)

    by_tenant = {tenant: value for (_, tenant), value in values(counter).items()}
    assert by_tenant == {first: 2, second: 1, OTHER: 2, NOBODY: 1}
    assert TENANTS is not labels
