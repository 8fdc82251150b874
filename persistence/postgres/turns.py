"""Callers with the same key go on one at a time, in the order in which they came, and are refused early (ADR 0019).

The wait of the next caller follows from the length of the queue and the last turns. Two turns tell it, of which the
shorter counts: one alone may be that of a stall, such as a lock or a database that wakes up, which all should outlast.
A queue is judged only when it has lasted for as long as any caller should expect to wait: until then it may be that of
a crowd that came at once, which a busy process serves slowly at first.
"""

from asyncio import Future, get_running_loop
from collections import deque
from collections.abc import Hashable
from time import monotonic

from persistence.postgres import costs
from persistence.postgres.errors import PoolTimeout


class _Queue(deque[Future[None]]):
    """The callers behind the one that goes on, some of whom may have been cancelled or refused."""

    _began = _handed_over = _last = _last_but_one = 0.0

    def restart(self, now: float) -> None:
        """Forgets what was observed: nobody waited until now."""
        self._began = self._handed_over = now
        self._last = self._last_but_one = 0.0

    def note_turn(self, now: float) -> None:
        """Records that a turn ends."""
        self._last, self._last_but_one = now - self._handed_over, self._last
        self._handed_over = now

    def is_overloaded(self, now: float, most: float) -> bool:
        """Tells if another caller has to expect a longer wait than so many seconds."""
        return now - self._began >= most and len(self) * min(self._last, self._last_but_one) > most


class Turns:
    """Costs a look-up in a dict while no two callers have the same key, and keeps nothing of those that have gone."""

    def __init__(self, refusal: str) -> None:
        self._refusal = refusal
        self._queues: dict[Hashable, _Queue] = {}

    def __len__(self) -> int:
        return len(self._queues)

    async def take(self, key: Hashable, patience: float, most: float) -> None:
        """Returns when it is the caller's turn, until `pass_on`.

        Raises `PoolTimeout` after `patience` seconds, and at once if the wait is expected to be longer than `most`.
        """
        # The hash of a key may be costly, so there is one look-up here, and one at the end.
        queue = self._queues.setdefault(key, mine := _Queue())
        if queue is mine:
            return
        loop, began = get_running_loop(), monotonic()
        if not queue:
            queue.restart(began)
        elif queue.is_overloaded(began, most):
            raise PoolTimeout(self._refusal)
        waiter: Future[None] = loop.create_future()
        queue.append(waiter)
        timer = loop.call_later(patience, self._refuse, waiter)
        try:
            await waiter
        except BaseException:
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                # The caller was cancelled in the very moment of the handover.
                self.pass_on(key)
            raise
        finally:
            timer.cancel()
            if found := costs.current.get():
                found.waiting += monotonic() - began

    def pass_on(self, key: Hashable) -> None:
        queue = self._queues.pop(key)
        if queue:
            queue.note_turn(monotonic())
        while queue:
            waiter = queue.popleft()
            if not waiter.done():
                self._queues[key] = queue
                waiter.set_result(None)
                return

    def _refuse(self, waiter: Future[None]) -> None:
        if not waiter.done():
            waiter.set_exception(PoolTimeout(self._refusal))
