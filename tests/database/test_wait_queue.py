"""The line for a connection: who is let in, and who is served."""

import asyncio

import pytest

from persistence.postgres.errors import PoolTimeout
from persistence.postgres.wait_queue import WaitQueue


async def test_it_serves_in_the_order_of_coming_and_passes_over_who_has_left() -> None:
    line = WaitQueue()
    first, second, third, fourth = [line.join() for _ in range(4)]
    second.cancel()
    line.leave(third)

    assert [line.next() for _ in range(3)] == [first, fourth, None]


async def test_who_has_no_time_left_for_a_statement_as_long_as_usual_is_refused() -> None:
    line = WaitQueue()
    for _ in range(300):
        line.note_use(5)
    late, early, patient = line.join(0.2), line.join(600), line.join()
    await asyncio.sleep(0.15)

    assert line.next() is early
    assert line.next() is patient
    with pytest.raises(PoolTimeout):
        late.result()


async def test_who_has_not_spent_half_of_his_time_in_it_is_served_however_long_statements_take() -> None:
    line = WaitQueue()
    for _ in range(300):
        line.note_use(50)
    caller = line.join(60)

    assert line.next() is caller


async def test_a_stall_says_nothing_about_how_long_statements_usually_take(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("persistence.postgres.wait_queue.SHARE", 0)
    line = WaitQueue()
    for _ in range(200):
        line.note_use(0.002)
    for _ in range(20):
        line.note_use(400)
    caller = line.join(20)
    await asyncio.sleep(0.01)

    assert line.next() is caller


async def test_it_is_judged_by_how_quickly_it_has_been_served_once_it_has_lasted() -> None:
    line = WaitQueue()
    for _ in range(1000):
        line.join(60)
    await asyncio.sleep(0.1)

    assert line.is_overloaded(0.1)
    # Until it has lasted for that long nobody knows.
    assert not line.is_overloaded(100)
    for _ in range(990):
        line.next()
    # In this time a hundred times as many have been served as are left.
    assert not line.is_overloaded(0.1)
