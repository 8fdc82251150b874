"""The clients of one worker: how many may be connected, and which go when there are too many."""

import asyncio
import heapq
import resource
from typing import TYPE_CHECKING, Any

from server.responses import Linger, rendered
from web.observation import COUNTS
from web.problems import Problem
from web.request_ids import new_request_id

if TYPE_CHECKING:
    from server.protocol import Protocol

_SWEPT_AT_ONCE = 500
_OTHER_FILES = 200
"""Files that a worker may have open besides connections of clients: connections to the database, and the rest."""
_FEWEST_CLIENTS = 16
_EVICTED_AT_ONCE = 32
_IDLE_SECONDS = 1.0
"""Seconds that a connection must have been idle to lose its place to a new one."""
_TOLD_AT_ONCE = 50
"""Refused clients that get to read why at a time, as each keeps a file open meanwhile."""


class Clients:
    def __init__(self, loop: asyncio.AbstractEventLoop, wanted: int) -> None:
        self.connections: set[Protocol] = set()
        self._loop = loop
        self._limit = connection_limit(wanted)
        self._none_is_idle = False
        self._being_told = 0

    def sweep(self) -> None:
        """Ends the connections whose time is up: at some of them now, and then at the rest, so that requests go on."""
        self._none_is_idle = False
        self._sweep(list(self.connections))

    def _sweep(self, connections: list["Protocol"]) -> None:
        now = self._loop.time()
        for connection in connections[-_SWEPT_AT_ONCE:]:
            connection.sweep(now)
        del connections[-_SWEPT_AT_ONCE:]
        if connections:
            self._loop.call_soon(self._sweep, connections)

    def close_idle(self) -> None:
        for connection in list(self.connections):
            if connection.is_idle:
                connection.close_idle()

    def has_room(self) -> bool:
        """Tells if one more client may come; if need be, those go that have been idle longest."""
        if len(self.connections) < self._limit:
            return True
        if not self._none_is_idle:
            self._evict()
        return len(self.connections) < self._limit

    def _evict(self) -> None:
        latest = self._loop.time() - _IDLE_SECONDS
        idle = [(since, id(each), each) for each in self.connections if (since := each.idle_since) and since < latest]
        # A flood of clients must not cost a look at every connection each: several go at once, and if none can, that
        # is noted.
        self._none_is_idle = not idle
        for _, _, connection in heapq.nsmallest(min(_EVICTED_AT_ONCE, 1 + self._limit // 8), idle):
            self.connections.discard(connection)
            connection.close_idle()

    def refuse(self, transport: Any, problem: Problem) -> None:
        """Tells a client why there is no place for it, if there is time for that."""
        COUNTS.refused["connections"] += 1
        transport.write(rendered(problem, new_request_id(), origin=None))
        if self._being_told < _TOLD_AT_ONCE:
            self._being_told += 1
            Linger(transport, self._forget_refused)
        else:
            transport.set_protocol(asyncio.Protocol())
            transport.abort()

    def _forget_refused(self, _error: Exception | None) -> None:
        self._being_told -= 1


def connection_limit(wanted: int) -> int:
    """Counts the clients that may be connected at once, so that the process never runs out of files to open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard == resource.RLIM_INFINITY:
        return wanted
    return min(wanted, max(hard - _OTHER_FILES, _FEWEST_CLIENTS))
