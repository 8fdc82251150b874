"""The nodes that the rows of owners are on, where Citus spreads them; elsewhere there is nothing to know.

Citus puts a row on the node whose range of hashes has PostgreSQL's hash of the owner's id. With the ranges, which are
read every few seconds, a process can tell before a statement which node it will need. So the statements of one node can
be kept from taking the whole pool when that node does not answer.
"""

import asyncio
from bisect import bisect_right
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager, nullcontext
from functools import lru_cache
from typing import Any
from uuid import UUID

from persistence.postgres.errors import PoolTimeout, Unavailable
from persistence.postgres.nodes import NodeStats

SILENT_AFTER = 3
"""Statements of a node that fail one after the other, after which it counts as silent."""
OWNERS_KEPT = 10_000
"""Owners whose hash a process remembers, which takes 2 MB. To compute one takes some microseconds."""

BUSY = "Too many requests wait for the part of the database that has the data of this user."

_MASK = 0xFFFFFFFF


class Shards:
    """Lets so many statements of each node run at once, and remembers how they end."""

    def __init__(self, places: int, long_places: int) -> None:
        """The numbers are for each node; the second is for statements whose cost grows."""
        self._places = defaultdict[str, asyncio.Semaphore](lambda: asyncio.Semaphore(places))
        self._long_places = defaultdict[str, asyncio.Semaphore](lambda: asyncio.Semaphore(long_places))
        self._bounds: list[int] = []
        self._nodes: list[str] = []
        self._failures: dict[str, int] = {}
        """Statements of each node that have failed since one succeeded."""

    def load(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Takes the least hash and the node of each shard. One node alone needs no bound."""
        found = sorted((row["least"], row["node"]) for row in rows)
        nodes = {node for _, node in found}
        if len(nodes) == 1:
            found, nodes = [], set()
        self._bounds, self._nodes = [least for least, _ in found], [node for _, node in found]
        self._failures = {node: self._failures.get(node, 0) for node in nodes}

    @property
    def stats(self) -> NodeStats:
        """The nodes that have shards. One whose last statements have all failed does not answer."""
        silent = sum(failures >= SILENT_AFTER for failures in self._failures.values())
        return NodeStats(len(self._failures), len(self._failures) - silent)

    def node_of(self, values: Mapping[str, Any]) -> str | None:
        """The node that a statement with these values needs, if the database is spread and they name an owner."""
        if not self._bounds or not isinstance(owner := values.get("user_id"), UUID):
            return None
        return self._nodes[bisect_right(self._bounds, uuid_hash(owner)) - 1]

    @asynccontextmanager
    async def place(self, node: str, patience: float) -> AsyncIterator[None]:
        """A place until the end of the block, whose end is that of a statement.

        Raises `PoolTimeout` if none is free for so many seconds.
        """
        async with _one_of(self._places[node], patience):
            try:
                yield
            except PoolTimeout:
                # It did not come to the node.
                raise
            except Unavailable:
                self._failures[node] = self._failures.get(node, 0) + 1
                raise
            self._failures[node] = 0

    @asynccontextmanager
    async def long_place(self, node: str | None, patience: float) -> AsyncIterator[None]:
        """A place for a statement whose cost grows; without a node nothing is waited for."""
        async with _one_of(self._long_places[node], patience) if node else nullcontext():
            yield


@asynccontextmanager
async def _one_of(places: asyncio.Semaphore, patience: float) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(patience):
            await places.acquire()
    except TimeoutError:
        raise PoolTimeout(BUSY) from None
    try:
        yield
    finally:
        places.release()


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
