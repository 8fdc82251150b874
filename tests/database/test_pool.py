"""The pool: never more connections than its limit, first come first served, nothing leaked, soon well again (D13)."""

import asyncio
import contextlib
import gc
import logging
import random
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from time import monotonic
from typing import TypedDict

import psutil
import psycopg
import pytest
from psycopg import sql
from sqlalchemy import text

from persistence.postgres import pool, wait_queue
from persistence.postgres.database import APPLICATION_NAME, PROBES_APART, Database, open_database
from persistence.postgres.dsn import Dsn
from persistence.postgres.errors import DeadlineExceeded, PoolTimeout, Unavailable
from persistence.postgres.options import DatabaseOptions, PoolLimits
from persistence.postgres.statement import Statement
from tests.faults.proxy import Proxy
from tests.support.helpers import limited_role
from tests.support.servers import PostgresServer


class Pid(TypedDict):
    pid: int


PID = Statement(text("SELECT pg_backend_pid() AS pid").columns(), Pid)
SLEEP = Statement(text("SELECT pg_backend_pid() AS pid, pg_sleep(:seconds)").columns(), Pid)


def options(
    *, least: int = 1, most: int = 4, timeout: float = 30.0, lifetime: float = 3600.0, statement_timeout: float = 10.0
) -> DatabaseOptions:
    # Of a large pool one connection is for probes, which has no part here.
    most += most >= PROBES_APART
    limits = PoolLimits(min_size=least, max_size=most, timeout=timeout, lifetime=lifetime)
    return DatabaseOptions(limits=limits, statement_timeout=statement_timeout)


@contextlib.asynccontextmanager
async def opened(dsn: Dsn, **choices: float) -> AsyncIterator[Database]:
    async with open_database(dsn, options(**choices)) as database:  # type: ignore[arg-type] # sizes are whole numbers
        yield database


class Watcher:
    """Sees the pool from the server's side, over a connection to another database."""

    def __init__(self, connection: psycopg.Connection, database: str) -> None:
        self._connection = connection
        self._database = database

    def pids(self) -> set[int]:
        cursor = self._connection.execute(
            "SELECT pid FROM pg_stat_activity WHERE datname = %s AND application_name = %s",
            [self._database, APPLICATION_NAME],
        )
        return {pid for (pid,) in cursor}

    def states(self) -> set[str]:
        cursor = self._connection.execute("SELECT state FROM pg_stat_activity WHERE datname = %s", [self._database])
        return {state for (state,) in cursor}

    def terminate(self, *pids: int) -> None:
        self._connection.execute("SELECT pg_terminate_backend(pid, 5000) FROM unnest(%s::int[]) AS pid", [list(pids)])


@pytest.fixture
def watcher(server: Dsn, empty_dsn: Dsn) -> Iterator[Watcher]:
    with psycopg.connect(server.conninfo, autocommit=True) as connection:
        yield Watcher(connection, empty_dsn.database)


async def eventually(condition: Callable[[], bool], timeout: float = 10.0) -> None:
    deadline = monotonic() + timeout
    while not condition():
        assert monotonic() < deadline, "it did not come true in time"
        await asyncio.sleep(0.01)


async def pid_of(database: Database) -> int:
    row = await database.row(PID, {})
    assert row
    return row["pid"]


async def use_at_once(database: Database, count: int, seconds: float = 0.05) -> set[int]:
    """Keeps that many connections busy at the same time and returns which they were."""
    rows = await asyncio.gather(*(database.rows(SLEEP, {"seconds": seconds}) for _ in range(count)))
    return {row["pid"] for (row,) in rows}


async def hold_at_once(database: Database, count: int) -> set[int]:
    """Has that many connections at the same time, however long each takes to open, and returns which they were."""
    held = [await database.pool.check_out() for _ in range(count)]
    for connection in held:
        database.pool.check_in(connection)
    return {connection.info.backend_pid for connection in held}


async def test_it_opens_one_connection_at_once_and_the_minimum_in_the_background(
    empty_dsn: Dsn, watcher: Watcher
) -> None:
    async with opened(empty_dsn, least=3) as database:
        assert database.pool.stats.idle == 1
        await eventually(lambda: database.pool.stats == pool.PoolStats(size=3, idle=3, in_use=0, waiting=0))
        assert len(watcher.pids()) == 3


@pytest.mark.parametrize("users", [50, 200])
async def test_many_users_at_once_share_a_few_connections(empty_dsn: Dsn, watcher: Watcher, users: int) -> None:
    most_seen = 0

    async def watch() -> None:
        nonlocal most_seen
        while True:
            most_seen = max(most_seen, len(watcher.pids()), database.pool.stats.size)
            await asyncio.sleep(0.002)

    async def use(number: int) -> None:
        if number % 3:
            await database.rows(SLEEP, {"seconds": 0.002})
        else:
            async with database.session() as session:
                await session.connection()
                await asyncio.sleep(0.002)

    async with opened(empty_dsn, most=4) as database:
        watching = asyncio.create_task(watch())
        await asyncio.gather(*(use(number) for number in range(users)))
        watching.cancel()

        assert most_seen == 4
        # The last one may still be on its way, when the others were quick enough without it.
        await eventually(lambda: database.pool.stats == pool.PoolStats(size=4, idle=4, in_use=0, waiting=0))


@pytest.mark.parametrize("users", [16, 64, 256])
async def test_steady_load_opens_no_connection(empty_dsn: Dsn, watcher: Watcher, users: int) -> None:
    async def use() -> None:
        for _ in range(10):
            await database.rows(SLEEP, {"seconds": 0.0005})

    async with opened(empty_dsn, least=5, most=20) as database:
        opened_at_first = await hold_at_once(database, 20)
        await asyncio.gather(*(use() for _ in range(users)))

        assert watcher.pids() == opened_at_first


async def test_it_keeps_what_a_burst_opened_for_the_next(empty_dsn: Dsn) -> None:
    async with opened(empty_dsn, most=4) as database:
        assert await hold_at_once(database, 4) == await hold_at_once(database, 4)


async def test_it_serves_first_who_came_first(empty_dsn: Dsn) -> None:
    served: list[int] = []

    async def use(number: int) -> None:
        await database.rows(PID, {})
        served.append(number)

    async with opened(empty_dsn, most=1) as database:
        held = await database.pool.check_out()
        waiting = [asyncio.create_task(use(number)) for number in range(30)]
        await eventually(lambda: database.pool.stats.waiting == 30)
        database.pool.check_in(held)
        await asyncio.gather(*waiting)

    assert served == list(range(30))


async def test_it_lets_nobody_overtake_those_in_line(empty_dsn: Dsn) -> None:
    order: list[str] = []

    async def use(name: str) -> None:
        connection = await database.pool.check_out()
        order.append(name)
        database.pool.check_in(connection)

    async with opened(empty_dsn, most=1) as database:
        held = await database.pool.check_out()
        first = asyncio.create_task(use("first in line"))
        await eventually(lambda: database.pool.stats.waiting == 1)
        database.pool.check_in(held)
        # The connection is free, but it is the first one's, who has not run yet.
        await asyncio.gather(use("newcomer"), first)

    assert order == ["first in line", "newcomer"]


async def test_a_waiter_hears_in_time_that_all_connections_are_busy(empty_dsn: Dsn) -> None:
    async with opened(empty_dsn, most=1, timeout=0.2) as database:
        held = await database.pool.check_out()
        started = monotonic()
        with pytest.raises(PoolTimeout):
            await database.rows(PID, {})
        with pytest.raises(PoolTimeout):
            async with database.session() as session:
                await session.connection()
        assert 0.4 <= monotonic() - started < 3

        assert database.pool.stats == pool.PoolStats(size=1, idle=0, in_use=1, waiting=0)
        database.pool.check_in(held)
        assert await pid_of(database)


async def test_a_caller_may_wait_less_than_the_limit_but_not_more(empty_dsn: Dsn) -> None:
    async with opened(empty_dsn, most=1, timeout=0.3) as database:
        held = await database.pool.check_out()
        for asked, waited in ((0.05, 0.05), (60.0, 0.3)):
            started = monotonic()
            with pytest.raises(PoolTimeout):
                await database.pool.check_out(asked)
            assert waited <= monotonic() - started < waited + 3
        database.pool.check_in(held)


async def test_a_connection_ended_while_idle_is_replaced_and_no_statement_fails(
    empty_dsn: Dsn, watcher: Watcher
) -> None:
    async with opened(empty_dsn, least=4, most=4) as database:
        before = await use_at_once(database, 4)
        watcher.terminate(*before)
        after = await use_at_once(database, 4)

        assert before.isdisjoint(after)
        await eventually(lambda: watcher.pids() == after)
        assert database.pool.stats.size == 4


async def test_a_session_gets_a_live_connection_too(empty_dsn: Dsn, watcher: Watcher) -> None:
    async with opened(empty_dsn) as database:
        watcher.terminate(await pid_of(database))
        async with database.session() as session:
            assert (await (await session.connection()).execute(text("SELECT 1"))).scalar() == 1


async def test_a_connection_that_was_just_used_is_not_checked_and_one_that_rested_is(
    empty_dsn: Dsn, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def checks() -> int:
        return sum(record.getMessage().endswith(": SELECT 1") for record in caplog.records)

    caplog.set_level(logging.DEBUG, "persistence.sql")
    async with open_database(empty_dsn, DatabaseOptions(limits=PoolLimits(1, 1), log_sql=True)) as database:
        monkeypatch.setattr(pool, "CHECK_AFTER_IDLE", 60.0)
        await database.rows(PID, {})
        await database.rows(PID, {})
        assert checks() == 0

        monkeypatch.setattr(pool, "CHECK_AFTER_IDLE", 0.0)
        await database.rows(PID, {})
        assert checks() == 1


async def test_callers_cancelled_at_any_moment_leak_nothing(empty_dsn: Dsn, watcher: Watcher) -> None:
    dice = random.Random()  # noqa: S311 - moments of cancellation are no secret

    async def through_rows() -> None:
        await database.rows(SLEEP, {"seconds": dice.choice([0.0, 0.001])})

    async def through_session() -> None:
        async with database.session() as session:
            connection = await session.connection()
            await connection.execute(text("SELECT 1"))
            await connection.execute(text("SELECT pg_sleep(0.001)"))

    async def cancelled(work: Callable[[], Coroutine[None, None, None]]) -> None:
        task = asyncio.create_task(work())
        for _ in range(dice.randrange(12)):
            await asyncio.sleep(0)
        await asyncio.sleep(dice.choice([0.0, dice.random() * 0.01]))
        task.cancel()
        # A cancellation may come too late, or meet a statement that the cancellation before it ended.
        with contextlib.suppress(asyncio.CancelledError, Unavailable):
            await task

    most_seen = 0
    async with opened(empty_dsn, least=2, most=5) as database:
        for _ in range(20):
            works = dice.choices([through_rows, through_session], k=100)
            await asyncio.gather(*(cancelled(work) for work in works))
            most_seen = max(most_seen, database.pool.stats.size)
            assert database.pool.stats.in_use == 0
            # A process of the server may still be ending when the next one begins.
            await eventually(lambda: len(watcher.pids()) <= 5)

        assert most_seen <= 5
        await eventually(lambda: database.pool.stats.size == database.pool.stats.idle)
        await eventually(lambda: len(watcher.pids()) == database.pool.stats.size)
        assert watcher.states() == {"idle"}
        assert len(await use_at_once(database, 5)) == 5
        assert database.pool.stats.waiting == 0


async def test_a_connection_handed_to_a_caller_who_is_cancelled_goes_to_the_next(empty_dsn: Dsn) -> None:
    async with opened(empty_dsn, most=1) as database:
        held = await database.pool.check_out()
        first = asyncio.create_task(database.pool.check_out())
        second = asyncio.create_task(database.pool.check_out())
        await eventually(lambda: database.pool.stats.waiting == 2)
        database.pool.check_in(held)
        first.cancel()

        assert await second is held
        assert first.cancelled()
        database.pool.check_in(held)
        assert database.pool.stats == pool.PoolStats(size=1, idle=1, in_use=0, waiting=0)


async def test_a_caller_cancelled_while_his_connection_is_checked_gives_it_back(
    empty_dsn: Dsn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "CHECK_AFTER_IDLE", 0.0)
    async with opened(empty_dsn, most=1) as database:
        for turns in range(6):
            task = asyncio.create_task(database.pool.check_out())
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                database.pool.check_in(await task)
        assert await pid_of(database)
        assert database.pool.stats.in_use == 0


async def test_connections_retire_after_their_lifetime_and_no_statement_fails(empty_dsn: Dsn, watcher: Watcher) -> None:
    async with opened(empty_dsn, least=2, most=2, lifetime=0.4) as database:
        await eventually(lambda: database.pool.stats.idle == 2)
        young = watcher.pids()
        seen = set()
        deadline = monotonic() + 0.8
        while monotonic() < deadline:
            seen |= await use_at_once(database, 2, 0.01)

        assert len(seen) > 2
        assert young.isdisjoint(watcher.pids())


async def test_a_connection_that_is_used_beyond_its_lifetime_retires_when_it_comes_back(empty_dsn: Dsn) -> None:
    async with opened(empty_dsn, most=1) as database:
        connection = await database.pool.check_out()
        connection.expires_at = monotonic()
        assert not connection.closed
        database.pool.check_in(connection)

        assert connection.closed
        assert await pid_of(database)


async def test_idle_connections_retire_as_well(empty_dsn: Dsn, watcher: Watcher) -> None:
    async with opened(empty_dsn, least=2, most=4, lifetime=0.4) as database:
        await eventually(lambda: database.pool.stats.idle == 2)
        young = watcher.pids()
        await eventually(lambda: len(watcher.pids()) == 2 and young.isdisjoint(watcher.pids()))


def test_connections_opened_together_do_not_retire_together() -> None:
    times = [pool.expiry(PoolLimits(lifetime=1000)) - monotonic() for _ in range(200)]

    assert min(times) >= 899
    assert max(times) <= 1000
    assert max(times) - min(times) > 20


async def test_connections_that_nobody_needs_are_closed_down_to_the_minimum(
    empty_dsn: Dsn, watcher: Watcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "SHRINK_AFTER_IDLE", 0.1)
    # The lifetime sets how often the pool looks, too; here none shall retire.
    async with opened(empty_dsn, least=2, most=5, lifetime=2) as database:
        await use_at_once(database, 5)
        assert database.pool.stats.size == 5
        for connection in database.pool._idle:
            connection.expires_at += 3600
        await eventually(lambda: database.pool.stats.size == len(watcher.pids()) == 2)
        needed = watcher.pids()
        await asyncio.sleep(0.6)
        assert watcher.pids() == needed


@pytest.mark.parametrize("statement", ["SELECT 1", "SELECT 1 / 0"], ids=["in a transaction", "in a failed one"])
async def test_a_connection_given_back_in_a_transaction_is_not_used_again(empty_dsn: Dsn, statement: str) -> None:
    async with opened(empty_dsn, most=1) as database:
        connection = await database.pool.check_out()
        pid = connection.info.backend_pid
        await connection.execute("BEGIN")
        with contextlib.suppress(psycopg.errors.DivisionByZero):
            await connection.execute(statement.encode())
        database.pool.check_in(connection)

        assert connection.closed
        assert await pid_of(database) != pid


async def test_a_connection_given_back_out_of_autocommit_is_not_used_again(empty_dsn: Dsn) -> None:
    async with opened(empty_dsn, most=1) as database:
        connection = await database.pool.check_out()
        await connection.set_autocommit(False)
        database.pool.check_in(connection)

        assert connection.closed
        assert await pid_of(database)


async def test_a_connection_given_back_in_the_middle_of_a_statement_is_not_used_again(
    empty_dsn: Dsn, watcher: Watcher
) -> None:
    async with opened(empty_dsn, most=1) as database:
        connection = await database.pool.check_out()
        pid = connection.info.backend_pid
        connection.pgconn.send_query(b"SELECT pg_sleep(1)")
        database.pool.check_in(connection)

        assert await pid_of(database) != pid


async def test_closing_ends_what_is_running_and_whoever_waits(empty_dsn: Dsn, watcher: Watcher) -> None:
    async with opened(empty_dsn, most=1) as database:
        running = asyncio.create_task(database.rows(SLEEP, {"seconds": 60.0}, timeout=60))
        await eventually(lambda: database.pool.stats.in_use == 1)
        waiting = asyncio.create_task(database.rows(PID, {}))
        await eventually(lambda: database.pool.stats.waiting == 1)

    for task in (running, waiting):
        with pytest.raises(Unavailable):
            await asyncio.wait_for(task, 5)
    with pytest.raises(Unavailable):
        await database.rows(PID, {})
    assert database.pool.stats == pool.PoolStats(size=0, idle=0, in_use=0, waiting=0)
    # The server notices only when the statement of the severed connection ends, so that one is not waited for.
    assert len(watcher.pids()) <= 1


async def test_closing_waits_for_connections_that_are_being_opened(empty_dsn: Dsn, watcher: Watcher) -> None:
    for _ in range(5):
        async with opened(empty_dsn, least=8, most=8):
            pass
    await eventually(lambda: not watcher.pids())


async def test_a_statement_that_takes_too_long_is_cut_off_and_its_connection_replaced(empty_dsn: Dsn) -> None:
    async with opened(empty_dsn, most=1) as database:
        pid = await pid_of(database)
        started = monotonic()
        with pytest.raises(DeadlineExceeded):
            await database.rows(SLEEP, {"seconds": 30.0}, timeout=0.2)

        assert monotonic() - started < 3
        assert await pid_of(database) != pid
        assert database.pool.stats.size == 1


async def test_a_server_that_gives_no_more_connections_is_shared_without_an_error(
    server: Dsn, empty_dsn: Dsn, watcher: Watcher, caplog: pytest.LogCaptureFixture
) -> None:
    with limited_role(server, empty_dsn, 2) as dsn:
        async with opened(dsn, least=1, most=8) as database:
            rows = await asyncio.gather(*(database.rows(SLEEP, {"seconds": 0.01}) for _ in range(60)))
            assert len({row["pid"] for (row,) in rows}) == 2
            assert database.pool.stats.in_use == 0

            with psycopg.connect(server.conninfo, autocommit=True) as admin:
                role = sql.Identifier(dsn.parameters["user"])
                admin.execute(sql.SQL("ALTER ROLE {} CONNECTION LIMIT 5").format(role))
            # The next burst finds the new limit without anything being restarted.
            for _ in range(100):
                await use_at_once(database, 8, 0.02)
                if len(watcher.pids()) == 5:
                    break
            assert len(watcher.pids()) == 5
    # One line tells of it, not one for each request.
    refusals = [record for record in caplog.records if "Cannot open" in record.getMessage()]
    assert 1 <= len(refusals) < 20


async def test_a_pool_without_a_connection_asks_and_gets_the_one_that_another_cedes(
    server: Dsn, empty_dsn: Dsn
) -> None:
    asked = asyncio.Event()
    with limited_role(server, empty_dsn, 3) as dsn:
        async with opened(dsn, least=3) as rich:
            await eventually(lambda: rich.pool.stats.idle == 3)
            async with open_database(dsn, options(), in_background=True, on_starved=asked.set) as poor:
                await asyncio.wait_for(asked.wait(), 5)
                assert poor.pool.is_starved
                assert rich.cede_connection()
                await eventually(lambda: poor.pool.stats.idle == 1)

                assert not poor.pool.is_starved
                assert rich.pool.stats.idle == 2


async def test_a_busy_pool_cedes_a_connection_when_it_comes_back_and_opens_no_other_for_a_while(
    empty_dsn: Dsn, watcher: Watcher
) -> None:
    async with opened(empty_dsn, least=2, most=3) as database:
        held = [await database.pool.check_out() for _ in range(3)]
        assert database.cede_connection()
        # Nor does it give up another meanwhile.
        assert not database.cede_connection()
        assert len(watcher.pids()) == 3
        waiting = [asyncio.create_task(database.row(PID, {})) for _ in range(4)]
        await asyncio.sleep(0)
        assert database.pool.stats.waiting == 4
        for connection in held:
            database.pool.check_in(connection)
        await asyncio.gather(*waiting)
        await eventually(lambda: len(watcher.pids()) == 2)

        assert len(await use_at_once(database, 6)) == 2


async def test_after_a_while_a_pool_takes_again_what_it_ceded(
    empty_dsn: Dsn, watcher: Watcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "CEDED_FOR", 0.1)
    async with opened(empty_dsn, least=3) as database:
        await eventually(lambda: database.pool.stats.idle == 3)
        assert database.cede_connection()
        assert database.pool.stats.idle == 2
        # Nobody comes or goes, but the time is over.
        await eventually(lambda: len(watcher.pids()) == 3)
    async with opened(empty_dsn, most=3) as database:
        await hold_at_once(database, 2)
        assert database.cede_connection()
        connection = await database.pool.check_out()
        waiting = [asyncio.create_task(database.pool.check_out(30)) for _ in range(2)]
        for task in waiting:
            database.pool.check_in(await task)
        database.pool.check_in(connection)


async def test_the_connection_for_probes_is_the_first_that_is_given_up(empty_dsn: Dsn, watcher: Watcher) -> None:
    async with opened(empty_dsn, most=PROBES_APART) as database:
        assert await database.probes.row(PID, {})
        assert len(watcher.pids()) == 2
        assert database.cede_connection()
        await eventually(lambda: len(watcher.pids()) == 1)
        with pytest.raises(Unavailable):
            # It fails at once, and health asks the others.
            database.probes.pool.check_out().send(None)
        assert await pid_of(database)
        assert not database.cede_connection()


async def test_a_pool_that_cedes_while_it_tries_to_open_another_gives_up_only_one(
    server: Dsn, empty_dsn: Dsn, watcher: Watcher
) -> None:
    with limited_role(server, empty_dsn, 3) as dsn:
        async with opened(dsn, least=4) as database:
            await eventually(lambda: database.pool._failing and database.pool.stats.idle == 3)
            held = [await database.pool.check_out() for _ in range(3)]
            assert database.cede_connection()
            for connection in held:
                database.pool.check_in(connection)
            assert database.pool.stats.idle == 2
            await eventually(lambda: len(watcher.pids()) == 2)


async def test_a_pool_never_cedes_its_last_connection(empty_dsn: Dsn) -> None:
    async with opened(empty_dsn) as database:
        assert not database.cede_connection()
        assert await pid_of(database)


async def test_a_stopped_database_fails_callers_at_once_and_they_are_served_when_it_is_back(
    postgres: PostgresServer,
) -> None:
    async with opened(postgres.dsn, least=3, most=4) as database:
        await use_at_once(database, 4)
        running = asyncio.create_task(database.rows(SLEEP, {"seconds": 60.0}, timeout=60))
        await eventually(lambda: database.pool.stats.in_use == 1)
        await asyncio.to_thread(postgres.stop)

        with pytest.raises(Unavailable):
            await asyncio.wait_for(running, 5)
        with pytest.raises(Unavailable):
            await database.rows(PID, {})
        with pytest.raises(Unavailable):
            # Its first step raises: once it is known to be lost, nobody waits even for the next attempt to reach it.
            database.pool.check_out().send(None)
        for _ in range(3):
            results = await asyncio.wait_for(
                asyncio.gather(*(database.rows(PID, {}) for _ in range(50)), return_exceptions=True), 5
            )
            # Nobody waits for the pool's timeout of 30 s, nor for the deadline of the statement.
            assert {type(result) for result in results} == {Unavailable}
            with pytest.raises(Unavailable):
                async with database.session() as session:
                    await session.connection()

        await asyncio.to_thread(postgres.start)
        back_at = monotonic()
        served = False
        while not served:
            assert monotonic() - back_at < 10
            with contextlib.suppress(Unavailable):
                served = bool(await database.rows(PID, {}))
            await asyncio.sleep(0.01)
        await use_at_once(database, 4)
        await eventually(lambda: database.pool.stats == pool.PoolStats(size=4, idle=4, in_use=0, waiting=0))


async def test_a_frozen_database_costs_each_caller_his_deadline_and_the_pool_is_whole_afterwards(
    postgres: PostgresServer,
) -> None:
    async with opened(postgres.dsn, least=4, most=4, statement_timeout=0.5) as database:
        await use_at_once(database, 4)
        await asyncio.to_thread(postgres.freeze)
        try:
            started = monotonic()
            results = await asyncio.gather(*(database.rows(PID, {}) for _ in range(4)), return_exceptions=True)
            assert {type(result) for result in results} == {DeadlineExceeded}
            results = await asyncio.gather(*(database.rows(PID, {}) for _ in range(20)), return_exceptions=True)
            assert {type(result) for result in results} <= {DeadlineExceeded, PoolTimeout}
            assert monotonic() - started < 4
            assert database.pool.stats.in_use == database.pool.stats.waiting == 0
        finally:
            await asyncio.to_thread(postgres.thaw)

        await eventually(lambda: database.pool.stats == pool.PoolStats(size=4, idle=4, in_use=0, waiting=0))
        assert len(await use_at_once(database, 4)) == 4


async def test_a_frozen_database_holds_nobody_beyond_his_deadline_even_when_connections_rested(
    postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "CHECK_AFTER_IDLE", 0.0)
    monkeypatch.setattr(pool, "CHECK_TIMEOUT", 5.0)
    async with opened(postgres.dsn, least=2, most=4) as database:
        await eventually(lambda: database.pool.stats.idle == 2)
        await asyncio.to_thread(postgres.freeze)
        try:
            started = monotonic()
            with pytest.raises(Unavailable):
                await database.rows(PID, {}, timeout=0.3)
            assert monotonic() - started < 2
        finally:
            await asyncio.to_thread(postgres.thaw)


@pytest.mark.parametrize("most", [1, 2])
async def test_a_line_that_is_too_long_is_joined_by_nobody(empty_dsn: Dsn, most: int) -> None:
    async with opened(empty_dsn, most=most) as database:
        held = [await database.pool.check_out() for _ in range(most)]
        waiting = [asyncio.create_task(database.pool.check_out(60)) for _ in range(20)]
        # One is served. With half a second nobody should wait for more than a quarter.
        await asyncio.sleep(0.3)
        database.pool.check_in(held.pop())
        held.append(await waiting.pop(0))
        with pytest.raises(PoolTimeout):
            # Its first step raises, so nobody waits to hear this.
            database.pool.check_out(0.5).send(None)
        # Whoever has more time joins: it may be a crowd that came at once, which has yet to be served.
        patient = asyncio.create_task(database.pool.check_out(20))
        await asyncio.sleep(0)
        assert database.pool.stats.waiting == 20

        for connection in held:
            database.pool.check_in(connection)
        for task in (*waiting, patient):
            database.pool.check_in(await task)
        assert await database.rows(PID, {}, timeout=5)


async def test_a_line_that_moves_quickly_may_be_long(empty_dsn: Dsn) -> None:
    async with opened(empty_dsn, most=2) as database:

        async def use() -> None:
            for _ in range(5):
                await database.rows(PID, {}, timeout=20)

        await asyncio.gather(*(use() for _ in range(400)))


async def test_probes_have_a_connection_of_their_own_that_no_load_occupies(empty_dsn: Dsn, watcher: Watcher) -> None:
    async with open_database(empty_dsn, DatabaseOptions(limits=PoolLimits(min_size=1, max_size=6))) as database:
        held = [await database.pool.check_out() for _ in range(5)]
        with pytest.raises(PoolTimeout):
            await database.pool.check_out(0.05)
        assert await database.probes.row(PID, {})
        assert len(watcher.pids()) == 6
        for connection in held:
            database.pool.check_in(connection)
    async with open_database(empty_dsn, DatabaseOptions(limits=PoolLimits(min_size=1, max_size=4))) as database:
        assert database.probes is database


async def test_a_pool_can_open_without_a_database_and_finds_it_when_it_comes(postgres: PostgresServer) -> None:
    await asyncio.to_thread(postgres.stop)
    async with open_database(postgres.dsn, options(), in_background=True) as database:
        with pytest.raises(Unavailable):
            await database.rows(PID, {})
        with pytest.raises(Unavailable):
            # By now it is known to be lost, and nobody waits.
            database.pool.check_out().send(None)
        await asyncio.to_thread(postgres.start)
        await eventually(lambda: database.pool.stats.idle > 0)
        assert await database.rows(PID, {})


async def test_a_connect_that_takes_too_long_leaves_no_socket_behind(postgres: PostgresServer) -> None:
    def sockets() -> int:
        return len(psutil.Process().net_connections("tcp"))

    choices = DatabaseOptions(limits=PoolLimits(min_size=1, max_size=2), connect_timeout=0.2)
    async with open_database(postgres.dsn, choices) as database:
        before = sockets()
        gc.disable()
        await asyncio.to_thread(postgres.freeze)
        try:
            database.pool._idle.popleft().pgconn.finish()
            for _ in range(3):
                with pytest.raises(Unavailable):
                    await database.rows(PID, {}, timeout=0.3)
            await eventually(lambda: sockets() <= before)
        finally:
            gc.enable()
            await asyncio.to_thread(postgres.thaw)


async def test_a_database_that_wakes_slowly_is_waited_for_by_everybody(
    postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wait_queue, "SHARE", 0.05)
    with Proxy(postgres.port) as proxy:
        through = Dsn(postgres.dsn.parameters | {"port": str(proxy.port)})
        async with open_database(through, options(most=2)) as database:
            proxy.stall("requests")
            proxy.cut_all()
            callers = []
            for number in range(30):
                # Not all at once: those who come later see a line that nobody was served from.
                callers.append(asyncio.create_task(database.rows(SLEEP, {"seconds": 0.02}, timeout=8)))
                if number < 20:
                    await asyncio.sleep(0.05)
            proxy.resume()
            await eventually(lambda: database.pool.stats.in_use > 0)
            callers += [asyncio.create_task(database.rows(PID, {}, timeout=8)) for _ in range(10)]
            await asyncio.gather(*callers)
