"""The connection pool of a process: bounded, first come first served, and unable to leak (D13).

Three rules make it so. Connections are opened by tasks of the pool, never by the caller who waits, so a cancelled
caller cannot lose one half-open. Giving back is a plain function, so it cannot be cancelled. And a connection comes
back only when it is idle and outside a transaction; any other is closed.

While the database cannot be reached, callers fail at once instead of queueing for a connection that will not come,
and one task of the pool tries again a few times a second. They fail at once, too, when the line is so long that half of
their time would pass in it, so that little work is done in vain (`persistence/line.py`).

A server may have fewer connections than the pools of all processes want. A pool that gets none says so (`on_starved`),
and one that has several can `cede` one.
"""

import asyncio
import contextlib
import logging
import math
import random
import select
from collections import deque
from collections.abc import Awaitable, Callable
from contextvars import Context
from dataclasses import dataclass
from time import monotonic
from typing import Any

import psycopg
from psycopg.pq import TransactionStatus

from persistence.connection import Connection
from persistence.diagnosis import diagnose, is_full
from persistence.errors import PoolTimeout, Unavailable
from persistence.line import BUSY, Line, Waiter
from persistence.options import PoolLimits

logger = logging.getLogger(__name__)

CHECK_AFTER_IDLE = 0.5
"""Seconds a connection may rest before it is checked with a round trip (HikariCP's aliveBypassWindow)."""
CHECK_TIMEOUT = 1.0
"""Seconds a check may take before the connection counts as dead."""
CANCEL_TIMEOUT = 0.2
"""Seconds for the server to cancel a statement, after which the connection is cut without its help."""
SHRINK_AFTER_IDLE = 300.0
"""Seconds after which a connection beyond the minimum is closed when nobody needed it."""
LIFETIME_JITTER = 0.1
"""Connections retire up to this fraction early, so that those opened together do not all go at once."""
FIRST_RETRY, SLOWEST_RETRY = 0.05, 0.15
"""Seconds between attempts to reach a lost database: doubling from the first to the slowest, with jitter."""
CEDED_FOR = 5.0
"""Seconds for another process to take what was given up for it. One that starts tries more often than that."""

LOST = "The database cannot be reached."
CLOSED = "The server is shutting down."


@dataclass(frozen=True)
class PoolStats:
    """Counts of connections: `size` is all of them, those being opened included."""

    size: int
    idle: int
    in_use: int
    waiting: int


class Pool:
    """Lends connections; made and closed inside one event loop by `open_database`."""

    def __init__(
        self,
        connect: Callable[[], Awaitable[Connection]],
        limits: PoolLimits,
        on_starved: Callable[[], None] = lambda: None,
    ) -> None:
        self.limits = limits
        self._connect = connect
        self._on_starved = on_starved
        self._idle: deque[Connection] = deque()
        self._line = Line()
        self._lent: set[Connection] = set()
        self._opening = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._failing = False
        self._server_is_full = False
        self._most = limits.max_size
        self._closed = False

    @property
    def stats(self) -> PoolStats:
        return PoolStats(
            size=self._size,
            idle=len(self._idle),
            in_use=len(self._lent),
            waiting=len(self._line),
        )

    async def open(self, *, at_once: bool = False) -> None:
        """Opens the first connection, and the rest of the minimum in the background.

        Raises what psycopg raises when the database cannot be reached: whether to try again is the caller's choice.
        With `at_once` all of it is done in the background, and this raises nothing.
        """
        if not at_once:
            self._opening += 1
            try:
                connection = await self._connect()
            finally:
                self._opening -= 1
            self._receive(connection)
        self._fill()
        self._spawn(self._keep_house())

    async def close(self) -> None:
        """Closes every connection, those in use included; whoever waits gets `Unavailable`."""
        self._closed = True
        self._line.disband(CLOSED)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        while self._idle:
            _close(self._idle.pop())
        for connection in self._lent:
            # Its user is still waiting on the socket, so it is closed only when it comes back.
            connection.sever()

    async def acquire(self, timeout: float | None = None) -> Connection:
        """Lends a connection that has just been seen alive; pair it with `release`.

        `timeout` is how many seconds the caller has for that and his statement. Waits no longer, nor longer than the
        limits say, first come first served. Raises `PoolTimeout`, at once if the line is too long, and when it is his
        turn if too little time is left; or `Unavailable` at once while the database cannot be reached. No round trip,
        unless the connection has rested for `CHECK_AFTER_IDLE`.
        """
        timeout = math.inf if timeout is None else timeout
        wait = min(self.limits.timeout, timeout)
        now = monotonic()
        ends, deadline = now + timeout, now + wait
        # While none is lent, all are being opened, and how long that takes says nothing about how long the line will.
        if self._lent and not self._idle and self._line.is_too_long(wait):
            raise PoolTimeout(BUSY)
        while True:
            connection = self._take_idle() or await self._wait(deadline, ends - monotonic())
            if not _needs_check(connection) or await self._is_alive(connection, deadline - monotonic()):
                return connection

    def release(self, connection: Connection) -> None:
        """Takes a connection back, whatever has become of it."""
        self._line.note_lent(monotonic() - connection.lent_at)
        self._lent.discard(connection)
        self._receive(connection)

    def give_up(self, connection: Connection) -> None:
        """Ends whatever runs on a lent connection, also in the server, and with it the connection.

        Whoever awaits an answer gets an `OperationalError` after `CANCEL_TIMEOUT` at the latest.
        """
        connection.doomed = True
        self._spawn(_cancel_and_sever(connection))

    def cede(self, *, down_to: int) -> bool:
        """Gives one connection up, if it has more, and opens no other for `CEDED_FOR`: somebody else has none."""
        if self._open_count <= down_to or self._most < self.limits.max_size:
            return False
        logger.info("Giving up a connection, as another process has none.")
        self._most = self._open_count - 1
        asyncio.get_running_loop().call_later(CEDED_FOR, self._take_again)
        if self._idle:
            self._discard(self._idle.popleft())
        return True

    def _take_again(self) -> None:
        self._most = self.limits.max_size
        if not self._closed:
            self._grow()
            self._fill()

    async def take_back(self, connection: Connection) -> None:
        """What `await connection.close()` of a session does instead of closing (`persistence/connection.py`)."""
        try:
            await connection.set_autocommit(True)
        except psycopg.Error:
            pass  # It is broken or still in a transaction: `release` sees that and closes it.
        finally:
            self.release(connection)

    @property
    def _open_count(self) -> int:
        return len(self._idle) + len(self._lent)

    @property
    def _size(self) -> int:
        return self._open_count + self._opening

    @property
    def _least(self) -> int:
        return min(self.limits.min_size, self._most)

    def _take_idle(self) -> Connection | None:
        if not self._idle:
            return None
        # The last one back goes out first: it is the least likely to have gone stale, and the others can retire.
        return self._lend(self._idle.pop())

    def _lend(self, connection: Connection) -> Connection:
        self._lent.add(connection)
        connection.lent_at = monotonic()
        return connection

    async def _wait(self, deadline: float, timeout: float) -> Connection:
        if self._closed:
            raise Unavailable(CLOSED)
        if self.is_lost:
            raise Unavailable(LOST)
        waiter = self._line.join(timeout)
        self._grow()
        timer = asyncio.get_running_loop().call_later(max(0.0, deadline - monotonic()), _give_up, waiter)
        try:
            return await waiter
        except BaseException:
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                # The caller was cancelled in the very moment of the handover: the next in line gets it.
                self.release(waiter.result())
            self._line.leave(waiter)
            raise
        finally:
            timer.cancel()

    def _receive(self, connection: Connection) -> None:
        """Passes a connection on to the first in line, rests it, or closes it if it is past use."""
        if (
            self._closed
            or connection.doomed
            or connection.pgconn.transaction_status != TransactionStatus.IDLE
            # A cancelled session may leave it so, and then statements that look committed would not be.
            or not connection.autocommit
            or connection.retire_at <= monotonic()
            or self._open_count >= self._most
        ):
            self._discard(connection)
            return
        connection.idle_since = monotonic()
        if waiter := self._line.next():
            waiter.set_result(self._lend(connection))
        else:
            self._idle.append(connection)

    def _discard(self, connection: Connection) -> None:
        _close(connection)
        if not self._closed:
            self._grow()
            self._fill()

    async def _is_alive(self, connection: Connection, timeout: float) -> bool:
        """Makes a round trip; a connection that fails it is discarded."""
        started = monotonic()
        timeout = max(0.0, min(timeout, CHECK_TIMEOUT))
        timer = asyncio.get_running_loop().call_later(timeout, connection.sever)
        try:
            await connection.execute("SELECT 1")
        except psycopg.Error as error:
            logger.info("Discarding a connection that died while idle: %s", type(error).__name__)
            self._lent.discard(connection)
            self._discard(connection)
            if monotonic() - started >= CHECK_TIMEOUT:
                # The path to the server is dead: the others, which rested longer, would each take as long to say so.
                while self._idle:
                    self._discard(self._idle.pop())
            return False
        except BaseException:
            self.release(connection)
            raise
        finally:
            timer.cancel()
        if connection.doomed:
            # It answered in the very moment of the timeout.
            self.release(connection)
        return not connection.doomed

    def _grow(self) -> None:
        """Starts opening a connection for each caller in line, as far as the limit allows."""
        room = self._most - self._size
        if room > 0:
            for _ in range(min(room, self.stats.waiting - self._opening)):
                self._open_one()

    def _fill(self) -> None:
        """Starts opening what is missing to the minimum."""
        for _ in range(self._least - self._size):
            self._open_one()

    def _open_one(self) -> None:
        # While attempts fail only one is under way, so that the database's return meets no storm.
        if not (self._failing and self._opening):
            self._opening += 1
            self._spawn(self._open_until_done())

    async def _open_until_done(self) -> None:
        """Opens one connection; the last of these tasks goes on trying for as long as somebody needs it to."""
        delay = FIRST_RETRY
        while True:
            try:
                connection = await self._connect()
            except Exception as error:  # noqa: BLE001 - whatever it is, somebody has to try again
                if not self._failing:
                    logger.warning("Cannot open a database connection: %s", diagnose(error).problem)
                    self._failing = True
                self._server_is_full = is_full(error)
                if self.is_lost:
                    self._line.disband(LOST)
                if self.is_starved:
                    self._on_starved()
                if self._opening == 1 and self._is_short:
                    await asyncio.sleep(delay * random.uniform(0.75, 1.25))  # noqa: S311 - jitter is no secret
                    delay = min(delay * 2, SLOWEST_RETRY)
                if self._opening > 1 or not self._is_short:
                    self._opening -= 1
                    self._failing = self._opening > 0
                    return
            except BaseException:
                self._opening -= 1
                raise
            else:
                self._opening -= 1
                if self._failing:
                    logger.warning("Database connections can be opened again.")
                    self._failing = False
                if not self._open_count:
                    # Until now nobody could be served, however long there was a line.
                    self._line.begin()
                self._receive(connection)
                self._grow()
                self._fill()
                return

    @property
    def is_lost(self) -> bool:
        """Whether there is no connection and none can be opened, so that waiting is in vain."""
        return not self._open_count and (self._failing or not self._most)

    @property
    def is_starved(self) -> bool:
        """Whether that is so because others have all that the server can give."""
        return self._server_is_full and self.is_lost

    @property
    def _is_short(self) -> bool:
        """Whether the connection being opened is needed, and there is room for it."""
        return self._size <= self._least or (self._size <= self._most and self.stats.waiting > 0)

    async def _keep_house(self) -> None:
        """Retires old connections and closes those beyond the minimum that nobody needs. Makes no round trip."""
        while True:
            await asyncio.sleep(min(30.0, self.limits.lifetime / 4))
            now = monotonic()
            for connection in list(self._idle):
                spare = self._size > self.limits.min_size and connection.idle_since < now - SHRINK_AFTER_IDLE
                if spare or connection.retire_at <= now:
                    self._idle.remove(connection)
                    self._discard(connection)

    def _spawn(self, work: Any) -> None:
        # A context of its own, or its log lines would carry the id of the request that happened to start it.
        task = asyncio.get_running_loop().create_task(work, context=Context())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def retirement(limits: PoolLimits) -> float:
    """When a connection opened now retires, on the monotonic clock."""
    return monotonic() + limits.lifetime * (1 - LIFETIME_JITTER * random.random())  # noqa: S311 - jitter is no secret


def _needs_check(connection: Connection) -> bool:
    # An idle connection has nothing to say: whatever can be read is the end of it, or a notice that a check consumes.
    return monotonic() - connection.idle_since > CHECK_AFTER_IDLE or _is_readable(connection.pgconn.socket)


def _is_readable(descriptor: int) -> bool:
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(0))


async def _cancel_and_sever(connection: Connection) -> None:
    # Without the request to cancel, the server would go on with a statement whose answer nobody reads, and keep its
    # connection beyond the pool's limit. And its answer to that tells that a write has not happened.
    with contextlib.suppress(psycopg.Error, OSError, TimeoutError):
        async with asyncio.timeout(CANCEL_TIMEOUT):
            await connection.cancel_safe(timeout=CANCEL_TIMEOUT)
            await asyncio.sleep(CANCEL_TIMEOUT)
    connection.sever()


def _give_up(waiter: Waiter) -> None:
    if not waiter.done():
        waiter.set_exception(PoolTimeout(BUSY))


def _close(connection: Connection) -> None:
    # What psycopg's own `await connection.close()` does, but here nothing may be awaited.
    connection._closed = True  # noqa: SLF001
    connection.pgconn.finish()
