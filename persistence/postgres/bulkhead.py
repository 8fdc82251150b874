"""A bulkhead: statements that may take long share a part of the pool, so that they cannot fill it."""

import asyncio
from collections.abc import AsyncIterator, Hashable
from contextlib import AsyncExitStack, asynccontextmanager
from weakref import WeakValueDictionary

from persistence.postgres.errors import PoolTimeout

BUSY = "Too many searches, counts and costly lists are being made at once."


class Bulkhead:
    """Lets `size` statements run at once, and of them one with the same key; the others wait in order."""

    def __init__(self, size: int, patience: float) -> None:
        self._places = asyncio.Semaphore(size)
        self._patience = patience
        # A lock lives for as long as a caller has it or waits for it.
        self._locks = WeakValueDictionary[Hashable, asyncio.Lock]()

    @asynccontextmanager
    async def place(self, key: Hashable) -> AsyncIterator[None]:
        """A place until the end of the block. Raises `PoolTimeout` if there is none within `patience` seconds."""
        lock = self._locks.setdefault(key, asyncio.Lock())
        async with AsyncExitStack() as stack:
            try:
                async with asyncio.timeout(self._patience):
                    # In this order, as a caller that waits for others of its key needs no place.
                    await stack.enter_async_context(lock)
                    await stack.enter_async_context(self._places)
            except TimeoutError:
                raise PoolTimeout(BUSY) from None
            yield
