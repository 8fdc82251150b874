"""PgBouncer pauses and restarts as ordered, and the environment finds connections that are left."""

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, override

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from persistence.postgres.dsn import Dsn
from persistence.postgres.opening import APPLICATION_NAME
from tests.faults import connections, pgbouncer
from tests.faults import environment as module
from tests.faults.certificates import Authority
from tests.faults.environment import READY, Descriptors, Service, environment
from tests.faults.http import Http
from tests.faults.matrix import Result, Run
from tests.faults.pgbouncer import PgBouncer
from tests.faults.waiting import until
from tests.support.servers import PostgresServer, WebServer

SOON = 0.2
"""Seconds in which an event that must not happen would have happened."""


@pytest.fixture
def bouncer(postgres: PostgresServer, tmp_path: Path) -> Iterator[PgBouncer]:
    if not pgbouncer.available():
        pytest.skip("PgBouncer is not installed")
    certificate = Authority(tmp_path, "authority").sign("pgbouncer", "localhost")
    with PgBouncer(tmp_path / "pgbouncer", postgres.port, pool_size=1, certificate=certificate) as bouncer:
        yield bouncer


def connect(bouncer: PgBouncer, sslmode: str = "require") -> psycopg.Connection:
    return psycopg.connect(Dsn.parse(bouncer.url).conninfo, prepare_threshold=None, sslmode=sslmode)


def backend(link: psycopg.Connection) -> object:
    return link.execute("SELECT pg_backend_pid()").fetchone()


def test_pgbouncer_shares_one_connection_by_transaction(bouncer: PgBouncer) -> None:
    with connect(bouncer) as one, connect(bouncer) as two, ThreadPoolExecutor(1) as threads:
        first = backend(one)
        second = threads.submit(backend, two)
        with pytest.raises(TimeoutError):
            second.result(SOON)
        one.commit()
        assert second.result() == first


def test_clients_wait_while_pgbouncer_is_paused_and_a_restart_disconnects_them(bouncer: PgBouncer) -> None:
    with connect(bouncer) as link, ThreadPoolExecutor(1) as threads:
        link.autocommit = True
        backend(link)
        bouncer.pause()
        waiting = threads.submit(backend, link)
        with pytest.raises(TimeoutError):
            waiting.result(SOON)
        bouncer.resume()
        assert waiting.result()
        bouncer.restart()
        with pytest.raises(psycopg.OperationalError):
            backend(link)
    with connect(bouncer) as link:
        assert backend(link)


def test_pgbouncer_with_a_certificate_accepts_no_client_without_tls(bouncer: PgBouncer) -> None:
    with pytest.raises(psycopg.OperationalError, match="SSL required"):
        connect(bouncer, sslmode="disable")
    with connect(bouncer) as link:
        assert link.pgconn.ssl_in_use


def test_descriptors_are_counted_only_once_every_worker_listens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker opens its last descriptor when it begins to listen. After a count from before, it would look leaked."""
    logs = iter(["", READY])
    others = 16

    class Starting(WebServer):
        @property
        @override
        def log(self) -> str:
            nonlocal others
            if log := next(logs, READY):
                others = 17
            return log

    monkeypatch.setattr(Service, "descriptors", lambda _: {1: Descriptors(database=2, clients=0, others=others)})
    unused: Any = None
    env = Service(
        result=Result(),
        web=Starting(tmp_path, {}),
        watch=unused,
        users=[],
        workers=1,
        pool_max=4,
        limit=4,
        database_ports=set(),
    )
    while not env.is_complete():
        pass
    assert env._count_leaked_descriptors() == 0


async def test_an_environment_is_whole_until_connections_are_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "SETTLE_TIMEOUT", SOON)
    monkeypatch.setattr(module, "IDLE_IN_TRANSACTION_MAX", SOON)
    result = Result()
    async with environment(Run(tmp_path), result, workers=1, pool_max=4, via="proxy") as env:
        http = Http(env.web.port)
        answer = await http.request("POST", f"/api/{env.users[0]}/tasks", {"title": "Plant a tree"})
        http.close()
        assert answer.status == 201
        await env.conclude()
        assert result.passes(quick=False), result

        # The watch must survive a restart.
        await asyncio.to_thread(env.postgres.stop)
        await asyncio.to_thread(env.postgres.start)
        conninfo = make_conninfo(env.conninfo, application_name=APPLICATION_NAME)
        left = [await psycopg.AsyncConnection.connect(conninfo) for _ in range(5)]
        await left[0].execute("SELECT 1")
        await until(lambda: env.watch.most > env.limit and env.watch.longest_idle_in_transaction > SOON)
        await env.conclude()
        assert result.leaked >= 1
        assert "('idle in transaction'," in result.violations[0]
        assert "4 are the limit" in result.violations[1]
        assert "a connection was idle in a transaction" in result.violations[2]
        await asyncio.gather(*(connection.close() for connection in left))
