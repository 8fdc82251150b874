"""The bed of most faults: PostgreSQL, what may stand before it, and gunicorn with several workers, under watch."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from uuid import UUID, uuid4

import psutil
import psycopg
from psycopg import sql

from persistence import migrator
from tests.faults import pgbouncer
from tests.faults.certificates import Certificate
from tests.faults.connections import SETTLE_TIMEOUT, Holdings, Watch, settled, workers_of
from tests.faults.matrix import Result, Skipped
from tests.faults.pgbouncer import PgBouncer
from tests.faults.proxy import Proxy
from tests.support.servers import PostgresServer, WebServer, eventually

USERS = 8
POOL_MIN = 2
IDLE_IN_TRANSACTION_MAX = 1.0
"""Seconds; no request has a transaction of several statements, so that only a sample in a COMMIT may see one."""


@dataclass
class Bed:
    postgres: PostgresServer
    web: WebServer
    watch: Watch
    users: list[UUID]
    workers: int
    pool_max: int
    limit: int
    """How many connections to PostgreSQL all workers may have together."""
    database_port: int
    """Where the workers connect to: PostgreSQL or what stands before it."""
    proxy: Proxy | None = None
    pgbouncer: PgBouncer | None = None
    _others: dict[int, int] = field(default_factory=dict)
    """What each worker held open in the beginning, sockets of clients and to the database aside."""

    @property
    def conninfo(self) -> str:
        """Of PostgreSQL itself, whatever stands before it."""
        return self.postgres.dsn.conninfo

    @property
    def processes(self) -> list[psutil.Process]:
        return workers_of(self.web.process.pid)

    async def settle(self, result: Result, *, restarts: int = 0) -> None:
        """Waits until the servers are at rest, and adds to the result what did not come to rest, or ever was too much.

        `restarts` says how many workers the row itself has ended.
        """
        result.leaked += await settled(self.conninfo, self.limit)
        result.expect(
            self.watch.most <= self.limit, f"{self.watch.most} connections at once, {self.limit} are the limit"
        )
        idle = self.watch.longest_idle_in_transaction
        result.expect(idle <= IDLE_IN_TRANSACTION_MAX, f"a connection was idle in a transaction for {idle:.1f} s")
        result.leaked += await asyncio.to_thread(_until_none, self._count_leaked_descriptors)
        log = await asyncio.to_thread(lambda: self.web.log)
        result.expect("Traceback" not in log, f"a traceback in the log:\n{log[log.find('Traceback') :][:2000]}")
        booted = log.count("Booting worker")
        result.expect(booted <= self.workers + restarts, f"{booted} workers were started, {self.workers} are to run")

    def is_complete(self) -> bool:
        """Whether every worker listens, has its first connections to the database, and nothing else under way."""
        holdings = self._holdings().values()
        return self.web.log.count("ASGI server listening") == self.workers == len(holdings) and all(
            held.database >= min(POOL_MIN, max(1, self.pool_max - 1)) and not held.clients for held in holdings
        )

    async def note_descriptors(self) -> None:
        """Makes what the workers now hold open the measure of what may be left in the end."""
        holdings = await asyncio.to_thread(self._holdings)
        self._others = {pid: held.others for pid, held in holdings.items()}

    def _holdings(self) -> dict[int, Holdings]:
        return {each.pid: Holdings.of(each, self.database_port, self.web.port) for each in self.processes}

    def _count_leaked_descriptors(self) -> int:
        # Of a worker that was started since, what it held in its beginning is not known.
        return sum(
            max(0, held.database - self.pool_max) + max(0, held.others - self._others.get(pid, held.others))
            for pid, held in self._holdings().items()
        )


def _until_none(count: Callable[[], int]) -> int:
    """What is counted after all; a connection that was closed a moment ago may still be there."""
    deadline = time.monotonic() + SETTLE_TIMEOUT
    while (number := count()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return number


@asynccontextmanager
async def bed(
    folder: Path,
    *,
    workers: int = 2,
    pool_max: int = 8,
    via: Literal["direct", "proxy", "pgbouncer"] = "direct",
    pool_size: int = 16,
    certificate: Certificate | None = None,
    user: str = "postgres",
    postgres_settings: Sequence[str] = (),
    **environment: str,
) -> AsyncIterator[Bed]:
    """Servers that are up, with eight users in the database.

    `pool_size` and `certificate` are PgBouncer's, `user` is who the workers are to PostgreSQL, and the environment is
    theirs. Raises `Skipped` where there is no PgBouncer.
    """
    if via == "pgbouncer" and not pgbouncer.available():
        raise Skipped("PgBouncer is not installed")
    async with AsyncExitStack() as stack:

        async def enter[Server](server: AbstractContextManager[Server]) -> Server:
            # Starting and stopping blocks.
            entered = await asyncio.to_thread(server.__enter__)
            stack.push_async_callback(asyncio.to_thread, server.__exit__, None, None, None)
            return entered

        postgres = await enter(PostgresServer(folder / "pg", *postgres_settings))
        await asyncio.to_thread(migrator.migrate, postgres.dsn)
        users = await asyncio.to_thread(_new_users, postgres.dsn.conninfo, user)
        port, limit = postgres.port, workers * pool_max
        proxy = bouncer = None
        if via == "proxy":
            proxy = await enter(Proxy(postgres.port))
            port = proxy.port
        elif via == "pgbouncer":
            bouncer = await enter(
                PgBouncer(folder / "pgbouncer", postgres.port, pool_size=pool_size, certificate=certificate)
            )
            port, limit = bouncer.port, pool_size
            environment = {"DATABASE_POOLER": "true"} | environment
        settings = {
            "DATABASE_URL": postgres.url_of(user).replace(f":{postgres.port}/", f":{port}/"),
            "ENVIRONMENT": "production",
            "REQUEST_TIMEOUT": "5",
            "DATABASE_POOL_MIN": str(min(POOL_MIN, pool_max)),
            "DATABASE_POOL_MAX": str(pool_max),
        }
        web = await enter(WebServer(folder, settings | environment, "--workers", str(workers)))
        watch = await enter(Watch(postgres.dsn.conninfo))
        made = Bed(postgres, web, watch, users, workers, pool_max, limit, port, proxy, bouncer)
        await asyncio.to_thread(eventually, made.is_complete)
        await made.note_descriptors()
        yield made


def _new_users(conninfo: str, role: str) -> list[UUID]:
    """Eight users of the product; the role that is to serve them is made if need be."""
    users = [uuid4() for _ in range(USERS)]
    with psycopg.connect(conninfo, autocommit=True) as connection, connection.cursor() as cursor:
        rows = [(user_id, f"{user_id}@example.com") for user_id in users]
        cursor.executemany("INSERT INTO users (id, email) VALUES (%s, %s)", rows)
        if role != "postgres":
            name = sql.Identifier(role)
            cursor.execute(sql.SQL("CREATE ROLE {} LOGIN").format(name))
            grant = "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {}"
            cursor.execute(sql.SQL(grant).format(name))
    return users
