"""The test environment of most scenarios: PostgreSQL, a proxy or PgBouncer in front of it, and gunicorn."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    AsyncExitStack,
    asynccontextmanager,
    suppress,
)
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple, override
from uuid import UUID, uuid4

import psutil
import psycopg

from persistence import grants, migrator
from tests.faults import clients, pgbouncer
from tests.faults.administrator import Administrator, administrator
from tests.faults.certificates import Certificate
from tests.faults.clients import Load
from tests.faults.connections import Watch, check_settled, lowest
from tests.faults.history import History
from tests.faults.matrix import Result, Run, Skipped
from tests.faults.pgbouncer import PgBouncer
from tests.faults.proxy import Proxy
from tests.faults.readers import LIVE, readers
from tests.faults.verdict import judge
from tests.faults.waiting import until
from tests.support.databases import SERVER
from tests.support.servers import ROOT, PostgresServer, WebServer

USERS = 8
POOL_MIN = 2
IDLE_IN_TRANSACTION_MAX = 1.0
"""Seconds. No request has a transaction of several statements, so only a sample during a COMMIT may show one."""
HOST = "db.todo.test"
"""A host for which the web server requires TLS. The address is in the URL, so that no name is resolved."""
HBA = "host all {role} 127.0.0.1/32 scram-sha-256\nhost all postgres 127.0.0.1/32 trust\nlocal all all trust\n"
READY = "ASGI server listening"


class Descriptors(NamedTuple):
    """Numbers of sockets to the database, sockets of clients, and other descriptors."""

    database: int
    clients: int
    others: int


@dataclass(kw_only=True)
class Service:
    """gunicorn on a database, what its clients were told, and what has to hold at the end."""

    result: Result
    web: WebServer
    watch: Watch
    users: list[UUID]
    workers: int
    pool_max: int
    limit: int
    """The number of connections to PostgreSQL that all workers may have together."""
    database_ports: set[int]
    """The ports that the workers connect to."""
    history: History = field(default_factory=History)
    restarts: int = 0
    """The number of workers that the scenario itself has ended."""
    is_concluded: bool = False
    _others: dict[int, int] = field(default_factory=dict)
    """The number of other descriptors that each worker had at the start."""

    @property
    def conninfo(self) -> str:
        """The address of the database itself, as it is now."""
        raise NotImplementedError

    @property
    def processes(self) -> list[psutil.Process]:
        return psutil.Process(self.web.process.pid).children()

    @asynccontextmanager
    async def load(
        self,
        users: Sequence[UUID] = (),
        *,
        may_be_unavailable: bool = True,
        may_be_cut: bool = False,
        **options: Any,
    ) -> AsyncIterator[Load]:
        """Runs clients of these users, or of all, until the block ends, and adds their counts to the result.

        `options` are those of `clients.load`. Responses of 503 and cut connections count as failures unless allowed.
        """
        async with clients.load(self.web.port, users or self.users, self.history, **options) as found:
            yield found
        found.add_to(self.result, may_be_unavailable=may_be_unavailable, may_be_cut=may_be_cut)

    def administrator(self) -> AbstractAsyncContextManager[Administrator]:
        return administrator(self.conninfo)

    def live_probes(self) -> AbstractAsyncContextManager[list[float]]:
        """Sends live probes as load balancers do, on a connection each, and yields the seconds of the responses."""
        return readers(self.web.port, self.result, [LIVE] * 2 * self.workers, pause=0.025, keep_alive=False)

    def expect_log_without(self, *words: str) -> None:
        log = self.web.log
        for word in words:
            context = log[max(0, log.find(word) - 40) :][:2000]
            self.result.expect(word not in log, f"the log has {word!r}: {context}")

    async def conclude(self) -> None:
        """Waits until the servers are idle, and checks connections, descriptors, workers, the log and the database."""
        self.is_concluded = True
        result, watch = self.result, self.watch
        await check_settled(result, self.conninfo, self.limit)
        result.expect(watch.most <= self.limit, f"{watch.most} connections at once, {self.limit} are the limit")
        idle = watch.longest_idle_in_transaction
        result.expect(idle <= IDLE_IN_TRANSACTION_MAX, f"a connection was idle in a transaction for {idle:.1f} s")
        leaked = await asyncio.to_thread(lowest, self._count_leaked_descriptors)
        result.leaked += leaked
        result.expect(
            not leaked, f"leaked: {self.descriptors()}, others at the start: {self._others}; {self._targets()}"
        )
        self.expect_log_without("Traceback")
        booted = self.web.log.count("Booting worker") - self.restarts
        result.expect(booted <= self.workers, f"{booted} workers were started instead of {self.workers}")
        await asyncio.to_thread(judge, self.history, self.conninfo, result)

    def is_complete(self) -> bool:
        """True as soon as every worker listens and has opened its first connections to the database.

        The numbers of descriptors must be the same twice, because a worker may open or close one during the count.
        """
        # A worker opens its last descriptors when it begins to listen, so a count from before says nothing.
        if self.web.log.count(READY) != self.workers:
            return False
        found = self.descriptors()
        before, self._others = self._others, {pid: each.others for pid, each in found.items()}
        is_idle = all(each.database >= POOL_MIN and not each.clients for each in found.values())
        return is_idle and before == self._others

    def descriptors(self) -> dict[int, Descriptors]:
        """The open descriptors of each worker, by its process id."""
        found = {}
        for process in self.processes:
            sockets = [each for each in process.net_connections("tcp") if each.status != psutil.CONN_LISTEN]
            database = sum(each.raddr.port in self.database_ports for each in sockets)
            clients = sum(each.laddr.port == self.web.port for each in sockets)
            found[process.pid] = Descriptors(database, clients, process.num_fds() - database - clients)
        return found

    def _count_leaked_descriptors(self) -> int:
        # The number at the start is not known for a worker that was started since.
        return sum(
            max(0, each.database - self.pool_max) + max(0, each.others - self._others.get(pid, each.others))
            for pid, each in self.descriptors().items()
        )

    def _targets(self) -> dict[int, list[str]]:
        """The target of each open descriptor of each worker, where the system has `/proc`."""
        found: dict[int, list[str]] = {}
        for process in self.processes:
            for link in Path(f"/proc/{process.pid}/fd").glob("*"):
                with suppress(FileNotFoundError):
                    found.setdefault(process.pid, []).append(str(link.readlink()))
        return found


@dataclass(kw_only=True)
class Environment(Service):
    postgres: PostgresServer
    proxy: Proxy
    bouncer: PgBouncer | None

    @property
    @override
    def conninfo(self) -> str:
        return self.postgres.dsn.conninfo


async def enter[Server](stack: AsyncExitStack, server: AbstractContextManager[Server]) -> Server:
    """Enters a server in a thread until the end of the stack, as starting and stopping blocks."""
    entered = await asyncio.to_thread(server.__enter__)
    stack.push_async_callback(asyncio.to_thread, server.__exit__, None, None, None)
    return entered


@asynccontextmanager
async def concluding[Serving: Service](env: Serving) -> AsyncIterator[Serving]:
    """Waits until all workers serve, and checks everything after the block (`Service.conclude`)."""
    await until(env.is_complete)
    yield env
    if not env.is_concluded:
        await env.conclude()


def production(url: str, pool_max: int) -> dict[str, str]:
    """The environment variables of a web server."""
    return {
        "DATABASE_URL": url,
        "ENVIRONMENT": "production",
        "AUTH_MODE": "trusted",
        "REQUEST_TIMEOUT": "5",
        "DATABASE_POOL_MIN": str(POOL_MIN),
        "DATABASE_POOL_MAX": str(pool_max),
    }


@asynccontextmanager
async def environment(
    run: Run,
    result: Result,
    *,
    name: str = "",
    workers: int = 2,
    pool_max: int = 8,
    via: Literal["direct", "proxy", "pgbouncer"] = "direct",
    pool_size: int = 16,
    second_host: int | None = None,
    certificate: Certificate | None = None,
    role: str = SERVER,
    password: str = "",
    postgres_settings: Sequence[str] = (),
    settings: Mapping[str, str] | None = None,
    application: str = "config.asgi:application",
    project: Path = ROOT,
    web_kind: type[WebServer] = WebServer,
) -> AsyncIterator[Environment]:
    """Starts the servers, makes eight users, and checks everything after the block (`Service.conclude`).

    The workers connect to PostgreSQL as `role`; with a `certificate` they use TLS to the proxy or to PgBouncer.
    `second_host` is a port that their URL names after the first, for when a standby has taken over.
    `pool_size` is PgBouncer's, `settings` are environment variables of the web server. Raises `Skipped` without
    PgBouncer. `name` tells several environments of one scenario apart.
    """
    if via == "pgbouncer" and not pgbouncer.available():
        raise Skipped("PgBouncer is not installed")
    (folder := run.folder / name).mkdir(exist_ok=True)
    async with AsyncExitStack() as stack:
        postgres = await enter(stack, PostgresServer(folder / "pg", *postgres_settings))
        await asyncio.to_thread(migrator.migrate, postgres.dsn)
        users = await asyncio.to_thread(_prepare, postgres, role, password)
        proxy = await enter(stack, Proxy(postgres.port, certificate))
        bouncer, port, limit = None, postgres.port, workers * pool_max
        if via == "proxy":
            port = proxy.port
        elif via == "pgbouncer":
            bouncer = await enter(stack, PgBouncer(folder / "pgbouncer", postgres.port, pool_size, certificate, role))
            port, limit = bouncer.port, pool_size
        url = f"postgresql://{role}@127.0.0.1:{port}/todo"
        if second_host:
            hosts = f"127.0.0.1:{port},127.0.0.1:{second_host}"
            url = f"postgresql://{role}@{hosts}/todo?target_session_attrs=read-write"
        if via == "proxy" and certificate:
            url = tls_url(role, password, port)
        variables = {
            **production(url, pool_max), "DATABASE_POOLER": str(via == "pgbouncer").lower(), **(settings or {}),
        }  # fmt: skip
        web = await enter(stack, web_kind(folder, variables, "--workers", str(workers), application, project=project))
        watch = await enter(stack, Watch(postgres.dsn.conninfo))
        started = Environment(
            result=result,
            postgres=postgres,
            proxy=proxy,
            bouncer=bouncer,
            web=web,
            watch=watch,
            users=users,
            workers=workers,
            pool_max=pool_max,
            limit=limit,
            database_ports={port, second_host or port},
        )
        async with concluding(started) as env:
            yield env


def tls_url(role: str, password: str, port: int) -> str:
    return f"postgresql://{role}:{password}@{HOST}:{port}/todo?hostaddr=127.0.0.1"


def _prepare(postgres: PostgresServer, role: str, password: str) -> list[UUID]:
    """Makes eight users, and the role with the rights of a server. A role with a password cannot connect without it."""
    users = [uuid4() for _ in range(USERS)]
    with psycopg.connect(postgres.dsn.conninfo, autocommit=True) as connection, connection.cursor() as cursor:
        rows = [(user_id, f"{user_id}@example.com") for user_id in users]
        cursor.executemany("INSERT INTO users (id, email) VALUES (%s, %s)", rows)
        cursor.execute(f"CREATE ROLE {role} LOGIN PASSWORD {f"'{password}'" if password else 'NULL'}".encode())
        grants.grant(postgres.dsn, role)
        if password:
            (postgres.folder / "data" / "pg_hba.conf").write_text(HBA.format(role=role))
            cursor.execute("SELECT pg_reload_conf()")
    return users
