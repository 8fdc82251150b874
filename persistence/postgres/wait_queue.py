"""The callers that wait for a connection: first come, first served, and refused when the wait would be too long.

The wait of the next caller follows from the length of the queue and the rate at which it was served of late (Little's
law). A queue is judged only when it has lasted for as long as any caller should wait: until then it may be that of a
crowd that came at once, which a busy process serves slowly at first.

A caller that has waited for so long that no time is left for its statement is refused when its turn comes: the
statement would be cut off, and its connection with it, while the callers behind it wait (ADR 0019).
"""

from asyncio import Future, get_running_loop
from collections import OrderedDict
from time import monotonic

from persistence.postgres.connection import Connection
from persistence.postgres.errors import PoolTimeout, Unavailable

BUSY = "All database connections are busy."

SHARE = 0.5
"""Share of its time that a caller should spend in the queue at most."""
MEMORY = 1.0
"""Seconds of service that the rate is taken from at most; after that about the older half is forgotten."""
ADJUSTMENT = 1.05
"""Factor by which one caller changes the usual time of use. A few slow callers, as after a stall, hardly count: about
fifty make the usual time ten times as long."""
MARGIN = 2.0
"""Times the usual time of use that a caller must have left when it has spent its share."""

type Waiter = Future[Connection]


class WaitQueue:
    def __init__(self) -> None:
        self._waiters: OrderedDict[Waiter, tuple[float, float]] = OrderedDict()
        self._usual_use = 0.001
        self._began = 0.0
        self._observed_since, self._served = 0.0, 0.0

    def __len__(self) -> int:
        return sum(not waiter.done() for waiter in self._waiters)

    def is_overloaded(self, timeout: float) -> bool:
        """Tells if a caller with so many seconds would spend too many of them here."""
        now, patience = monotonic(), timeout * SHARE
        observed = now - self._observed_since
        if observed > MEMORY:
            observed, self._served = observed / 2, self._served / 2
            self._observed_since = now - observed
        has_lasted = bool(self._waiters) and now - self._began >= patience
        return has_lasted and len(self._waiters) * observed > patience * self._served

    def restart(self) -> None:
        """Forgets what was observed: callers can be served from now on."""
        self._began = self._observed_since = monotonic()
        self._served = 0.0

    def note_use(self, seconds: float) -> None:
        """Records how long a connection was in use. This makes a running median."""
        self._usual_use *= ADJUSTMENT if seconds > self._usual_use else 1 / ADJUSTMENT

    def join(self, timeout: float, patience: float) -> Waiter:
        """Adds a caller that has `timeout` seconds for its wait and its statement, and waits for `patience` at most."""
        if not self._waiters:
            self.restart()
        loop = get_running_loop()
        waiter: Waiter = loop.create_future()
        timer = loop.call_later(max(0.0, patience), _time_out, waiter)
        waiter.add_done_callback(lambda _: timer.cancel())
        now = monotonic()
        self._waiters[waiter] = now + timeout * SHARE, now + timeout
        return waiter

    def leave(self, waiter: Waiter) -> None:
        self._waiters.pop(waiter, None)

    def fail_all(self, reason: str) -> None:
        """Ends the wait of every caller with `Unavailable`."""
        while self._waiters:
            waiter, _ = self._waiters.popitem(last=False)
            if not waiter.done():
                waiter.set_exception(Unavailable(reason))

    def next(self) -> Waiter | None:
        """The caller to be served now, if any waits."""
        now = monotonic()
        done = now + self._usual_use * MARGIN
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


def _time_out(waiter: Waiter) -> None:
    if not waiter.done():
        waiter.set_exception(PoolTimeout(BUSY))
