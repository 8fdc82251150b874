"""The nodes that the rows of owners are on, where Citus spreads them; elsewhere there is nothing to know.

Citus puts a row on the node whose range of hashes has PostgreSQL's hash of the owner's id. With the ranges, which are
read every few seconds, a process can tell before a statement which node it will need. So the statements of one node can
be kept from taking the whole pool when that node does not answer.
"""

import asyncio
from bisect import bisect_right
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any
from uuid import UUID

from persistence.postgres.bulkhead import Bulkhead
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


@dataclass
class Place:
    """The place that a statement has among those of its node."""

    tells: bool = False
    """True for a failure that tells of the node: the statement was sent, and its connection goes on."""
    ending: asyncio.Task[None] | None = None
    """The task that ends the statement in the server, if it was cut off."""


class Node:
    """The statements of one node: those that run, and how many have failed since one succeeded."""

    def __init__(self, places: int, long_places: int, patience: float) -> None:
        self._places = asyncio.Semaphore(places)
        self.long_statements = Bulkhead(long_places, patience)
        """The places of those whose cost grows."""
        self._inside = self._failures = 0

    @property
    def is_silent(self) -> bool:
        return self._failures >= SILENT_AFTER

    @asynccontextmanager
    async def place(self, patience: float) -> AsyncIterator[Place]:
        """A place until the end of the block, and until the server has ended what was cut off in it.

        Raises `PoolTimeout` if none is free for so many seconds, and at once if enough others try a silent node.
        """
        if self.is_silent and self._inside >= TRIALS:
            raise PoolTimeout(SILENT)
        try:
            async with asyncio.timeout(patience):
                await self._places.acquire()
        except TimeoutError:
            raise PoolTimeout(BUSY) from None
        self._inside += 1
        place = Place()
        try:
            yield place
            self._failures = 0
        except Unavailable:
            self._failures += place.tells
            raise
        finally:
            if place.ending:
                place.ending.add_done_callback(self._release)
            else:
                self._release()

    def _release(self, _: object = None) -> None:
        self._inside -= 1
        self._places.release()


class Shards:
    """Knows which node has the rows of an owner, if there are several."""

    def __init__(self, places: int, long_places: int, patience: float) -> None:
        """The numbers are for each node; the second is for statements whose cost grows, which wait for so long."""
        self._new_node = partial(Node, places, long_places, patience)
        self._nodes: dict[str, Node] = {}
        self._bounds: list[int] = []
        self._by_bound: list[Node] = []

    def load(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Takes the least hash and the node of each shard. One node alone needs no bound."""
        found = sorted((row["least"], row["node"]) for row in rows)
        names = {name for _, name in found}
        if len(names) == 1:
            found, names = [], set()
        # What is known of a node outlasts this.
        self._nodes = {name: self._nodes.get(name) or self._new_node() for name in names}
        self._bounds = [least for least, _ in found]
        self._by_bound = [self._nodes[name] for _, name in found]

    @property
    def stats(self) -> NodeStats:
        """The nodes that have shards. One whose last statements have all failed does not answer."""
        return NodeStats(len(self._nodes), sum(not node.is_silent for node in self._nodes.values()))

    def node_of(self, values: Mapping[str, Any]) -> Node | None:
        """The node that a statement with these values needs, if there are several and the values name an owner."""
        if not self._bounds or not isinstance(owner := values.get("user_id"), UUID):
            return None
        return self._by_bound[bisect_right(self._bounds, uuid_hash(owner)) - 1]


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
