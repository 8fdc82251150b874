"""The pool: never more connections than its limit, first come first served, and no connection leaked (D13)."""

import asyncio
import contextlib
import math
import random
from collections.abc import Callable, Coroutine

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import text

from persistence.postgres import pool, wait_queue
from persistence.postgres.database import Database, open_database
from persistence.postgres.dsn import Dsn
from persistence.postgres.errors import PoolTimeout, Unavailable
from persistence.postgres.pool import PoolStats
from tests.database.helpers import FOREVER, PID, SLEEP, Admin, eventually, options, pid_of
from tests.support.helpers import limited_role


async def hold_at_once(database: Database, count: int) -> set[int]:
    """Checks so many connections out at the same time, and returns their processes."""
    held = [await database.pool.check_out() for _ in range(count)]
    for connection in held:
        database.pool.check_in(connection)
    return {connection.info.backend_pid for connection in held}


async def test_it_opens_one_connection_at_once_and_the_minimum_in_the_background(empty_dsn: Dsn, admin: Admin) -> None:
    async with open_database(empty_dsn, options(least=3, most=4)) as database:
        assert database.pool.stats.idle == 1
        await eventually(lambda: database.pool.stats == PoolStats(size=3, idle=3, in_use=0, waiting=0))
        assert len(admin.pids()) == 3


async def test_many_callers_at_once_share_a_few_connections_and_steady_load_opens_no_more(
    empty_dsn: Dsn, admin: Admin
) -> None:
    sizes = set[int]()

    async def use(number: int) -> None:
        if number % 3:
            await database.rows(SLEEP, {"seconds": 0.002})
        else:
            async with database.session() as session:
                await session.connection()
                await asyncio.sleep(0.002)
        sizes.update({len(admin.pids()), database.pool.stats.size})

    async with open_database(empty_dsn, options(most=4)) as database:
        await asyncio.gather(*(use(number) for number in range(200)))
        assert max(sizes) == 4
        # The last one may still be on its way, when the others were quick enough without it.
        await eventually(lambda: database.pool.stats == PoolStats(size=4, idle=4, in_use=0, waiting=0))
        opened = admin.pids()
        for _ in range(3):
            await asyncio.gather(*(use(number) for number in range(50)))
        assert admin.pids() == opened


async def test_callers_are_served_in_the_order_of_their_coming(single: Database) -> None:
    served: list[int] = []

    async def use(number: int) -> None:
        connection = await single.pool.check_out()
        served.append(number)
        single.pool.check_in(connection)

    held = await single.pool.check_out()
    waiting = [asyncio.create_task(use(number)) for number in range(30)]
    await eventually(lambda: single.pool.stats.waiting == 30)
    single.pool.check_in(held)
    # The connection is back, but it is for the first caller in the queue, which has not run yet.
    await asyncio.gather(use(30), *waiting)

    assert served == list(range(31))


@pytest.mark.parametrize(("limit", "asked"), [(3600, 0.1), (0.1, 3600), (0.1, math.inf)])
async def test_a_caller_hears_when_its_wait_is_over_that_all_connections_are_busy(
    empty_dsn: Dsn, limit: float, asked: float
) -> None:
    async with open_database(empty_dsn, options(most=1, timeout=limit)) as database:
        held = await database.pool.check_out()
        with pytest.raises(PoolTimeout):
            await database.pool.check_out(asked)
        assert database.pool.stats == PoolStats(size=1, idle=0, in_use=1, waiting=0)
        database.pool.check_in(held)
        assert await pid_of(database)


async def test_a_caller_is_refused_at_once_when_the_queue_is_too_long(
    single: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    monkeypatch.setattr(wait_queue, "monotonic", lambda: now)
    held = await single.pool.check_out()
    waiting = [asyncio.create_task(single.pool.check_out(60)) for _ in range(20)]
    await eventually(lambda: single.pool.stats.waiting == 20)
    now = 0.3
    single.pool.check_in(held)
    held = await waiting.pop(0)
    # One caller is served in 0.3 s, and a caller with 0.5 s should wait for no more than half of them.
    with pytest.raises(PoolTimeout):
        # The first step raises, so the caller does not wait to hear this.
        single.pool.check_out(0.5).send(None)
    # A caller with more time joins, because a crowd that came at once has yet to be served.
    waiting.append(asyncio.create_task(single.pool.check_out(20)))
    await eventually(lambda: single.pool.stats.waiting == 20)
    for task in waiting:
        single.pool.check_in(held)
        held = await task
    single.pool.check_in(held)
    assert await single.rows(PID, {}, timeout=0.5)


async def test_callers_cancelled_at_any_moment_leak_nothing(empty_dsn: Dsn, admin: Admin) -> None:
    dice = random.Random()  # noqa: S311 - moments of cancellation are not a secret

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

    async with open_database(empty_dsn, options(least=2, most=4)) as database:
        for _ in range(10):
            await asyncio.gather(*(cancelled(work) for work in dice.choices([through_rows, through_session], k=100)))
            await eventually(lambda: database.pool.stats.in_use == 0)
            assert database.pool.stats.size <= 4
            # A process of the server may still be ending when the next one begins.
            await eventually(lambda: len(admin.pids()) <= 4)

        await eventually(lambda: database.pool.stats.size == database.pool.stats.idle)
        await eventually(lambda: len(admin.pids("state = 'idle'")) == len(admin.pids()) == database.pool.stats.size)
        assert len(await hold_at_once(database, 4)) == 4
        assert database.pool.stats.waiting == 0


async def test_the_connection_of_a_caller_that_is_cancelled_goes_to_the_next(single: Database) -> None:
    held = await single.pool.check_out()
    first = asyncio.create_task(single.pool.check_out())
    second = asyncio.create_task(single.pool.check_out())
    await eventually(lambda: single.pool.stats.waiting == 2)
    single.pool.check_in(held)
    first.cancel()
    assert await second is held
    assert first.cancelled()
    single.pool.check_in(held)
    assert single.pool.stats == PoolStats(size=1, idle=1, in_use=0, waiting=0)


async def test_a_caller_cancelled_while_its_connection_is_checked_gives_it_back(
    single: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "CHECK_AFTER_IDLE", -1.0)
    for turns in range(6):
        task = asyncio.create_task(single.pool.check_out())
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            single.pool.check_in(await task)
    assert await pid_of(single)
    assert single.pool.stats.in_use == 0


async def test_closing_ends_the_running_statement_and_the_wait_of_every_caller(empty_dsn: Dsn, admin: Admin) -> None:
    async with open_database(empty_dsn, options(most=1)) as database:
        running = asyncio.create_task(database.rows(SLEEP, FOREVER))
        await eventually(lambda: database.pool.stats.in_use == 1)
        waiting = asyncio.create_task(database.rows(PID, {}))
        await eventually(lambda: database.pool.stats.waiting == 1)
    for late in (running, waiting, database.rows(PID, {})):
        with pytest.raises(Unavailable):
            await late
    assert database.pool.stats == PoolStats(size=0, idle=0, in_use=0, waiting=0)
    async with open_database(empty_dsn, options(least=8, most=8)):
        # Closing waits for the connections that are being opened.
        pass
    await eventually(lambda: not admin.pids("state = 'idle'"))


async def test_a_server_that_gives_no_more_connections_is_shared_without_an_error(
    server: Dsn, empty_dsn: Dsn, admin: Admin, caplog: pytest.LogCaptureFixture
) -> None:
    async def burst(count: int) -> int:
        rows = await asyncio.gather(*(database.rows(SLEEP, {"seconds": 0.01}) for _ in range(count)))
        return len({row["value"] for (row,) in rows})

    with limited_role(server, empty_dsn, 2) as dsn:
        async with open_database(dsn, options(most=8)) as database:
            assert await burst(60) <= 2
            await eventually(lambda: len(admin.pids()) == 2)
            await eventually(lambda: database.pool.stats.in_use == 0)

            with psycopg.connect(server.conninfo, autocommit=True) as other:
                role = sql.Identifier(dsn.parameters["user"])
                other.execute(sql.SQL("ALTER ROLE {} CONNECTION LIMIT 5").format(role))
            # A later burst finds the new limit without a restart.
            while len(admin.pids()) < 5:
                await burst(16)
    # A refusal is logged once, not for each request.
    refusals = [record for record in caplog.records if "Cannot open" in record.getMessage()]
    assert 1 <= len(refusals) < 20


async def test_probes_have_a_connection_of_their_own_that_no_load_occupies(empty_dsn: Dsn, admin: Admin) -> None:
    async with open_database(empty_dsn, options(most=5)) as database:
        held = [await database.pool.check_out() for _ in range(5)]
        with pytest.raises(PoolTimeout):
            await database.pool.check_out(0.05)
        assert await database.probes.row(PID, {})
        assert len(admin.pids()) == 6
        for connection in held:
            database.pool.check_in(connection)
    async with open_database(empty_dsn, options(most=4)) as database:
        assert database.probes is database
