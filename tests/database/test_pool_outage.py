"""The pool while the database is stopped, stalled or slow to wake: callers fail, and are served when it is back."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import psycopg
import pytest

from persistence.postgres import pool, wait_queue
from persistence.postgres.database import open_database
from persistence.postgres.dsn import Dsn
from persistence.postgres.errors import DeadlineExceeded, PoolTimeout, Unavailable
from persistence.postgres.pool import PoolStats
from tests.database.helpers import FOREVER, PID, SLEEP, eventually, options, pid_of
from tests.database.test_pool import hold_at_once
from tests.faults.proxy import Proxy
from tests.support.databases import as_owner
from tests.support.servers import PostgresServer


@asynccontextmanager
async def frozen(postgres: PostgresServer) -> AsyncIterator[None]:
    await asyncio.to_thread(postgres.freeze)
    try:
        yield
    finally:
        await asyncio.to_thread(postgres.thaw)


@pytest.mark.parametrize("fault", [PostgresServer.stop, PostgresServer.kill])
async def test_a_stopped_database_fails_callers_at_once_and_they_are_served_when_it_is_back(
    postgres: PostgresServer, fault: Callable[[PostgresServer], None]
) -> None:
    async with open_database(postgres.dsn, options(least=3, most=4)) as database:
        await hold_at_once(database, 4)
        running = asyncio.create_task(database.rows(SLEEP, FOREVER))
        await eventually(lambda: database.pool.stats.in_use == 1)
        await asyncio.to_thread(fault, postgres)
        with pytest.raises(Unavailable):
            await running
        await eventually(lambda: database.pool.is_lost)
        with pytest.raises(Unavailable):
            # The first step raises: a caller does not even wait for the next attempt to reach the database.
            database.pool.check_out().send(None)
        results = await asyncio.gather(*(database.rows(PID, {}) for _ in range(50)), return_exceptions=True)
        assert {type(result) for result in results} == {Unavailable}
        with pytest.raises(Unavailable):
            async with database.session() as session:
                await session.connection()
        await asyncio.to_thread(postgres.start)
        await eventually(lambda: not database.pool.is_lost)
        assert await pid_of(database)
        assert len(await hold_at_once(database, 4)) == 4
        assert database.pool.stats == PoolStats(size=4, idle=4, in_use=0, waiting=0)


async def test_a_statement_that_is_still_being_ended_is_no_reason_to_wait_for_a_lost_database(
    postgres: PostgresServer,
) -> None:
    async with open_database(postgres.dsn, options(least=2, most=2, connect_timeout=2)) as database:
        await hold_at_once(database, 2)
        running = asyncio.create_task(database.rows(SLEEP, FOREVER, 0.5))
        await eventually(lambda: database.pool.stats.in_use == 1)
        async with frozen(postgres):
            with pytest.raises(DeadlineExceeded):
                await running
            # Its connection is in use until its end is known; the other one fails a check.
            with pytest.raises(Unavailable):
                await database.rows(PID, {}, 2.0)
            await eventually(lambda: database.pool.is_lost)
            assert database.pool.stats.in_use == 1


async def test_rotated_credentials_fail_callers_until_they_are_right_again(
    postgres: PostgresServer, caplog: pytest.LogCaptureFixture
) -> None:
    hba = postgres.folder / "data" / "pg_hba.conf"
    with psycopg.connect(as_owner(postgres.dsn).conninfo, autocommit=True) as admin:
        admin.execute("CREATE ROLE app LOGIN PASSWORD 'hunter2-first'")
        hba.write_text("host all app all scram-sha-256\nhost all postgres all trust\nlocal all all trust\n")
        admin.execute("SELECT pg_reload_conf()")
        async with open_database(Dsn.parse(postgres.url_of("app", "hunter2-first")), options()) as database:
            admin.execute("ALTER ROLE app PASSWORD 'hunter2-second'")
            # Open connections go on.
            pid = await pid_of(database)
            admin.execute("SELECT pg_terminate_backend(%s, 60000)", [pid])
            for _ in range(3):
                with pytest.raises(Unavailable):
                    await pid_of(database)
            assert 'password authentication failed for user "app"' in caplog.text
            admin.execute("ALTER ROLE app PASSWORD 'hunter2-first'")
            await eventually(lambda: not database.pool.is_lost)
            assert await pid_of(database)
    assert "hunter2" not in caplog.text


async def test_a_frozen_database_costs_each_caller_its_deadline_and_the_pool_is_whole_afterwards(
    postgres: PostgresServer,
) -> None:
    async with open_database(postgres.dsn, options(least=4, most=4)) as database:
        await hold_at_once(database, 4)
        async with frozen(postgres):
            results = await asyncio.gather(*(database.rows(PID, {}, 0.5) for _ in range(24)), return_exceptions=True)
            assert {type(result) for result in results} <= {DeadlineExceeded, PoolTimeout}
            assert (database.pool.stats.size, database.pool.stats.waiting) == (4, 0)
        await eventually(lambda: database.pool.stats == PoolStats(size=4, idle=4, in_use=0, waiting=0))
        assert len(await hold_at_once(database, 4)) == 4


async def test_the_check_of_an_idle_connection_is_not_repeated_for_each_and_does_not_outlast_the_deadline(
    postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(pool, "CHECK_AFTER_IDLE", -1.0)
    async with open_database(postgres.dsn, options(least=4, most=4)) as database:
        # One check that takes too long condemns the others, which have been idle for longer; one that takes all the
        # time of its caller leaves them.
        for checks, check_timeout, timeout in ((1, 0.2, 2.0), (2, 3600.0, 0.3)):
            monkeypatch.setattr(pool, "CHECK_TIMEOUT", check_timeout)
            await eventually(lambda: database.pool.stats.idle == 4)
            async with frozen(postgres):
                with pytest.raises(Unavailable):
                    await database.rows(PID, {}, timeout)
            assert caplog.text.count("Discarding a connection") == checks


async def test_a_check_that_succeeds_in_the_moment_of_its_timeout_yields_no_aborted_connection(
    dsn: Dsn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "CHECK_AFTER_IDLE", -1.0)
    monkeypatch.setattr(pool, "CHECK_TIMEOUT", 0.05)
    async with open_database(dsn, options(most=1)) as database:
        for turns in range(20):
            # A busy event loop sees the answer to the check and the end of its time together.
            _call_after(turns, lambda: time.sleep(0.1))
            assert await pid_of(database)


def _call_after(turns: int, function: Callable[[], None]) -> None:
    """Calls the function in a later turn of the event loop."""
    loop = asyncio.get_running_loop()
    if turns:
        loop.call_soon(_call_after, turns - 1, function)
    else:
        loop.call_soon(function)


async def test_a_database_that_wakes_slowly_is_waited_for_by_every_caller(
    postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    monkeypatch.setattr(wait_queue, "monotonic", lambda: now)
    with Proxy(postgres.port) as proxy:
        through = Dsn(postgres.dsn.parameters | {"port": str(proxy.port)})
        async with open_database(through, options()) as database:
            proxy.stall("requests")
            proxy.cut_all()
            # Later callers see a queue from which no caller was served for long.
            callers = []
            for _ in range(30):
                callers.append(asyncio.create_task(database.rows(SLEEP, {"seconds": 0.02}, timeout=60)))
                await asyncio.sleep(0)
                now += 1.0
            proxy.resume()
            await eventually(lambda: database.pool.stats.in_use > 0)
            callers += [asyncio.create_task(database.rows(PID, {}, timeout=60)) for _ in range(10)]
            await asyncio.gather(*callers)
