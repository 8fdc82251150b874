"""A bulkhead: statements that may take long share a part of the pool, so that they cannot fill it."""

import asyncio
from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager
from time import monotonic

from persistence.postgres.errors import PoolTimeout
from persistence.postgres.turns import Turns

BUSY = "Too many searches, counts and costly lists are being made at once."


class Bulkhead:
    """Lets `size` statements run at once, and of them one with the same key; the others wait in order."""

    def __init__(self, size: int, patience: float) -> None:
        self._places = asyncio.Semaphore(size)
        self._patience = patience
        self._turns = Turns(BUSY)

    @asynccontextmanager
    async def place(self, key: Hashable) -> AsyncIterator[None]:
        """A place until the end of the block. Raises `PoolTimeout` if there is none within `patience` seconds."""
        ends = monotonic() + self._patience
        # In this order, as a caller that waits for others of its key needs no place.
        await self._turns.take(key, self._patience, self._patience)
        try:
            try:
                async with asyncio.timeout(ends - monotonic()):
                    await self._places.acquire()
            except TimeoutError:
                raise PoolTimeout(BUSY) from None
            try:
                yield
            finally:
                self._places.release()
        finally:
            self._turns.pass_on(key)
