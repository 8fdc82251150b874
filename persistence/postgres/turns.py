"""Callers with the same key go on one at a time, in the order in which they came."""

from asyncio import Future, get_running_loop
from collections import deque
from collections.abc import Hashable
from time import monotonic

from persistence.postgres import costs
from persistence.postgres.errors import PoolTimeout


class Turns:
    """Costs a look-up in a dict while no two callers have the same key, and keeps nothing of those that have gone."""

    def __init__(self, refusal: str) -> None:
        self._refusal = refusal
        self._queues: dict[Hashable, deque[Future[None]]] = {}
        """The callers behind each that goes on, some of which may have been cancelled or refused."""

    def __len__(self) -> int:
        return len(self._queues)

    async def take(self, key: Hashable, patience: float) -> None:
        """Returns when it is the caller's turn, until `pass_on`. Raises `PoolTimeout` after `patience` seconds."""
        # The hash of a key may be costly, so there is one look-up here, and one at the end.
        queue = self._queues.setdefault(key, mine := deque[Future[None]]())
        if queue is mine:
            return
        loop, began = get_running_loop(), monotonic()
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
        while queue:
            waiter = queue.popleft()
            if not waiter.done():
                self._queues[key] = queue
                waiter.set_result(None)
                return

    def _refuse(self, waiter: Future[None]) -> None:
        if not waiter.done():
            waiter.set_exception(PoolTimeout(self._refusal))
