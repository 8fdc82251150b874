"""Statements whose time is up, at a distance: the server ends them, and until then their connections count."""

import asyncio
from collections.abc import Callable, Coroutine
from uuid import UUID

import psycopg
import pytest
from sqlalchemy import text

from persistence import tasks
from persistence.postgres.database import Database, open_database
from persistence.postgres.dsn import Dsn
from persistence.postgres.errors import Unavailable
from tests.database.helpers import FOREVER, SLEEP, TASK, Admin, eventually, new_user, options
from tests.faults.proxy import Proxy
from tests.support.databases import as_owner
from tests.support.servers import PostgresServer

LIMIT = 2

type Work = Callable[[Database, UUID], Coroutine[None, None, None]]


async def one_statement(database: Database, user_id: UUID) -> None:
    with pytest.raises(Unavailable):
        await tasks.create(database, user_id, TASK)


async def a_session(database: Database, user_id: UUID) -> None:
    with pytest.raises(Unavailable):
        async with database.session() as session:
            await (await session.connection()).execute(text("DELETE FROM tasks"))


@pytest.mark.parametrize(
    ("work", "seconds", "deadline", "rounds"),
    [
        (one_statement, 0, 0.4, 3), (one_statement, 0.005, 0.4, 3), (one_statement, 0.05, 0.6, 3),
        pytest.param(one_statement, 0.2, 1.2, 3, marks=pytest.mark.slow),
        pytest.param(a_session, 0.2, 2.0, 2, marks=pytest.mark.slow),
    ],
)  # fmt: skip
async def test_the_server_has_no_more_connections_than_the_limit(
    postgres: PostgresServer, work: Work, seconds: float, deadline: float, rounds: int
) -> None:
    limits = options(most=LIMIT, statement_timeout=deadline)
    with Proxy(postgres.port) as proxy, psycopg.connect(as_owner(postgres.dsn).conninfo, autocommit=True) as other:
        admin, seen = Admin(other), set[int]()
        through = Dsn(postgres.dsn.parameters | {"port": str(proxy.port)})
        async with open_database(through, limits) as database:
            user_id = await new_user(database)
            async with database.session() as session:
                # The first session asks for what SQLAlchemy wants to know of the server.
                await session.connection()
            proxy.distance = seconds
            with psycopg.connect(as_owner(postgres.dsn).conninfo) as locker:
                locker.execute("LOCK TABLE tasks")
                for _ in range(rounds):
                    await asyncio.gather(*(work(database, user_id) for _ in range(LIMIT + 1)))
                    seen.add(len(admin.pids()))
            assert max(seen) <= LIMIT, seen
            proxy.distance = 0.0
            await eventually(lambda: database.pool.stats.in_use == 0)
            assert await tasks.create(database, user_id, TASK)


async def test_a_database_that_is_closed_leaves_no_statement_behind(empty_dsn: Dsn, admin: Admin) -> None:
    async with open_database(empty_dsn, options(least=2)) as database:
        running = asyncio.create_task(database.rows(SLEEP, FOREVER))
        await admin.waiting()
        await eventually(lambda: database.pool.stats.idle == 1)
        closing = asyncio.create_task(database.pool.close())
        await asyncio.sleep(0)
        with pytest.raises(Unavailable):
            # The first step raises, although a connection was idle.
            database.pool.check_out().send(None)
        await closing
    with pytest.raises(Unavailable):
        await running
    await eventually(lambda: not admin.pids())
