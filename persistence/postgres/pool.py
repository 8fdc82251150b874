"""The connection pool of a process: bounded, first come first served, and unable to leak (D13).

Three rules make it so. Connections are opened by tasks of the pool, never by the caller that waits, so a cancelled
caller cannot lose one half-open. `check_in` is a plain function, so it cannot be cancelled. And a connection is kept
only when it is idle and outside a transaction; any other is closed.

While the database cannot be reached, callers fail at once instead of waiting for a connection that will not come, and
one task of the pool tries again a few times a second. Callers fail at once, too, when half of their time would pass in
the wait queue (`persistence/postgres/wait_queue.py`).
"""

import asyncio
import logging
import math
import random
from collections import deque
from collections.abc import Awaitable, Callable
from contextvars import Context
from time import monotonic
from typing import Any, NamedTuple

from psycopg.pq import TransactionStatus

from persistence.postgres.cancellation import CANCEL_REQUEST_TIMEOUT, CANCEL_TIMEOUT, cancel_and_release, finish
from persistence.postgres.connection import Connection
from persistence.postgres.costs import Counts
from persistence.postgres.diagnosis import diagnose
from persistence.postgres.errors import PoolTimeout, Unavailable
from persistence.postgres.options import PoolLimits
from persistence.postgres.wait_queue import BUSY, WaitQueue

logger = logging.getLogger(__name__)

CHECK_AFTER_IDLE = 0.5
"""Seconds a connection may be idle before it is checked with a round trip (HikariCP's aliveBypassWindow)."""
CHECK_TIMEOUT = 1.0
"""Seconds a check may take before the connection counts as dead."""
SHRINK_AFTER_IDLE = 300.0
"""Seconds after which an idle connection beyond the minimum is closed."""
MAINTENANCE_INTERVAL = 30.0
"""Seconds between two sweeps of the idle connections."""
RENEWED_AFTER = 1.0
"""Seconds that a connection lives at least before an error makes the pool replace it by a better one."""
FIRST_RETRY, SLOWEST_RETRY = 0.05, 0.15
"""Seconds between attempts to reach a lost database: doubling from the first to the slowest, with jitter."""

LOST = "The database cannot be reached."
CLOSED = "The server is shutting down."


class PoolStats(NamedTuple):
    """`size` counts all connections, those being opened included; `waiting` counts callers."""

    size: int
    idle: int
    in_use: int
    waiting: int


class Pool:
    """Checks connections out and in; made and closed inside one event loop by `open_database`."""

    def __init__(
        self,
        connect: Callable[[], Awaitable[Connection]],
        limits: PoolLimits,
        counts: Counts | None = None,
        on_silence: Callable[[str], None] | None = None,
    ) -> None:
        """`on_silence` is told a node that did not answer a check, and calls `drop_idle` of this pool and others."""
        self.limits = limits
        self._on_silence = on_silence or self.drop_idle
        self._counts = counts or Counts()
        self._connect = connect
        self._idle: deque[Connection] = deque()
        self._queue = WaitQueue()
        self._in_use: set[Connection] = set()
        self._opening = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._failing = False
        self._closed = False
        self._renewed_at = 0.0
        """Connections opened before that are closed when they come back."""

    @property
    def stats(self) -> PoolStats:
        return PoolStats(self._size, len(self._idle), len(self._in_use), len(self._queue))

    @property
    def is_lost(self) -> bool:
        """Tells if there is no connection of use and none can be opened, so that waiting is in vain."""
        return self._failing and not self._idle and all(connection.runs_on for connection in self._in_use)

    def open(self, first: Connection | None = None) -> None:
        """Takes the first connection, if there is one, and opens the rest of the minimum in the background."""
        if first:
            self._receive(first)
        self._grow()
        self._spawn(self._maintain())

    async def close(self) -> None:
        """Closes every connection, those in use included; callers that wait get `Unavailable`."""
        self._closed = True
        self._queue.fail_all(CLOSED)
        self._discard_idle()
        # Each is closed when its user, who still waits on its socket, gives it back. The server is told as well, or it
        # would go on with what nobody awaits any more.
        await asyncio.gather(*(cancel_and_release(connection, CANCEL_TIMEOUT) for connection in self._in_use))
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def check_out(self, timeout: float = math.inf) -> Connection:
        """A connection that has just been seen alive, for `check_in` later.

        `timeout` is how many seconds the caller has for that and its statement; it waits no longer, nor longer than
        the limits say. Raises `PoolTimeout`: at once if the queue is too long, or when the caller's turn comes with
        too little time left. Raises `Unavailable` at once while the database cannot be reached. Costs no round trip
        unless the connection was idle for `CHECK_AFTER_IDLE`.
        """
        began = monotonic()
        try:
            return await self._check_out(timeout)
        except PoolTimeout:
            self._counts.timeouts += 1
            raise
        finally:
            self._counts.add_wait(monotonic() - began)

    async def _check_out(self, timeout: float) -> Connection:
        wait = min(self.limits.timeout, timeout)
        now = monotonic()
        ends, deadline = now + timeout, now + wait
        # While no connection is in use, all are being opened, which says nothing about how long the wait will be.
        if self._in_use and not self._idle and self._queue.is_overloaded(wait):
            raise PoolTimeout(BUSY)
        while True:
            # The connection that came back last goes out first: it is the least likely to be stale, and spare ones age.
            connection = self._take(self._idle.pop()) if self._idle else await self._wait(deadline, ends - monotonic())
            if not _needs_check(connection) or await self._is_alive(connection, deadline - monotonic()):
                return connection
            if monotonic() >= deadline:
                # A check in no time at all would be failed by every other connection.
                raise PoolTimeout(BUSY)

    def check_in(self, connection: Connection) -> asyncio.Task[None] | None:
        """Takes a connection back, in whatever state it is; while its statement runs on it still counts as in use.

        Returns the task that ends such a statement.
        """
        self._queue.note_use(monotonic() - connection.checked_out_at)
        if connection.runs_on and not self._closed:
            return self._spawn(self._finish(connection))
        self._in_use.discard(connection)
        self._receive(connection)
        return None

    def time_out(self, connection: Connection) -> None:
        """Ends the statement that runs on a connection, in the server as well, and then the connection.

        A caller that awaits an answer gets an `OperationalError` after `CANCEL_TIMEOUT` at the latest; in a session,
        whose connection cannot be used to read on, after `CANCEL_REQUEST_TIMEOUT`.
        """
        connection.invalidated = True
        self._counts.cut_off += 1
        self._spawn(cancel_and_release(connection, CANCEL_REQUEST_TIMEOUT if connection.on_close else CANCEL_TIMEOUT))

    def replace(self, connection: Connection, *, with_all_others: bool) -> None:
        """Has a connection closed that met an error which a new one may not meet, unless it is new itself."""
        now = monotonic()
        if connection.opened_at + RENEWED_AFTER < now:
            connection.invalidated = True
            if with_all_others:
                # What the schema was is remembered for all nodes alike.
                self._renewed_at = now
                self._discard_idle()

    def drop_idle(self, node: str) -> None:
        """Closes the idle connections to a node that is of no use now."""
        for connection in [each for each in self._idle if each.node == node]:
            self._idle.remove(connection)
            self._discard(connection)

    @property
    def _open_count(self) -> int:
        return len(self._idle) + len(self._in_use)

    @property
    def _size(self) -> int:
        return self._open_count + self._opening

    def _take(self, connection: Connection) -> Connection:
        self._in_use.add(connection)
        connection.checked_out_at = monotonic()
        return connection

    async def _wait(self, deadline: float, timeout: float) -> Connection:
        if self._closed:
            raise Unavailable(CLOSED)
        if self.is_lost:
            raise Unavailable(LOST)
        waiter = self._queue.join(timeout, patience=deadline - monotonic())
        self._grow()
        try:
            return await waiter
        except BaseException:
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                # The caller was cancelled in the very moment of the handover: the next in the queue gets it.
                self.check_in(waiter.result())
            self._queue.leave(waiter)
            raise

    def _receive(self, connection: Connection) -> None:
        """Hands a connection to the first caller in the queue, keeps it idle, or closes it if it is past use."""
        if (
            self._closed
            or connection.invalidated
            or connection.opened_at < self._renewed_at
            or connection.pgconn.transaction_status != TransactionStatus.IDLE
            # A cancelled session may leave it so, and then statements that look committed would not be.
            or not connection.autocommit
            or connection.expires_at <= monotonic()
        ):
            self._discard(connection)
            return
        connection.idle_since = monotonic()
        if waiter := self._queue.next():
            waiter.set_result(self._take(connection))
        else:
            self._idle.append(connection)

    async def _finish(self, connection: Connection) -> None:
        """Closes a connection when the server has ended the statement that was left on it."""
        try:
            await finish(connection)
        finally:
            self._discard(connection)

    def _discard(self, connection: Connection) -> None:
        self._in_use.discard(connection)
        connection.end()
        if not self._closed:
            self._grow()

    def _discard_idle(self) -> None:
        for _ in range(len(self._idle)):
            self._discard(self._idle.pop())

    async def _is_alive(self, connection: Connection, timeout: float) -> bool:
        """Makes a round trip; a connection that fails it is discarded."""
        started = monotonic()
        try:
            alive = await connection.ping(max(0.0, min(timeout, CHECK_TIMEOUT)))
        except BaseException:
            self.check_in(connection)
            raise
        if not alive:
            self._discard(connection)
            if monotonic() - started >= CHECK_TIMEOUT:
                # The path to the node is dead: its others, idle for longer, would each take as long to say so.
                self._on_silence(connection.node)
        return alive

    def _grow(self) -> None:
        """Starts opening what callers in the queue and the minimum need, as far as the limit allows."""
        room = self.limits.max_size - self._size
        # Counting the queue takes long for a long one, which it is when there is no room.
        if room > 0:
            needed = max(len(self._queue) - self._opening, self.limits.min_size - self._size)
            for _ in range(min(needed, room)):
                self._open_one()

    def _open_one(self) -> None:
        # While attempts fail only one is under way, so that the database's return meets no storm.
        if not (self._failing and self._opening):
            self._opening += 1
            self._spawn(self._open_until_done())

    async def _open_until_done(self) -> None:
        """Opens one connection; the last of these tasks goes on trying for as long as a caller or the minimum asks."""
        delay = FIRST_RETRY
        try:
            while (connection := await self._try_to_connect()) is None:
                if self._opening == 1 and self._is_short:
                    await asyncio.sleep(delay * random.uniform(0.75, 1.25))  # noqa: S311 - jitter is not a secret
                    delay = min(delay * 2, SLOWEST_RETRY)
                if self._opening > 1 or not self._is_short:
                    return
        finally:
            self._opening -= 1
            self._failing = self._failing and self._opening > 0
        if not self._open_count:
            # Until now no caller could be served, however long the queue was.
            self._queue.restart()
        self._receive(connection)
        self._grow()

    async def _try_to_connect(self) -> Connection | None:
        try:
            connection = await self._connect()
        except Exception as error:  # noqa: BLE001 - whatever it is, the attempt has to be made again
            if not self._failing:
                logger.warning("Cannot open a database connection: %s", diagnose(error).problem)
                self._failing = True
            if self.is_lost:
                self._queue.fail_all(LOST)
            return None
        if self._failing:
            logger.warning("Database connections can be opened again.")
            self._failing = False
        return connection

    @property
    def _is_short(self) -> bool:
        """Tells if the connection being opened is needed, and there is room for it."""
        return self._size <= self.limits.min_size or (self._size <= self.limits.max_size and len(self._queue) > 0)

    async def _maintain(self) -> None:
        """Recycles old connections and closes spare ones beyond the minimum. Makes no round trip."""
        while True:
            await asyncio.sleep(min(MAINTENANCE_INTERVAL, self.limits.lifetime / 4))
            now = monotonic()
            for connection in list(self._idle):
                spare = self._size > self.limits.min_size and connection.idle_since < now - SHRINK_AFTER_IDLE
                if spare or connection.expires_at <= now:
                    self._idle.remove(connection)
                    self._discard(connection)

    def _spawn(self, work: Any) -> asyncio.Task[None]:
        # A context of its own, or its log lines would carry the id of the request that happened to start it.
        task = asyncio.get_running_loop().create_task(work, context=Context())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def _needs_check(connection: Connection) -> bool:
    # An idle connection has nothing to say: what can be read is the end of it, or a notice that a check consumes.
    return monotonic() - connection.idle_since > CHECK_AFTER_IDLE or connection.is_readable
