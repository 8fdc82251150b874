"""Databases in which every DDL statement takes a while, so that a process can be killed in any of them."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from time import monotonic

import psycopg

from persistence import history, migrator
from persistence.postgres.dsn import Dsn
from tests.database.test_schema import Schema, describe
from tests.faults.administrator import Administrator, administrator
from tests.faults.matrix import Result
from tests.support.servers import PostgresServer

# One of the statements takes longer than any scenario. The number of statements is in a sequence, because a rollback
# does not undo a sequence.
# One that is logged would now and then write by itself, and DROP INDEX CONCURRENTLY must be the first that does.
TRIGGER = """
CREATE SCHEMA slow;
CREATE UNLOGGED SEQUENCE slow.statements;
CREATE TABLE slow.endless AS SELECT 0 AS number;
CREATE FUNCTION slow.wait() RETURNS event_trigger LANGUAGE plpgsql AS $$
DECLARE
    is_endless boolean := nextval('slow.statements') = (SELECT number FROM slow.endless);
BEGIN
    PERFORM pg_sleep(CASE WHEN is_endless THEN 3600 ELSE 0.02 END);
END $$;
CREATE EVENT TRIGGER slow ON ddl_command_start EXECUTE FUNCTION slow.wait();
"""
BEGUN = "SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM slow.statements"
HOLDER = """
SELECT application_name, coalesce(wait_event = 'PgSleep', false) FROM pg_locks JOIN pg_stat_activity USING (pid)
WHERE locktype = 'advisory' AND granted AND datname = current_database()
"""
OTHERS = """
SELECT FROM pg_stat_activity
WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()
"""


def schema_of(dsn: Dsn) -> Schema:
    with psycopg.connect(dsn.conninfo) as connection:
        return describe(connection)


@dataclass(frozen=True)
class Database:
    dsn: Dsn
    url: str
    _connection: Administrator

    async def statements(self) -> int:
        """The number of statements that have begun."""
        return int((await self._connection.query(BEGUN))[0][0])

    async def wait_for_statement(self, number: int) -> None:
        """Waits until the statement of this number, counted from 1, has begun."""
        has_begun = f"SELECT 1 FROM ({BEGUN}) AS begun (number) WHERE number >= {number}"
        assert await self._connection.wait_for_row(has_begun, timeout=600), f"statement {number} has not begun"

    async def holder(self) -> tuple[str, bool] | None:
        """The name of the process that holds the migration lock, and True if it is in a statement."""
        return next(((name, is_in) for name, is_in in await self._connection.query(HOLDER)), None)

    async def is_left_alone(self) -> bool:
        """Waits until there is no other connection. Returns False after 10 seconds."""
        return await self._connection.wait_for_row(f"SELECT 1 WHERE NOT EXISTS ({OTHERS})", 10)


@dataclass
class SlowMigrations:
    """Makes such databases, and knows the schema after an undisturbed migration."""

    _postgres: PostgresServer
    _admin: Administrator
    statements: int = 0
    """The number of statements in all revisions together."""
    duration: float = 0.0
    """Seconds that an undisturbed migration takes."""
    schema: Schema = field(default_factory=dict)

    @asynccontextmanager
    async def new(self, endless_statement: int = 0) -> AsyncIterator[Database]:
        """Makes a database in which the statement of this number, counted from 1, does not end the first time."""
        name = f"round_{random.getrandbits(64):x}"
        await self._admin.execute(f"CREATE DATABASE {name} TEMPLATE slow")
        try:
            dsn = self._postgres.dsn.with_database(name)
            async with administrator(dsn.conninfo) as connection:
                await connection.execute(f"UPDATE slow.endless SET number = {endless_statement}")
                yield Database(dsn, self._postgres.url_of(database=name), connection)
        finally:
            await self._admin.execute(f"DROP DATABASE {name} WITH (FORCE)")

    async def check(self, result: Result, database: Database, what: str) -> None:
        """Expects a database that is migrated as if undisturbed, without connections or locks of other processes."""
        current = await asyncio.to_thread(migrator.current, database.dsn)
        result.expect(current == history.head(), f"{what}: the database is at {current}")
        found = await asyncio.to_thread(schema_of, database.dsn)
        result.expect(found == self.schema, f"{what}: the schema differs from that of an undisturbed migration")
        result.expect(await database.is_left_alone(), f"{what}: another process is still connected")
        result.expect(await database.holder() is None, f"{what}: another process still holds the migration lock")


@asynccontextmanager
async def slow_migrations(postgres: PostgresServer) -> AsyncIterator[SlowMigrations]:
    async with administrator(postgres.dsn.conninfo) as admin:
        made = SlowMigrations(postgres, admin)
        await asyncio.to_thread(migrator.migrate, postgres.dsn)
        made.schema = await asyncio.to_thread(schema_of, postgres.dsn)
        await admin.execute("CREATE DATABASE slow")
        async with administrator(postgres.dsn.with_database("slow").conninfo) as template:
            await template.execute(TRIGGER)
        async with made.new() as database:
            started = monotonic()
            await asyncio.to_thread(migrator.migrate, database.dsn)
            made.duration = monotonic() - started
            made.statements = await database.statements()
        yield made
