"""The proxy stalls and cuts connections as ordered."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from tests.faults.proxy import Direction, Proxy
from tests.faults.waiting import until

SOON = 0.2
"""Seconds in which data that must not arrive would have arrived; no test relies on data to arrive within them."""


class Echo:
    """A server that sends back the data that it receives, and remembers it."""

    def __init__(self) -> None:
        self.heard = bytearray()
        self.writers: list[asyncio.StreamWriter] = []
        self.ends = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.append(writer)
        try:
            while data := await reader.read(65536):
                self.heard += data
                writer.write(data)
        except ConnectionError:
            pass
        finally:
            self.ends += 1
            writer.close()


class Peer:
    """A client of the proxy."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self.say, self.close = writer.write, writer.close

    async def hear(self, seconds: float = 30.0) -> bytes | None:
        """The next data, or None when the connection was reset. Raises `TimeoutError`."""
        try:
            return await asyncio.wait_for(self._reader.read(65536), seconds)
        except ConnectionResetError:
            return None

    async def ask(self, data: bytes) -> bytes | None:
        self.say(data)
        return await self.hear()


type Connect = Callable[[], Awaitable[Peer]]


@pytest.fixture
def echo() -> Echo:
    return Echo()


@pytest.fixture
async def proxy(echo: Echo) -> AsyncIterator[Proxy]:
    async with await asyncio.start_server(echo.serve, "127.0.0.1", 0) as server:
        with Proxy(server.sockets[0].getsockname()[1]) as proxy:
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


async def test_the_proxy_passes_everything_on_and_counts_connections(
    connect: Connect, proxy: Proxy, echo: Echo
) -> None:
    peers = [await connect(), await connect()]
    assert [await peer.ask(data) for peer, data in zip(peers, (b"one", b"two"), strict=True)] == [b"one", b"two"]
    assert len(proxy.links) == proxy.accepted == 2

    for peer in peers:
        peer.close()
    await until(lambda: not proxy.links and echo.ends == 2)


@pytest.mark.parametrize("directions", [(), ("requests",), ("replies",)])
async def test_a_stall_delivers_nothing_until_it_is_over_and_then_everything(
    connect: Connect, proxy: Proxy, echo: Echo, directions: tuple[Direction, ...]
) -> None:
    old = await connect()
    await old.ask(b"-")
    proxy.stall(*directions)
    old.say(b"old")
    new = await connect()
    new.say(b"new")
    with pytest.raises(TimeoutError):
        await new.hear(SOON)
    if directions == ("requests",):
        echo.writers[0].write(b"reply")
        assert await old.hear() == b"reply"
    with pytest.raises(TimeoutError):
        await old.hear(SOON)
    await until(lambda: len(echo.heard) == (7 if directions == ("replies",) else 1))
    proxy.resume()
    assert [await old.hear(), await new.hear()] == [b"old", b"new"]


async def test_a_stall_hides_that_a_client_has_closed(connect: Connect, proxy: Proxy, echo: Echo) -> None:
    old = await connect()
    await old.ask(b"-")
    proxy.stall()
    new = await connect()
    new.say(b"never")
    for peer in (old, new):
        peer.close()
    await asyncio.sleep(SOON)
    assert echo.ends == 0
    proxy.resume()
    await until(lambda: not proxy.links and echo.ends == 1)
    assert bytes(echo.heard) == b"-"


async def test_stalled_connects_are_not_accepted(connect: Connect, proxy: Proxy) -> None:
    old = await connect()
    await old.ask(b"-")
    proxy.stall_connects()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(connect(), SOON)
    assert await old.ask(b"old") == b"old"
    proxy.resume()
    assert await (await connect()).ask(b"new") == b"new"
    assert proxy.accepted <= 3


@pytest.mark.parametrize("directions", [None, (), ("replies",)])
async def test_all_connections_are_cut_in_a_stall_as_well(
    connect: Connect, proxy: Proxy, echo: Echo, directions: tuple[Direction, ...] | None
) -> None:
    peers = [await connect(), await connect()]
    for peer in peers:
        await peer.ask(b"-")
    if directions is not None:
        proxy.stall(*directions)
    proxy.cut_all()
    assert [await peer.hear() for peer in peers] == [None, None]
    await until(lambda: not proxy.links and echo.ends == 2)


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("parts", [[b"please STOP now"], [b"please ST", b"OP now"], [b"please S", b"TO", b"P now"]])
async def test_a_connection_is_cut_before_or_after_a_pattern_has_reached_the_server(
    connect: Connect, proxy: Proxy, echo: Echo, parts: list[bytes], before: bool
) -> None:
    order = proxy.cut_when(b"STOP", before=before)
    peer = await connect()
    for part in parts[:-1]:
        assert await peer.ask(part) == part
    assert await peer.ask(parts[-1]) is None
    await until(lambda: not proxy.links and echo.ends == 1)
    assert bytes(echo.heard) == b"".join(parts[:-1] if before else parts)
    assert (order.is_done, order.is_answered) == (True, not before)
    assert await (await connect()).ask(b"STOP") == b"STOP"


async def test_a_connection_is_cut_only_when_the_end_of_the_request_has_reached_the_server(
    connect: Connect, proxy: Proxy, echo: Echo
) -> None:
    proxy.cut_when(b"STOP", before=False, end=b"END")
    peer = await connect()
    assert await peer.ask(b"STOP, ") == b"STOP, "
    assert await peer.ask(b"then END") is None
    await until(lambda: not proxy.links and echo.ends == 1)
    assert bytes(echo.heard) == b"STOP, then END"
