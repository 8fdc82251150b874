"""The callers who wait for a connection: first come, first served, and told when it would take too long.

How long the next one would wait follows from how many are before him and how quickly they have been served of late
(Little's law). But a line is judged only when it has lasted for as long as anybody should wait: until then it may be
that of a crowd who came at once, and whom a busy process serves slowly at first.

Whoever has waited for so long that there is no time left for his statement is refused when it is his turn: it would be
cut off, and its connection with it, while those behind him wait.
"""

from asyncio import Future, get_running_loop
from collections import OrderedDict
from time import monotonic

from persistence.connection import Connection
from persistence.errors import PoolTimeout, Unavailable

BUSY = "All database connections are busy."

MEMORY = 1.0
"""Seconds after which what was observed counts half."""
ADJUSTMENT = 1.05
"""Factor by which one caller changes what is taken for the usual time that a connection is lent. A few slow ones, as
after a stall, hardly count: about fifty make it ten times as long."""
MARGIN = 2.0
"""How many times the usual one is left to a caller at least."""

type Waiter = Future[Connection]


class Line:
    def __init__(self) -> None:
        self._waiters: OrderedDict[Waiter, float] = OrderedDict()
        self._usually_lent = 0.001
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

    def begin(self) -> None:
        """From now on callers can be served, so what was observed before does not count."""
        self._began = self._observed_since = monotonic()
        self._served = 0.0

    def note_lent(self, seconds: float) -> None:
        """How long somebody had a connection. This makes a running median."""
        self._usually_lent *= ADJUSTMENT if seconds > self._usually_lent else 1 / ADJUSTMENT

    def join(self, deadline: float) -> Waiter:
        """The deadline is that of the caller's statement, on the monotonic clock."""
        if not self._waiters:
            self.begin()
        waiter: Waiter = get_running_loop().create_future()
        self._waiters[waiter] = deadline
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
        latest = monotonic() + self._usually_lent * MARGIN
        while self._waiters:
            waiter, deadline = self._waiters.popitem(last=False)
            if waiter.done():
                continue
            if deadline < latest:
                waiter.set_exception(PoolTimeout(BUSY))
                continue
            self._served += 1
            return waiter
        return None
