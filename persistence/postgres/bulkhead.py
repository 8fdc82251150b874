"""A bulkhead: statements that may take long share a part of the pool, so that they cannot fill it."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager

from persistence.postgres.errors import PoolTimeout

BUSY = "Too many searches, sorted lists and counts are being made at once."


class Bulkhead:
    """Lets `size` statements run at once, and of them one with the same key; the others wait in order."""

    def __init__(self, size: int, patience: float) -> None:
        self._size, self._patience = size, patience
        self._running: set[Hashable] = set()
        self._waiting: deque[tuple[Hashable, asyncio.Future[None]]] = deque()

    @asynccontextmanager
    async def place(self, key: Hashable) -> AsyncIterator[None]:
        """A place until the end of the block. Raises `PoolTimeout` if there is none within `patience` seconds."""
        if self._has_room(key):
            self._running.add(key)
        else:
            await self._wait(key)
        try:
            yield
        finally:
            self._leave(key)

    def _has_room(self, key: Hashable) -> bool:
        return len(self._running) < self._size and key not in self._running

    async def _wait(self, key: Hashable) -> None:
        admitted = asyncio.get_running_loop().create_future()
        self._waiting.append(entry := (key, admitted))
        try:
            async with asyncio.timeout(self._patience):
                await admitted
        except BaseException as error:
            if admitted.done() and not admitted.cancelled():
                # It was admitted in the very moment in which it gave up.
                self._leave(key)
            else:
                self._waiting.remove(entry)
            if isinstance(error, TimeoutError):
                raise PoolTimeout(BUSY) from None
            raise

    def _leave(self, key: Hashable) -> None:
        self._running.remove(key)
        for entry in list(self._waiting):
            waiting, admitted = entry
            # A caller that has just been cancelled takes itself out.
            if not admitted.done() and self._has_room(waiting):
                self._waiting.remove(entry)
                self._running.add(waiting)
                admitted.set_result(None)
