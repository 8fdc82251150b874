"""Databases in which every statement of a migration takes a while, so that a process can be killed in any of them."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from time import monotonic
from typing import Any

import psycopg
from psycopg import sql

from persistence import migrator
from persistence.postgres.dsn import Dsn
from tests.database.test_schema import Schema, describe
from tests.faults.matrix import Result
from tests.support.servers import PostgresServer

# One of them takes longer than any row. They are counted in a sequence, which no rollback turns back.
BRAKE = """
CREATE SCHEMA brake;
CREATE SEQUENCE brake.statements;
CREATE TABLE brake.endless AS SELECT 0 AS number;
CREATE FUNCTION brake.hold() RETURNS event_trigger LANGUAGE plpgsql AS $$
DECLARE
    endless boolean := nextval('brake.statements') = (SELECT number FROM brake.endless);
BEGIN
    PERFORM pg_sleep(CASE WHEN endless THEN 3600 ELSE 0.02 END);
END $$;
CREATE EVENT TRIGGER hold ON ddl_command_start EXECUTE FUNCTION brake.hold();
"""
BEGUN = "SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM brake.statements"
HOLDER = """
SELECT application_name, coalesce(wait_event = 'PgSleep', false) FROM pg_locks JOIN pg_stat_activity USING (pid)
WHERE locktype = 'advisory' AND granted AND datname = current_database()
"""
OTHERS = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()
"""
LEAVE_TIMEOUT = 10.0


def schema_of(dsn: Dsn) -> Schema:
    with psycopg.connect(dsn.conninfo) as connection:
        return describe(connection)


@dataclass(frozen=True)
class Database:
    dsn: Dsn
    url: str
    _connection: psycopg.AsyncConnection

    async def statements(self) -> int:
        """How many statements were begun."""
        ((count,),) = await self._ask(BEGUN)
        return int(count)

    async def begin(self, statement: int) -> None:
        """Waits until the statement of this number, counted from 1, has begun."""
        while True:
            if await self.statements() >= statement:
                return
            await asyncio.sleep(0.005)

    async def holder(self) -> tuple[str, bool] | None:
        """The name of the process that has its turn to migrate, and whether it is in a statement."""
        return next(iter(await self._ask(HOLDER)), None)

    async def others_left(self) -> bool:
        """Whether others are still connected after `LEAVE_TIMEOUT`."""
        for _ in range(round(LEAVE_TIMEOUT / 0.02)):
            ((count,),) = await self._ask(OTHERS)
            if not count:
                return False
            await asyncio.sleep(0.02)
        return True

    async def _ask(self, query: str) -> list[tuple[Any, ...]]:
        return await (await self._connection.execute(query.encode())).fetchall()


class Braked:
    """Makes such databases, and knows what a quiet migration makes of them."""

    def __init__(self, postgres: PostgresServer, admin: psycopg.AsyncConnection) -> None:
        self._postgres, self._admin = postgres, admin
        self.statements = 0
        """How many statements all steps have together."""
        self.duration = 0.0
        """Seconds that all steps take when nothing happens."""
        self.whole: Schema = {}

    @asynccontextmanager
    async def new(self, endless_statement: int = 0) -> AsyncIterator[Database]:
        """A database of its own, in which the statement of this number, counted from 1, does not end the first time."""
        name = f"round_{random.getrandbits(64):x}"
        await self._admin.execute(sql.SQL("CREATE DATABASE {} TEMPLATE braked").format(sql.Identifier(name)))
        try:
            dsn = self._postgres.dsn.with_database(name)
            async with await psycopg.AsyncConnection.connect(dsn.conninfo, autocommit=True) as connection:
                await connection.execute("UPDATE brake.endless SET number = %s", [endless_statement])
                yield Database(dsn, self._postgres.url_of(database=name), connection)
        finally:
            await self._admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))

    async def check(self, result: Result, database: Database, what: str) -> None:
        """That the database is migrated as if nothing had happened, and nobody is left in it."""
        current = await asyncio.to_thread(migrator.current, database.dsn)
        result.expect(current == migrator.head(), f"{what}: the database is at {current}")
        found = await asyncio.to_thread(schema_of, database.dsn)
        result.expect(found == self.whole, f"{what}: the schema is not what quiet migrations make")
        result.expect(not await database.others_left(), f"{what}: somebody is still connected")
        result.expect(await database.holder() is None, f"{what}: somebody still has his turn")


@asynccontextmanager
async def braked(postgres: PostgresServer) -> AsyncIterator[Braked]:
    async with await psycopg.AsyncConnection.connect(postgres.dsn.conninfo, autocommit=True) as admin:
        made = Braked(postgres, admin)
        await asyncio.to_thread(migrator.migrate, postgres.dsn)
        made.whole = await asyncio.to_thread(schema_of, postgres.dsn)
        await admin.execute("CREATE DATABASE braked")
        conninfo = postgres.dsn.with_database("braked").conninfo
        async with await psycopg.AsyncConnection.connect(conninfo) as template:
            await template.execute(BRAKE.encode())
        async with made.new() as database:
            started = monotonic()
            await asyncio.to_thread(migrator.migrate, database.dsn)
            made.duration = monotonic() - started
            made.statements = await database.statements()
        yield made
