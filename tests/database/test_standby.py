"""A synchronous standby that is gone: no write is acknowledged that only the primary has."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from threading import Event
from uuid import UUID, uuid4

import psycopg
import pytest
from sqlalchemy import text

from persistence import tasks
from persistence.postgres.database import Database, open_database
from persistence.postgres.errors import OutcomeUnknown
from tests.database.helpers import TASK, eventually, new_user, options
from tests.support.databases import as_owner
from tests.support.servers import PostgresServer

type Write = Callable[[Database, UUID], Coroutine[None, None, None]]


async def in_one_statement(database: Database, user_id: UUID) -> None:
    await tasks.create(database, user_id, TASK)


async def together(database: Database, user_id: UUID) -> None:
    await database.together([(tasks.CREATE, {"id": uuid4(), "user_id": user_id, **TASK}) for _ in range(2)])


async def in_a_session(database: Database, user_id: UUID) -> None:
    async with database.session() as session:
        connection = await session.connection()
        await connection.execute(
            text("INSERT INTO tasks (id, user_id, title) VALUES (gen_random_uuid(), :id, 'x')"), {"id": user_id}
        )


async def on_a_bare_connection(database: Database, user_id: UUID) -> None:
    async with database.connection() as connection:
        await connection.execute(
            "INSERT INTO tasks (id, user_id, title) VALUES (gen_random_uuid(), %s, 'x')", [user_id]
        )


async def until_a_commit_waits(postgres: PostgresServer, admin: psycopg.Connection) -> None:
    """Returns when the setting counts, which is when the checkpointer has read it."""
    has_waited = Event()
    with psycopg.connect(as_owner(postgres.dsn).conninfo, autocommit=True) as writer:
        pid = writer.info.backend_pid

        def write() -> None:
            while not has_waited.is_set():
                writer.execute("SELECT pg_logical_emit_message(true, 'a', 'commit')")

        writing = asyncio.create_task(asyncio.to_thread(write))
        waits = "SELECT FROM pg_stat_activity WHERE pid = %s AND wait_event = 'SyncRep'"
        await eventually(lambda: admin.execute(waits, [pid]).rowcount > 0)
        has_waited.set()
        admin.execute("SELECT pg_cancel_backend(%s)", [pid])
        await writing


@asynccontextmanager
async def without_its_standby(postgres: PostgresServer) -> AsyncIterator[psycopg.Connection]:
    """Makes every commit wait for a standby that does not exist."""
    with postgres.administrator() as admin:
        admin.execute("ALTER SYSTEM SET synchronous_standby_names = 'missing'")
        admin.execute("SELECT pg_reload_conf()")
        try:
            await until_a_commit_waits(postgres, admin)
            yield admin
        finally:
            admin.execute("ALTER SYSTEM RESET synchronous_standby_names")
            admin.execute("SELECT pg_reload_conf()")


@pytest.mark.parametrize("write", [in_one_statement, together, in_a_session, on_a_bare_connection])
async def test_a_write_whose_wait_for_the_standby_is_cancelled_is_of_unknown_outcome(
    postgres: PostgresServer, write: Write
) -> None:
    async with open_database(postgres.dsn, options(most=1)) as database:
        user_id = await new_user(database)
        async with without_its_standby(postgres) as admin:
            running = asyncio.create_task(write(database, user_id))
            cancel = "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
            await eventually(lambda: admin.execute(cancel).rowcount > 0)
            with pytest.raises(OutcomeUnknown):
                await running
        # The connection that said so does not say it of the next write.
        await write(database, user_id)


async def test_a_write_whose_wait_for_the_standby_ends_at_the_deadline_is_of_unknown_outcome(
    postgres: PostgresServer,
) -> None:
    async with open_database(postgres.dsn, options(most=1)) as database:
        user_id = await new_user(database)
        values = {"id": uuid4(), "user_id": user_id, **TASK}
        async with without_its_standby(postgres):
            with pytest.raises(OutcomeUnknown):
                await database.row(tasks.CREATE, values, 0.3)
        replayed = await database.row(tasks.CREATE, values)
        assert replayed
        assert replayed["replayed"]


async def test_a_session_cut_off_while_it_waits_for_the_standby_is_of_unknown_outcome(postgres: PostgresServer) -> None:
    async with open_database(postgres.dsn, options(most=1, statement_timeout=0.5)) as database:
        user_id = await new_user(database)
        async with without_its_standby(postgres):
            with pytest.raises(OutcomeUnknown):
                await in_a_session(database, user_id)
