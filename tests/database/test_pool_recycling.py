"""The connections of the pool that are checked, replaced, recycled or closed, and no statement that fails by it."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable

import psycopg
import pytest
from sqlalchemy import text

from persistence.postgres import pool
from persistence.postgres.connection import Connection
from persistence.postgres.database import Database, open_database
from persistence.postgres.dsn import Dsn
from persistence.postgres.opening import LIFETIME_JITTER
from tests.database.helpers import PID, SLEEP, Admin, eventually, options, pid_of
from tests.database.test_pool import hold_at_once


async def test_a_connection_that_ended_while_idle_is_replaced_and_no_statement_fails(
    empty_dsn: Dsn, admin: Admin
) -> None:
    async with open_database(empty_dsn, options(least=4, most=4)) as database:
        before = await hold_at_once(database, 4)
        admin.terminate(*before)
        async with database.session() as session:
            assert (await (await session.connection()).execute(text("SELECT 1"))).scalar() == 1
        after = await hold_at_once(database, 4)
        assert before.isdisjoint(after)
        await eventually(lambda: admin.pids() == after)
        assert database.pool.stats.size == 4


async def test_a_connection_that_was_just_used_is_not_checked_and_one_that_was_idle_is(
    empty_dsn: Dsn, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def checks() -> int:
        return sum(record.getMessage().endswith(": SELECT 1") for record in caplog.records)

    caplog.set_level(logging.DEBUG, "persistence.sql")
    monkeypatch.setattr(pool, "CHECK_AFTER_IDLE", 3600.0)
    async with open_database(empty_dsn, options(most=1, log_sql=True)) as database:
        await database.rows(PID, {})
        await database.rows(PID, {})
        assert checks() == 0

        monkeypatch.setattr(pool, "CHECK_AFTER_IDLE", -1.0)
        await database.rows(PID, {})
        assert checks() == 1


async def test_connections_are_recycled_after_their_lifetime_and_no_statement_fails(
    empty_dsn: Dsn, admin: Admin
) -> None:
    async with open_database(empty_dsn, options(least=2, most=2, lifetime=0.4)) as database:
        await eventually(lambda: database.pool.stats.idle == 2)
        young = admin.pids()
        while young & admin.pids():
            await asyncio.gather(*(database.rows(SLEEP, {"seconds": 0.01}) for _ in range(2)))
        # Idle connections are recycled as well.
        young = admin.pids()
        await eventually(lambda: young.isdisjoint(admin.pids()) and database.pool.stats.idle == 2)


async def test_connections_opened_together_do_not_expire_together(empty_dsn: Dsn) -> None:
    async with open_database(empty_dsn, options(most=8, lifetime=1000)) as database:
        held = [await database.pool.check_out() for _ in range(8)]
        lifetimes = [connection.expires_at - connection.opened_at for connection in held]
        for connection in held:
            database.pool.check_in(connection)
    assert min(lifetimes) > 1000 * (1 - LIFETIME_JITTER) - 1
    assert max(lifetimes) < 1000 + 1
    assert max(lifetimes) - min(lifetimes) > 1


async def test_spare_connections_are_closed_down_to_the_minimum(
    empty_dsn: Dsn, admin: Admin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "SHRINK_AFTER_IDLE", 0.1)
    monkeypatch.setattr(pool, "MAINTENANCE_INTERVAL", 0.05)
    async with open_database(empty_dsn, options(least=2, most=4)) as database:
        await hold_at_once(database, 4)
        await eventually(lambda: database.pool.stats.size == len(admin.pids()) == 2)
        needed = admin.pids()
        await asyncio.sleep(0.3)
        assert admin.pids() == needed


async def fail_in_a_transaction(connection: Connection) -> None:
    await connection.execute("BEGIN")
    with contextlib.suppress(psycopg.errors.DivisionByZero):
        await connection.execute("SELECT 1 / 0")


@pytest.mark.parametrize(
    "spoil",
    [
        lambda connection: connection.execute("BEGIN"),
        fail_in_a_transaction,
        lambda connection: connection.set_autocommit(False),
        lambda connection: asyncio.to_thread(connection.pgconn.send_query, b"SELECT pg_sleep(3600)"),
        lambda connection: asyncio.to_thread(connection.abort),
        lambda connection: asyncio.to_thread(setattr, connection, "expires_at", 0.0),
    ],
    ids=["in a transaction", "in a failed one", "without autocommit", "in a statement", "aborted", "expired"],
)
async def test_a_connection_that_comes_back_unfit_is_not_used_again(
    single: Database, spoil: Callable[[Connection], Awaitable[None]]
) -> None:
    connection = await single.pool.check_out()
    pid = connection.info.backend_pid
    await spoil(connection)
    single.pool.check_in(connection)
    assert connection.closed
    assert await pid_of(single) != pid
    assert single.pool.stats.size == 1
