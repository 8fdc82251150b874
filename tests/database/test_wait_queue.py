"""The callers that wait for a connection: which are let in, and which are served."""

from math import inf
from types import SimpleNamespace

import pytest

from persistence.postgres import wait_queue
from persistence.postgres.errors import PoolTimeout
from persistence.postgres.wait_queue import WaitQueue


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The clock of the queue, which a test moves."""
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(wait_queue, "monotonic", lambda: clock.now)
    return clock


async def test_it_serves_in_the_order_of_coming_and_passes_over_callers_that_have_left() -> None:
    queue = WaitQueue()
    first, second, third, fourth = [queue.join(inf, inf) for _ in range(4)]
    second.cancel()
    queue.leave(third)
    assert len(queue) == 2
    assert [queue.next() for _ in range(3)] == [first, fourth, None]


async def test_a_caller_without_the_time_left_for_a_usual_statement_is_refused(clock: SimpleNamespace) -> None:
    queue = WaitQueue()
    for _ in range(300):
        queue.note_use(5)
    late, early, unlimited = queue.join(20, inf), queue.join(600, inf), queue.join(inf, inf)
    clock.now = 15.0
    assert [queue.next(), queue.next()] == [early, unlimited]
    with pytest.raises(PoolTimeout):
        late.result()


@pytest.mark.parametrize(("usual", "stall", "wait"), [(50, 50, 29.0), (0.002, 400, 59.0)])
async def test_a_caller_is_served_in_the_first_half_of_its_time_or_if_only_a_stall_took_long(
    clock: SimpleNamespace, usual: float, stall: float, wait: float
) -> None:
    queue = WaitQueue()
    for seconds in (*[usual] * 300, *[stall] * 20):
        queue.note_use(seconds)
    caller = queue.join(60, inf)
    clock.now = wait
    assert queue.next() is caller


async def test_it_is_judged_by_how_quickly_it_has_been_served_once_it_has_lasted(clock: SimpleNamespace) -> None:
    queue = WaitQueue()
    for _ in range(1000):
        queue.join(60, inf)
    clock.now = 0.1
    assert queue.is_overloaded(0.1)
    # A caller with more time joins a queue that has not lasted for half of it.
    assert not queue.is_overloaded(100)
    for _ in range(990):
        queue.next()
    # In half of this time fifty times as many callers have been served as are left.
    assert not queue.is_overloaded(0.1)
    # What was observed long ago is forgotten, but not all of it at once.
    clock.now = 100.0
    assert queue.is_overloaded(0.1)
    queue.restart()
    assert not queue.is_overloaded(0.1)


async def test_the_end_of_the_queue_ends_every_wait() -> None:
    queue = WaitQueue()
    waiting, cancelled = queue.join(inf, inf), queue.join(inf, inf)
    cancelled.cancel()
    queue.fail_all("The end.")
    with pytest.raises(Exception, match=r"^The end\.$"):
        await waiting
    assert len(queue) == 0
