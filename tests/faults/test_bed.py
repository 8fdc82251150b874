"""What mistreats the server in `tests.faults` does what it says: the proxy, PgBouncer, and the watch on connections."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from persistence import migrator
from persistence.postgres.database import APPLICATION_NAME
from persistence.postgres.dsn import Dsn
from tests.faults import connections, pgbouncer
from tests.faults.bed import bed
from tests.faults.certificates import Authority
from tests.faults.connections import Watch, settled
from tests.faults.http import Http
from tests.faults.matrix import Result, Skipped
from tests.faults.pgbouncer import PgBouncer
from tests.faults.proxy import Proxy
from tests.faults.relay import Direction
from tests.support.servers import PostgresServer, eventually

SOON = 0.2
"""Seconds in which what shall not come would have come; never asserted to be enough for what shall."""


class Echo:
    """A server that says what it hears, and remembers it."""

    def __init__(self) -> None:
        self.heard = bytearray()
        self.ends = 0
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                self.heard += data
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            self.ends += 1
            writer.close()


class Peer:
    """A client of the proxy."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    def say(self, data: bytes) -> None:
        self._writer.write(data)

    async def hear(self, seconds: float = 30.0) -> bytes:
        return await asyncio.wait_for(self._reader.read(65536), seconds)

    async def ask(self, data: bytes) -> bytes:
        self.say(data)
        return await self.hear()

    async def hears_nothing(self) -> bool:
        try:
            await self.hear(SOON)
        except TimeoutError:
            return True
        return False

    def close(self) -> None:
        self._writer.close()


type Connect = Callable[[], Awaitable[Peer]]


@pytest.fixture
async def echo() -> AsyncIterator[Echo]:
    echo = Echo()
    server = await asyncio.start_server(echo.serve, "127.0.0.1", 0)
    echo.port = server.sockets[0].getsockname()[1]
    yield echo
    server.close()
    await server.wait_closed()


@pytest.fixture
def proxy(echo: Echo) -> Iterator[Proxy]:
    with Proxy(echo.port) as proxy:
        yield proxy


@pytest.fixture
async def connect(proxy: Proxy) -> AsyncIterator[Connect]:
    peers = []

    async def connect() -> Peer:
        peers.append(Peer(*await asyncio.open_connection("127.0.0.1", proxy.port)))
        return peers[-1]

    yield connect
    for peer in peers:
        peer.close()


async def until(condition: Callable[[], bool]) -> None:
    await asyncio.to_thread(eventually, condition)


async def test_the_proxy_passes_everything_on_and_counts_connections(
    connect: Connect, proxy: Proxy, echo: Echo
) -> None:
    peer, other = await connect(), await connect()
    assert await peer.ask(b"one") == b"one"
    assert await other.ask(b"two") == b"two"
    assert proxy.open == proxy.accepted == 2

    peer.close()
    other.close()
    await until(lambda: proxy.open == 0)
    await until(lambda: echo.ends == 2)
    assert proxy.cut == 0


async def test_the_proxy_delays_each_direction_and_keeps_the_order(connect: Connect, proxy: Proxy) -> None:
    peer = await connect()
    await peer.ask(b"-")
    proxy.delay = 2 * SOON
    started = time.monotonic()
    peer.say(b"a")
    await asyncio.sleep(SOON)
    proxy.delay = SOON / 4
    peer.say(b"b")
    heard = b""
    while len(heard) < 2:
        heard += await peer.hear()

    assert heard == b"ab"
    assert time.monotonic() - started > SOON + 2 * SOON / 4 - 0.01


async def test_the_proxy_delays_new_connections_only(connect: Connect, proxy: Proxy) -> None:
    old = await connect()
    await old.ask(b"-")
    proxy.connect_delay = 0.3
    new = await connect()
    started = time.monotonic()
    new.say(b"new")
    assert await old.ask(b"old") == b"old"
    assert await new.hear() == b"new"
    assert time.monotonic() - started > 0.25


async def test_the_proxy_refuses_new_connections_only(connect: Connect, proxy: Proxy) -> None:
    old = await connect()
    await old.ask(b"-")
    proxy.refuse = True
    with pytest.raises(ConnectionResetError):
        await (await connect()).hear()
    assert await old.ask(b"old") == b"old"
    proxy.refuse = False
    new = await connect()
    assert await new.ask(b"new") == b"new"


async def test_a_stall_delivers_nothing_until_it_is_over_and_then_everything(
    connect: Connect, proxy: Proxy, echo: Echo
) -> None:
    old = await connect()
    await old.ask(b"-")
    proxy.stall()
    old.say(b"old")
    new = await connect()
    new.say(b"new")
    assert await old.hears_nothing()
    assert await new.hears_nothing()
    assert bytes(echo.heard) == b"-"
    proxy.resume()
    assert await old.hear() == b"old"
    assert await new.hear() == b"new"


async def test_a_stall_of_replies_lets_the_server_hear(connect: Connect, proxy: Proxy, echo: Echo) -> None:
    old = await connect()
    await old.ask(b"-")
    proxy.stall("replies")
    old.say(b"old")
    new = await connect()
    new.say(b"new")
    await until(lambda: len(echo.heard) == 7)
    assert await old.hears_nothing()
    assert await new.hears_nothing()
    proxy.resume()
    assert await old.hear() == b"old"
    assert await new.hear() == b"new"


async def test_a_stall_of_requests_lets_replies_through(connect: Connect, proxy: Proxy, echo: Echo) -> None:
    peer = await connect()
    proxy.delay = 0.3
    peer.say(b"before")
    await until(lambda: bytes(echo.heard) == b"before")
    proxy.stall("requests")
    peer.say(b"after")
    assert await peer.hear() == b"before"
    assert await peer.hears_nothing()
    assert bytes(echo.heard) == b"before"


async def test_a_stall_hides_that_a_client_has_closed(connect: Connect, proxy: Proxy, echo: Echo) -> None:
    peer = await connect()
    await peer.ask(b"-")
    proxy.stall()
    peer.close()
    given_up = await connect()
    given_up.say(b"never")
    given_up.close()
    await asyncio.sleep(SOON)
    assert echo.ends == 0
    proxy.resume()
    await until(lambda: echo.ends == 1)
    await until(lambda: proxy.open == 0)
    assert bytes(echo.heard) == b"-"


async def test_stalled_connects_are_not_even_accepted(connect: Connect, proxy: Proxy) -> None:
    old = await connect()
    await old.ask(b"-")
    proxy.stall_connects()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(connect(), SOON)
    assert await old.ask(b"old") == b"old"
    proxy.resume()
    new = await connect()
    assert await new.ask(b"new") == b"new"
    assert proxy.accepted <= 3


@pytest.mark.parametrize("direction", ["both", "replies"])
async def test_connections_can_be_cut_in_a_stall(connect: Connect, proxy: Proxy, direction: Direction) -> None:
    peer = await connect()
    await peer.ask(b"-")
    proxy.stall(direction)
    proxy.cut_all()
    with pytest.raises(ConnectionResetError):
        await peer.hear()
    assert proxy.cut == 1
    await until(lambda: proxy.open == 0)


async def test_all_connections_are_cut_in_either_way(connect: Connect, proxy: Proxy, echo: Echo) -> None:
    peer, other = await connect(), await connect()
    await peer.ask(b"-")
    await other.ask(b"-")
    proxy.cut_all()
    for each in (peer, other):
        with pytest.raises(ConnectionResetError):
            await each.hear()
    await until(lambda: echo.ends == 2)

    peer = await connect()
    await peer.ask(b"-")
    proxy.cut_all("fin")
    assert await peer.hear() == b""
    await until(lambda: echo.ends == 3)
    await until(lambda: proxy.open == 0)
    assert proxy.cut == 3


async def test_after_a_half_close_the_server_still_hears(connect: Connect, proxy: Proxy, echo: Echo) -> None:
    peer = await connect()
    await peer.ask(b"one")
    proxy.half_close()
    assert await peer.hear() == b""
    peer.say(b"two")
    await until(lambda: bytes(echo.heard) == b"onetwo")
    peer.close()
    await until(lambda: proxy.open == 0)


@pytest.mark.parametrize("parts", [[b"please STOP now"], [b"please ST", b"OP now"], [b"please S", b"TO", b"P now"]])
async def test_a_connection_is_cut_before_a_pattern_reaches_the_server(
    connect: Connect, proxy: Proxy, echo: Echo, parts: list[bytes]
) -> None:
    order = proxy.cut_when(b"STOP", before=True)
    peer = await connect()
    for part in parts[:-1]:
        assert await peer.ask(part) == part
    peer.say(parts[-1])
    with pytest.raises(ConnectionResetError):
        await peer.hear()
    await until(lambda: echo.ends == 1)
    assert bytes(echo.heard) == b"".join(parts[:-1])
    assert order.made == proxy.cut == 1


@pytest.mark.parametrize("parts", [[b"please STOP now"], [b"please ST", b"OP now"]])
async def test_a_connection_is_cut_after_a_pattern_has_reached_the_server(
    connect: Connect, proxy: Proxy, echo: Echo, parts: list[bytes]
) -> None:
    order = proxy.cut_when(b"STOP", before=False, then="fin")
    peer = await connect()
    for part in parts[:-1]:
        assert await peer.ask(part) == part
    peer.say(parts[-1])
    assert await peer.hear() == b""
    await until(lambda: bytes(echo.heard) == b"please STOP now")
    await until(lambda: echo.ends == 1)
    await until(lambda: proxy.open == 0)
    assert order.made == proxy.cut == 1


async def test_a_pattern_cuts_as_often_as_ordered_and_until_it_is_forgotten(connect: Connect, proxy: Proxy) -> None:
    order = proxy.cut_when(b"STOP", before=True, times=2, then="fin")
    forgotten = proxy.cut_when(b"HALT", before=True, then="fin")
    for _ in range(2):
        peer = await connect()
        assert await peer.ask(b"STOP") == b""
    proxy.forget(forgotten)
    peer = await connect()
    assert await peer.ask(b"STOP HALT") == b"STOP HALT"
    assert order.made == 2


@pytest.fixture(scope="module")
def server_by_tcp(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    with PostgresServer(tmp_path_factory.mktemp("bed") / "pg") as server:
        migrator.migrate(server.dsn)
        yield server


def test_a_statement_that_is_cut_off_just_after_it_was_sent_has_happened_all_the_same(
    server_by_tcp: PostgresServer,
) -> None:
    with Proxy(server_by_tcp.port) as proxy, psycopg.connect(server_by_tcp.dsn.conninfo, autocommit=True) as direct:
        conninfo = make_conninfo(server_by_tcp.dsn.conninfo, port=proxy.port)
        for before in (True, False):
            email = f"{uuid4()}@example.com"
            proxy.cut_when(email.encode(), before=before)
            with psycopg.connect(conninfo, autocommit=True) as link, pytest.raises(psycopg.OperationalError):
                link.execute("INSERT INTO users (id, email) VALUES (%s, %s)", [uuid4(), email])

            def exists(email: str = email) -> bool:
                return bool(direct.execute("SELECT 1 FROM users WHERE email = %s", [email]).fetchone())

            if before:
                assert not exists()
            else:
                eventually(exists)


@pytest.fixture
def bouncer(server_by_tcp: PostgresServer, tmp_path: Path) -> Iterator[PgBouncer]:
    if not pgbouncer.available():
        pytest.skip("PgBouncer is not installed")
    with PgBouncer(tmp_path / "pgbouncer", server_by_tcp.port, pool_size=1) as bouncer:
        yield bouncer


def conninfo_of(bouncer: PgBouncer) -> str:
    return Dsn.parse(bouncer.url).conninfo


def backend(link: psycopg.Connection) -> object:
    return link.execute("SELECT pg_backend_pid()").fetchone()


def test_pgbouncer_shares_one_connection_by_transaction(bouncer: PgBouncer) -> None:
    with (
        psycopg.connect(conninfo_of(bouncer), prepare_threshold=None) as one,
        psycopg.connect(conninfo_of(bouncer), prepare_threshold=None) as two,
        ThreadPoolExecutor(1) as threads,
    ):
        first = backend(one)
        second = threads.submit(backend, two)
        with pytest.raises(FutureTimeout):
            second.result(SOON)
        one.commit()
        assert second.result() == first


def test_pgbouncer_lets_clients_wait_while_it_is_paused(bouncer: PgBouncer) -> None:
    with (
        psycopg.connect(conninfo_of(bouncer), prepare_threshold=None, autocommit=True) as link,
        ThreadPoolExecutor(1) as threads,
    ):
        backend(link)
        bouncer.pause()
        waiting = threads.submit(backend, link)
        with pytest.raises(FutureTimeout):
            waiting.result(SOON)
        bouncer.resume()
        assert waiting.result()


def test_a_restart_of_pgbouncer_ends_all_connections_and_keeps_the_address(bouncer: PgBouncer) -> None:
    with psycopg.connect(conninfo_of(bouncer), autocommit=True) as link:
        bouncer.restart()
        with pytest.raises(psycopg.OperationalError):
            backend(link)
    with psycopg.connect(conninfo_of(bouncer), autocommit=True) as link:
        assert backend(link)


def test_pgbouncer_with_a_certificate_takes_no_client_without_tls(
    server_by_tcp: PostgresServer, tmp_path: Path
) -> None:
    if not pgbouncer.available():
        pytest.skip("PgBouncer is not installed")
    try:
        certificate = Authority(tmp_path, "authority").sign("pgbouncer", "localhost")
    except Skipped as reason:
        pytest.skip(str(reason))
    with PgBouncer(tmp_path / "pgbouncer", server_by_tcp.port, certificate=certificate) as bouncer:
        with pytest.raises(psycopg.OperationalError, match="SSL required"):
            psycopg.connect(conninfo_of(bouncer), sslmode="disable")
        with psycopg.connect(conninfo_of(bouncer)) as link:
            assert link.pgconn.ssl_in_use
            assert backend(link)
        bouncer.pause()
        bouncer.resume()


async def test_the_watch_sees_connections_and_how_long_they_idle_in_a_transaction(
    server_by_tcp: PostgresServer,
) -> None:
    conninfo = server_by_tcp.dsn.conninfo
    with Watch(conninfo) as watch:
        with (
            psycopg.connect(conninfo, application_name=APPLICATION_NAME) as one,
            psycopg.connect(conninfo, application_name=APPLICATION_NAME, autocommit=True),
        ):
            one.execute("SELECT 1")
            await until(lambda: watch.most == 2)
            await until(lambda: watch.longest_idle_in_transaction > SOON)
            assert watch.most_by_state["idle in transaction"] == watch.most_by_state["idle"] == 1
        assert await settled(conninfo, 0) == 0
        server_by_tcp.stop()
        server_by_tcp.start()
        watch.forget()
        with psycopg.connect(conninfo, application_name=APPLICATION_NAME):
            await until(lambda: watch.most == 1)


async def test_a_bed_is_settled_until_something_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "SETTLE_TIMEOUT", SOON)
    async with bed(tmp_path, workers=1, pool_max=4, via="proxy") as made:
        http = Http(made.web.port)
        answer = await http.request("POST", f"/api/{made.users[0]}/tasks", {"title": "Make the bed"})
        http.close()
        assert answer.status == 201
        clean = Result()
        await made.settle(clean)
        assert clean.is_whole, clean

        too_many = await asyncio.gather(*(_connect_as_the_server(made.conninfo) for _ in range(4)))
        await until(lambda: made.watch.most > made.limit)
        dirty = Result()
        await made.settle(dirty)
        assert dirty.leaked == made.watch.most - made.limit
        assert "4 are the limit" in dirty.violations[0]
        for connection in too_many:
            await connection.close()


async def _connect_as_the_server(conninfo: str) -> psycopg.AsyncConnection:
    return await psycopg.AsyncConnection.connect(conninfo, application_name=APPLICATION_NAME, autocommit=True)
