"""The line for a connection: who is let in, and who is served."""

import asyncio
from time import monotonic

import pytest

from persistence.errors import PoolTimeout
from persistence.line import Line


async def test_it_serves_in_the_order_of_coming_and_passes_over_who_has_left() -> None:
    line = Line()
    first, second, third, fourth = [line.join(monotonic() + 60) for _ in range(4)]
    second.cancel()
    line.leave(third)

    assert [line.next() for _ in range(3)] == [first, fourth, None]


async def test_who_has_no_time_left_for_a_statement_as_long_as_usual_is_refused() -> None:
    line = Line()
    for _ in range(200):
        line.note_lent(0.2)
    late, early = line.join(monotonic() + 0.3), line.join(monotonic() + 5)

    assert line.next() is early
    with pytest.raises(PoolTimeout):
        late.result()


async def test_a_stall_says_nothing_about_how_long_statements_usually_take() -> None:
    line = Line()
    for _ in range(200):
        line.note_lent(0.002)
    for _ in range(20):
        line.note_lent(4)
    caller = line.join(monotonic() + 0.1)

    assert line.next() is caller


async def test_it_is_judged_by_how_quickly_it_has_been_served_once_it_has_lasted() -> None:
    line = Line()
    for _ in range(1000):
        line.join(monotonic() + 60)
    await asyncio.sleep(0.1)

    assert line.is_too_long(0.05)
    # Until it has lasted for that long nobody knows.
    assert not line.is_too_long(50)
    for _ in range(990):
        line.next()
    # In this time a hundred times as many have been served as are left.
    assert not line.is_too_long(0.05)
