"""A PostgreSQL that asks for a password, behind a name that is not this machine's and so has to prove who it is."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from persistence import migrator
from tests.faults.tls import Front, front
from tests.support.servers import PostgresServer

HOST = "db.todo.test"
"""Not this machine's, so that TLS is not optional. The address stands beside it, so that nobody asks DNS."""
USER = "app"
PASSWORD = "hunter2-first"
HBA = f"host all {USER} 127.0.0.1/32 scram-sha-256\nhost all postgres 127.0.0.1/32 trust\nlocal all all trust\n"


class Guarded:
    """Migrated, with the role `app`, which may do what the application does; `front.certificate` is what it shows."""

    def __init__(self, postgres: PostgresServer, front: Front) -> None:
        self.postgres, self.front = postgres, front

    def url(self, password: str = PASSWORD) -> str:
        return url_of(USER, password, self.front.port)

    async def set_password(self, password: str) -> None:
        await self.run(sql.SQL("ALTER ROLE app PASSWORD {}").format(sql.Literal(password)))

    async def end_connections(self) -> None:
        """Ends those of the application."""
        await self.run(sql.SQL("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE usename = 'app'"))

    async def connections(self) -> int:
        """How many the application has."""
        ((count,),) = await self.run(sql.SQL("SELECT count(*) FROM pg_stat_activity WHERE usename = 'app'"))
        return int(count)

    async def run(self, statement: sql.SQL | sql.Composed) -> list[tuple[Any, ...]]:
        conninfo = self.postgres.dsn.conninfo
        async with await psycopg.AsyncConnection.connect(conninfo, autocommit=True) as connection:
            cursor = await connection.execute(statement)
            return await cursor.fetchall() if cursor.description else []


def url_of(user: str, password: str, port: int) -> str:
    return f"postgresql://{user}:{password}@{HOST}:{port}/todo?hostaddr=127.0.0.1"


@asynccontextmanager
async def guarded(folder: Path) -> AsyncIterator[Guarded]:
    with PostgresServer(folder) as postgres:
        migrator.migrate(postgres.dsn)
        (folder / "data" / "pg_hba.conf").write_text(HBA)
        async with front(postgres.port) as before:
            made = Guarded(postgres, before)
            await made.run(sql.SQL("CREATE ROLE app LOGIN"))
            await made.set_password(PASSWORD)
            await made.run(sql.SQL("GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO app"))
            # This also reads the rules of who may come in.
            await made.run(sql.SQL("SELECT pg_reload_conf()"))
            yield made
