"""The callers who wait for a connection: first come, first served, and told when it would take too long.

How long the next one would wait follows from how many are before him and how quickly they have been served of late
(Little's law). But a line is judged only when it has lasted for as long as anybody should wait: until then it may be
that of a crowd who came at once, and whom a busy process serves slowly at first.
"""

from asyncio import Future, get_running_loop
from collections import deque
from contextlib import suppress
from time import monotonic

from persistence.connection import Connection

MEMORY = 1.0
"""Seconds after which what was observed counts half."""

type Waiter = Future[Connection]


class Line:
    def __init__(self) -> None:
        self._waiters: deque[Waiter] = deque()
        self._began = 0.0
        self._observed_since, self._served = 0.0, 0.0

    def __len__(self) -> int:
        return sum(not waiter.done() for waiter in self._waiters)

    def is_too_long(self, patience: float) -> bool:
        """Whether whoever joins now would wait for more than so many seconds. Forgets what is old."""
        now = monotonic()
        observed = now - self._observed_since
        if observed > MEMORY:
            observed, self._served = observed / 2, self._served / 2
            self._observed_since = now - observed
        has_lasted = bool(self._waiters) and now - self._began >= patience
        return has_lasted and len(self._waiters) * observed > patience * self._served

    def join(self) -> Waiter:
        if not self._waiters:
            self._began = self._observed_since = monotonic()
            self._served = 0.0
        waiter: Waiter = get_running_loop().create_future()
        self._waiters.append(waiter)
        return waiter

    def leave(self, waiter: Waiter) -> None:
        with suppress(ValueError):
            self._waiters.remove(waiter)

    def next(self) -> Waiter | None:
        """Who is to be served now, if anybody waits."""
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                self._served += 1
                return waiter
        return None
