"""The nodes that the rows of owners are on, where Citus spreads them; elsewhere there is nothing to know.

Citus puts a row on the node whose range of hashes has PostgreSQL's hash of the owner's id. With the ranges, which are
read every few seconds, a process can tell before a statement which node it will need. So the statements of one node can
be kept from taking the whole pool when that node does not answer.
"""

import asyncio
from bisect import bisect_right
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from functools import lru_cache
from typing import Any
from uuid import UUID

from persistence.postgres.errors import PoolTimeout, Unavailable
from persistence.postgres.nodes import NodeStats

SILENT_AFTER = 3
"""Statements of a node that fail one after the other, after which it counts as silent."""
TRIALS = 2
"""Statements that a silent node may have at once. With one, an owner whose row is locked would stand for all others."""
OWNERS_KEPT = 10_000
"""Owners whose hash a process remembers, which takes 2 MB. To compute one takes some microseconds."""

BUSY = "Too many requests wait for the part of the database that has the data of this user."
SILENT = "The part of the database that has the data of this user does not answer."

_MASK = 0xFFFFFFFF


class _Node:
    """The statements of one node: those that run, and how many have failed since one succeeded."""

    def __init__(self, places: int, long_places: int) -> None:
        self.places = asyncio.Semaphore(places)
        self.long_places = asyncio.Semaphore(long_places)
        self.running = self.failures = 0

    def release(self) -> None:
        self.running -= 1
        self.places.release()

    @property
    def is_silent(self) -> bool:
        return self.failures >= SILENT_AFTER


class Shards:
    """Lets so many statements of each node run at once, and remembers how they end."""

    is_spread = False
    """Whether rows are on other servers than the one that is connected to."""

    def __init__(self, places: int, long_places: int) -> None:
        """The numbers are for each node; the second is for statements whose cost grows."""
        self._by_name = defaultdict[str, _Node](lambda: _Node(places, long_places))
        self._bounds: list[int] = []
        self._names: list[str] = []

    def load(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Takes the least hash and the node of each shard. One node alone needs no bound."""
        found = sorted((row["least"], row["node"]) for row in rows)
        names = {name for _, name in found}
        self.is_spread = bool(names)
        if len(names) == 1:
            found, names = [], set()
        self._bounds, self._names = [least for least, _ in found], [name for _, name in found]
        for gone in self._by_name.keys() - names:
            del self._by_name[gone]

    @property
    def stats(self) -> NodeStats:
        """The nodes that have shards. One whose last statements have all failed does not answer."""
        names = set(self._names)
        return NodeStats(len(names), sum(not self._by_name[name].is_silent for name in names))

    def node_of(self, values: Mapping[str, Any]) -> str | None:
        """The node that a statement with these values needs, if the database is spread and they name an owner."""
        if not self._bounds or not isinstance(owner := values.get("user_id"), UUID):
            return None
        return self._names[bisect_right(self._bounds, uuid_hash(owner)) - 1]

    @asynccontextmanager
    async def place(self, name: str, patience: float) -> AsyncIterator[list[asyncio.Task[None]]]:
        """A place until the end of the block, whose end is that of a statement, and of the tasks that it puts there.

        Raises `PoolTimeout` if none is free for so many seconds, and at once if enough others try a silent node.
        """
        node = self._by_name[name]
        if node.is_silent and node.running >= TRIALS:
            raise PoolTimeout(SILENT)
        await _acquire(node.places, patience)
        node.running += 1
        left: list[asyncio.Task[None]] = []
        try:
            yield left
        except PoolTimeout:
            # It did not come to the node.
            raise
        except Unavailable:
            node.failures += 1
            raise
        else:
            node.failures = 0
        finally:
            # A coordinator that waits for a frozen node obeys no request to cancel, so the connection of a statement
            # that was cut off comes back late.
            if left:
                asyncio.gather(*left, return_exceptions=True).add_done_callback(lambda _: node.release())
            else:
                node.release()

    @asynccontextmanager
    async def long_place(self, name: str | None, patience: float) -> AsyncIterator[None]:
        """A place for a statement whose cost grows; without a node nothing is waited for."""
        if name is None:
            yield
            return
        places = self._by_name[name].long_places
        await _acquire(places, patience)
        try:
            yield
        finally:
            places.release()


async def _acquire(places: asyncio.Semaphore, patience: float) -> None:
    try:
        async with asyncio.timeout(patience):
            await places.acquire()
    except TimeoutError:
        raise PoolTimeout(BUSY) from None


@lru_cache(OWNERS_KEPT)
def uuid_hash(value: UUID) -> int:
    """PostgreSQL's function of this name, by which rows are spread: Bob Jenkins' lookup3 of the 16 bytes, signed."""
    words = [int.from_bytes(value.bytes[at : at + 4], "little") for at in range(0, 16, 4)]
    a, b, c = ((0x9E3779B9 + 16 + 3923095 + word) & _MASK for word in words[:3])
    for bits in (4, 6, 8, 16, 19, 4):
        a = ((a - c) & _MASK) ^ _turned(c, bits)
        c = (c + b) & _MASK
        a, b, c = b, c, a
    a = (a + words[3]) & _MASK
    for bits in (14, 11, 25, 16, 4, 14, 24):
        c = ((c ^ b) - _turned(b, bits)) & _MASK
        a, b, c = b, c, a
    # The last step made `c`, which the rotation of names has moved.
    c = b
    return c - 2**32 if c >> 31 else c


def _turned(word: int, bits: int) -> int:
    return (word << bits | word >> 32 - bits) & _MASK
