"""The callers who wait for a connection: first come, first served, and told when it would take too long.

How long the next one would wait follows from how many are before him and how quickly they have been served of late
(Little's law). But a line is judged only when it has lasted for as long as anybody should wait: until then it may be
that of a crowd who came at once, and whom a busy process serves slowly at first.

Whoever has waited for so long that there is no time left for his statement is refused when it is his turn: it would be
cut off, and its connection with it, while those behind him wait.
"""

import math
from asyncio import Future, get_running_loop
from collections import OrderedDict
from time import monotonic

from persistence.connection import Connection
from persistence.errors import PoolTimeout, Unavailable

BUSY = "All database connections are busy."

SHARE = 0.5
"""Share of a caller's time that he should spend in line at most."""
MEMORY = 1.0
"""Seconds that are looked back on at most; then the older half of them is forgotten, about."""
ADJUSTMENT = 1.05
"""Factor by which one caller changes what is taken for the usual time that a connection is lent. A few slow ones, as
after a stall, hardly count: about fifty make it ten times as long."""
MARGIN = 2.0
"""How many times the usual one must be left to a caller, if he has spent his share."""

type Waiter = Future[Connection]


class Line:
    def __init__(self) -> None:
        self._waiters: OrderedDict[Waiter, tuple[float, float]] = OrderedDict()
        self._usually_lent = 0.001
        self._began = 0.0
        self._observed_since, self._served = 0.0, 0.0

    def __len__(self) -> int:
        return sum(not waiter.done() for waiter in self._waiters)

    def is_too_long(self, timeout: float) -> bool:
        """Whether a caller with so many seconds would spend too many of them in it. Forgets what is old."""
        now, patience = monotonic(), timeout * SHARE
        observed = now - self._observed_since
        if observed > MEMORY:
            observed, self._served = observed / 2, self._served / 2
            self._observed_since = now - observed
        has_lasted = bool(self._waiters) and now - self._began >= patience
        return has_lasted and len(self._waiters) * observed > patience * self._served

    def begin(self) -> None:
        """From now on callers can be served, so what was observed before does not count."""
        self._began = self._observed_since = monotonic()
        self._served = 0.0

    def note_lent(self, seconds: float) -> None:
        """How long somebody had a connection. This makes a running median."""
        self._usually_lent *= ADJUSTMENT if seconds > self._usually_lent else 1 / ADJUSTMENT

    def join(self, timeout: float = math.inf) -> Waiter:
        """With seconds for the caller to wait and to run his statement, if he has not all the time for that."""
        if not self._waiters:
            self.begin()
        waiter: Waiter = get_running_loop().create_future()
        now = monotonic()
        self._waiters[waiter] = now + timeout * SHARE, now + timeout
        return waiter

    def leave(self, waiter: Waiter) -> None:
        self._waiters.pop(waiter, None)

    def disband(self, reason: str) -> None:
        """Nobody will be served: each gets `Unavailable`."""
        while self._waiters:
            waiter, _ = self._waiters.popitem(last=False)
            if not waiter.done():
                waiter.set_exception(Unavailable(reason))

    def next(self) -> Waiter | None:
        """Who is to be served now, if anybody waits."""
        now = monotonic()
        done = now + self._usually_lent * MARGIN
        while self._waiters:
            waiter, (share_spent, deadline) = self._waiters.popitem(last=False)
            if waiter.done():
                continue
            if now > share_spent and done > deadline:
                waiter.set_exception(PoolTimeout(BUSY))
                continue
            self._served += 1
            return waiter
        return None
