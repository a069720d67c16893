"""Waiting where the database tells nobody of messages."""

import time

from worker.delivery.listening import LONGEST_SECONDS, SHORTEST_SECONDS, Bell, Polling


def test_the_bell_is_heard_at_once() -> None:
    bell = Bell()
    bell.ring()
    assert Polling(lambda: False).wait(bell, 3600)


def test_no_wait_is_longer_than_a_message_may_lie() -> None:
    began = time.monotonic()
    assert not Polling(lambda: True).wait(Bell(), 3600)
    assert time.monotonic() - began >= SHORTEST_SECONDS * 0.99


def test_a_wait_ends_when_it_was_asked_to() -> None:
    assert not Polling(lambda: False).wait(Bell(), 0)


def test_waits_grow_while_nothing_comes_and_shrink_with_the_first_message() -> None:
    found = [False]
    polling, bell = Polling(lambda: found[0]), Bell()
    for _ in range(50):
        polling.wait(bell, 0)
    assert polling.seconds == LONGEST_SECONDS
    found[0] = True
    polling.wait(bell, 0)
    assert polling.seconds == SHORTEST_SECONDS
