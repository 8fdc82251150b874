"""The callers who wait for a connection: first come, first served, and told when it would take too long.

How long the next one would wait follows from how many are before him and how quickly they have been served of late.
"""

from asyncio import Future, get_running_loop
from collections import deque
from contextlib import suppress
from time import monotonic

from persistence.connection import Connection

GRACE = 0.5
"""Seconds that a line must have lasted before anybody judges it."""
TRUST = 300
"""Callers whom a new line is taken to have served already. When a crowd comes at once, the process is busy reading its
requests and serves hardly anybody at first; what it can do shows later."""
MEMORY = 1.0
"""Seconds after which what was observed counts half."""

type Waiter = Future[Connection]


class Line:
    def __init__(self) -> None:
        self._waiters: deque[Waiter] = deque()
        self._began = 0.0
        self._served = 0.0

    def __len__(self) -> int:
        return sum(not waiter.done() for waiter in self._waiters)

    def expected_wait(self) -> float:
        """Seconds for whoever joins now: those before him, at the rate of late (Little's law). Forgets what is old."""
        lasted = monotonic() - self._began
        if not self._waiters or lasted < GRACE:
            return 0.0
        if lasted > MEMORY:
            lasted, self._served = lasted / 2, self._served / 2
            self._began = monotonic() - lasted
        return len(self._waiters) * lasted / max(self._served, 1.0)

    def join(self) -> Waiter:
        if not self._waiters:
            self._began, self._served = monotonic(), float(TRUST)
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
