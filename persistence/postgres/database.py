"""The entry point to the database: one statement in one round trip, or a session for work that needs more than one."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Hashable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, nullcontext
from copy import copy
from dataclasses import replace
from time import monotonic
from typing import Any, NoReturn

import psycopg
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlmodel.ext.asyncio.session import AsyncSession

from persistence.postgres.bulkhead import Bulkhead
from persistence.postgres.connection import Connection
from persistence.postgres.costs import Counts
from persistence.postgres.dsn import Dsn
from persistence.postgres.errors import (
    DeadlineExceeded,
    InvalidValue,
    OutcomeUnknown,
    SchemaMismatch,
    Unavailable,
    is_in_doubt,
    rule_for,
    translate,
)
from persistence.postgres.gate import Gate
from persistence.postgres.libpq import own_environment
from persistence.postgres.nodes import Nodes, NodeStats
from persistence.postgres.options import DatabaseOptions, PoolLimits
from persistence.postgres.pool import Pool
from persistence.postgres.retries import Retries
from persistence.postgres.sessions import engine_on
from persistence.postgres.shards import Place, Shards
from persistence.postgres.statement import Statement, Step
from persistence.postgres.streams import batches
from persistence.postgres.turns import Turns

LONG_SHARE = 0.5
"""Share of the pool that statements whose cost grows with what an owner has stored may use."""
NODE_SHARE = 0.5
"""Share of the pool, and of its part for long statements, that those of one node of a spread database may use."""
WAIT_SHARE = 0.5
"""Share of its time that a statement may wait for others whose cost grows, or for others of its node, and that a write
may expect to wait for others of its owner."""
TURN_SHARE = 0.9
"""Share of its time that a write may wait for others of its owner. It takes milliseconds itself, and has to outlast
what makes all wait: a migration at a lock (3 s of 5), a database that wakes up (4 s)."""
STREAMS_SHARE = 0.25
"""Share of these that may be streams, each of which may last for minutes."""
PROBES_FROM = 5
"""Size of a pool from which on one of its connections is kept for probes."""

BUSY_OWNER = "Too many changes of this user are being made at once."

_CANCELLED = "57014"


class Database:
    """A pool and an engine on it; made by `open_database` and good for that event loop only.

    `probes` is the same database through a connection that no load can occupy, if the pool is large enough for that.
    """

    def __init__(
        self,
        pool: Pool,
        engine: AsyncEngine,
        options: DatabaseOptions,
        probe_pool: Pool,
        *,
        counts: Counts,
        nodes: Nodes,
    ) -> None:
        self.pool = pool
        self.nodes = nodes
        self.counts = counts
        self._engine = engine
        self._timeout = options.statement_timeout
        self._retries = Retries()
        places = max(1, int(options.limits.max_size * LONG_SHARE))
        patience = options.statement_timeout * WAIT_SHARE
        self._bulkhead = Bulkhead(places, patience)
        self._turns = Turns(BUSY_OWNER)
        self.shards = Shards(
            max(1, int(options.limits.max_size * NODE_SHARE)), max(1, int(places * NODE_SHARE)), patience
        )
        self.stream_places = Gate(
            max(1, int(places * STREAMS_SHARE)), "Too many exports are being made at once, or one of this user is."
        )
        self.probes = self
        if probe_pool is not pool:
            # Both share the budget of retries, and the counts.
            self.probes = copy(self)
            self.probes.pool = probe_pool

    @property
    def node_stats(self) -> NodeStats:
        """The nodes of the URL or, on a spread database, those that have the rows, whichever show more trouble."""
        return min(self.nodes.stats, self.shards.stats, key=lambda each: (each.answering - each.known, -each.known))

    def after(self, seconds: float) -> "Database":
        """The same database for a request that has already used so many seconds of its time."""
        later = copy(self)
        later._timeout = max(0.0, self._timeout - seconds)  # noqa: SLF001 - it is of this class
        return later

    async def long_rows(self, statement: Statement, values: Mapping[str, Any], owner: Hashable) -> list[dict[str, Any]]:
        """Like `rows`, for a statement whose cost grows with what its owner has stored.

        Such statements share a part of the pool, and of one owner one runs at a time. Raises `PoolTimeout` for one that
        waits for too long.
        """
        began = monotonic()
        async with self._long_place(values, owner):
            turn = None if statement.reads else owner
            return await self.rows(statement, values, self.time_left(began), turn=turn)

    async def long_together(self, steps: Sequence[Step], owner: Hashable, name: str) -> list[list[dict[str, Any]]]:
        """Like `together`, for writes of an owner of which one grows; otherwise like `long_rows`."""
        began = monotonic()
        async with self._long_place(steps[0][1], owner):
            return await self.together(steps, self.time_left(began), turn=owner, name=name)

    @asynccontextmanager
    async def _long_place(self, values: Mapping[str, Any], owner: Hashable) -> AsyncIterator[None]:
        node = self.shards.node_of(values)
        async with node.long_statements.place(owner) if node else nullcontext(), self._bulkhead.place(owner):
            yield

    async def stream(
        self, statement: Statement, values: Mapping[str, Any], owner: Hashable
    ) -> AsyncGenerator[list[dict[str, Any]]]:
        """The rows in batches, all of one moment, as the caller takes them, which may be for as long as it likes.

        A caller that leaves early closes the generator. Raises `PoolTimeout` for a second stream of the same owner, and
        when there are too many.
        """
        with self.stream_places.place(owner):
            # A place of its own kind, or the other long statements of this owner would wait for minutes.
            async with (
                self._bulkhead.place(("stream", owner)),
                aclosing(batches(self.pool, statement, values, self._timeout, self.counts)) as found,
            ):
                async for rows in found:
                    yield rows

    def time_left(self, since: float) -> float:
        """Seconds left for the second statement of a request whose first began at `since` on the monotonic clock."""
        return max(0.0, self._timeout - (monotonic() - since))

    def rows(
        self, statement: Statement, values: Mapping[str, Any], timeout: float | None = None, *, turn: Hashable = None
    ) -> Coroutine[Any, Any, list[dict[str, Any]]]:
        """Runs one statement in autocommit and returns all its rows. One round trip.

        Statements with the same `turn`, such as the writes of an owner, wait for each other before they have a
        connection, because they would wait for the same lock with one. A statement that failed in passing runs again if
        it is a read or cannot have happened. Raises the errors of `persistence.postgres.errors`, within `timeout`
        seconds (the options' by default) at the latest.
        """
        bound = statement.bind(values)
        # A coroutine around this one would show in the time of each statement.
        return self._run(
            lambda connection: connection.fetch(statement, bound), [(statement, values)], statement.name, timeout, turn
        )

    async def row(
        self, statement: Statement, values: Mapping[str, Any], timeout: float | None = None, *, turn: Hashable = None
    ) -> dict[str, Any] | None:
        """The first row, or None; otherwise like `rows`."""
        rows = await self.rows(statement, values, timeout, turn=turn)
        return rows[0] if rows else None

    async def together(
        self, steps: Sequence[Step], timeout: float | None = None, *, turn: Hashable = None, name: str = "batch"
    ) -> list[list[dict[str, Any]]]:
        """Runs statements in order and in one transaction, and returns all rows of each. One round trip for them all.

        An error of one undoes them all. Otherwise like `rows`: they run again if none can have happened, or all are
        reads. They count as `name` in the metrics. A script cannot be among them.
        """
        bound = [(statement, statement.bind(values)) for statement, values in steps]
        return await self._run(lambda connection: connection.together(bound), steps, name, timeout, turn)

    async def _run[T](
        self,
        work: Callable[[Connection], Awaitable[T]],
        steps: Sequence[Step],
        name: str,
        timeout: float | None,
        turn: Hashable,
    ) -> T:
        """Waits for what the work needs besides a connection: its turn and, on a spread database, a place of its node.

        In this order, as a caller that waits for its turn needs no place.
        """
        timeout = self._timeout if timeout is None else timeout
        deadline = monotonic() + timeout
        if turn is not None:
            await self._turns.take(turn, timeout * TURN_SHARE, timeout * WAIT_SHARE)
        try:
            # All steps name the same owner.
            node = self.shards.node_of(steps[0][1]) if steps else None
            if node is None:
                return await self._attempt(work, steps, name, deadline)
            async with node.place(min(timeout * WAIT_SHARE, deadline - monotonic())) as place:
                return await self._attempt(work, steps, name, deadline, place)
        finally:
            if turn is not None:
                self._turns.pass_on(turn)

    async def _attempt[T](
        self,
        work: Callable[[Connection], Awaitable[T]],
        steps: Sequence[Step],
        name: str,
        deadline: float,
        place: Place | None = None,
    ) -> T:
        """Runs the work until it succeeds or may not run again."""
        attempts = 0
        while True:
            attempts += 1
            connection = await self.pool.check_out(deadline - monotonic())
            timer = asyncio.get_running_loop().call_later(
                max(0.0, deadline - monotonic()), self.pool.time_out, connection
            )
            began = monotonic()
            try:
                return await work(connection)
            except UnicodeEncodeError as error:
                raise InvalidValue("A text has a lone surrogate, which cannot be stored.") from error
            except psycopg.Error as error:
                failure, runs_again = self._judge(error, steps, connection, is_late=monotonic() >= deadline)
                if place:
                    # The loss of the connection would tell of the coordinator.
                    place.tells = not connection.closed
            finally:
                timer.cancel()
                self.counts.add_operation(name, monotonic() - began)
                ending = self.pool.check_in(connection)
                if place:
                    place.ending = ending
            if not runs_again or not await self._retries.wait(attempts, deadline):
                raise failure
            self.counts.retries += 1

    def _judge(
        self, error: psycopg.Error, steps: Sequence[Step], connection: Connection, *, is_late: bool
    ) -> tuple[Exception, bool]:
        """The error for the caller, and whether the statements may run again. Marks connections past use."""
        rule = rule_for(error)
        statements = [statement for statement, _ in steps]
        # What a statement was planned with may have been dropped and made again.
        is_stale = (rule is None or rule.becomes is SchemaMismatch) and any(
            connection.has_prepared(statement) for statement in statements
        )
        if rule is None or is_stale:
            connection.invalidated = True
        if is_stale or (rule and rule.is_renewed):
            self.pool.replace(connection, with_all_others=is_stale)
        nothing_happened = connection.has_rolled_back(error) or all(statement.reads for statement in statements)
        failure = translate(error, nothing_happened=nothing_happened)
        if is_late and isinstance(failure, Unavailable):
            failure = _deadline_exceeded(nothing_happened=nothing_happened)
        if failure is not error:
            failure.__cause__ = error
        is_retried = is_stale or (rule is not None and rule.is_retried)
        return failure, is_retried and nothing_happened and not is_late

    @asynccontextmanager
    async def session(self) -> AsyncIterator[AsyncSession]:
        """A session of its own in one transaction: committed on success, rolled back on error, always checked in (D19).

        It is cut off when it has had its connection for as long as a statement may take, or up to two seconds later.
        Raises the errors of `persistence.postgres.errors`; objects stay readable after the commit.
        """
        started = monotonic()
        try:
            async with AsyncSession(self._engine, expire_on_commit=False) as session, session.begin():
                yield session
        except DBAPIError as error:
            if not isinstance(error.orig, psycopg.Error):
                raise
            _raise_translated(error.orig, is_late=monotonic() - started >= self._timeout)

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """A bare psycopg connection in a transaction, for what SQLAlchemy cannot do: COPY. It has no time limit.

        Committed, rolled back and checked in as a session is, and with the same errors.
        """
        connection = await self.pool.check_out()
        try:
            async with connection.transaction():
                yield connection
            connection.ensure_replicated()
        except psycopg.Error as error:
            _raise_translated(error)
        finally:
            self.pool.check_in(connection)


@asynccontextmanager
async def open_database(
    dsn: Dsn, options: DatabaseOptions | None = None, *, in_background: bool = False, first_timeout: int | None = None
) -> AsyncIterator[Database]:
    """Opens the pool, with its first connection made, and closes everything in the end.

    Raises `psycopg.OperationalError` when the first connection fails, after `first_timeout` seconds for each address
    (the options' by default): no retry here, see `persistence.startup`. With `in_background` it waits for no
    connection: while there is none, statements raise `Unavailable`.
    """
    options = options or DatabaseOptions()
    own_environment()

    async def connect() -> Connection:
        return await nodes.connect(options.connect_timeout)

    def drop_idle(node: str) -> None:
        for each in {pool, probe_pool}:
            each.drop_idle(node)

    counts = Counts()
    nodes = Nodes(dsn, options, drop_idle)
    limits, probe_limits = _split_limits(options.limits)
    pool = Pool(connect, limits, counts, nodes.note_silence)
    probe_pool = Pool(connect, probe_limits, counts, nodes.note_silence) if probe_limits else pool
    engine = engine_on(pool, options.statement_timeout)
    first = None
    if not in_background:
        first = await nodes.connect(first_timeout or options.connect_timeout)
    pool.open(first)
    if probe_limits:
        probe_pool.open()
    try:
        async with nodes.watched():
            yield Database(pool, engine, options, probe_pool, counts=counts, nodes=nodes)
    finally:
        await engine.dispose()
        await probe_pool.close()
        await pool.close()


def _split_limits(limits: PoolLimits) -> tuple[PoolLimits, PoolLimits | None]:
    """The limits of the pool for statements and of that for probes, if there is one: no more connections in all."""
    if limits.max_size < PROBES_FROM:
        return limits, None
    max_size = limits.max_size - 1
    return (
        replace(limits, max_size=max_size, min_size=min(limits.min_size, max_size)),
        replace(limits, max_size=1, min_size=0),
    )


def _deadline_exceeded(*, nothing_happened: bool) -> Unavailable:
    if nothing_happened:
        return DeadlineExceeded("The database did not answer in time.")
    return OutcomeUnknown("The database did not answer in time, so the change may have been made, or not.")


def _raise_translated(error: psycopg.Error, *, is_late: bool = False) -> NoReturn:
    # A transaction that lost its connection may have been committed.
    nothing_happened = not is_in_doubt(error)
    translated = translate(error, nothing_happened=nothing_happened)
    if is_late and error.sqlstate in (None, _CANCELLED):
        translated = _deadline_exceeded(nothing_happened=nothing_happened)
    raise translated from (None if translated is error else error)
