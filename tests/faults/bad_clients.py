"""Clients that misbehave: silent, slow, gone in the middle of a request, or with a body that never ends."""

import asyncio
import random
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from time import monotonic

from tests.support.sockets import reset_when_closed

CHUNK = b"8000\r\n" + b" " * 0x8000 + b"\r\n"
FLOOD_TIMEOUT = 30.0


def post(path: str, body: bytes, framing: bytes = b"") -> bytes:
    framing = framing or b"Content-Length: %d" % len(body)
    head = b"POST %s HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\n%s\r\n\r\n"
    return head % (path.encode(), framing) + body


@dataclass
class Slow:
    """The fate of slow clients: how long each was connected, and which statuses they got."""

    seconds: list[float] = field(default_factory=list)
    statuses: set[bytes] = field(default_factory=set)
    open: int = 0


async def stay(port: int, begin: bytes, drop: bytes, slow: Slow) -> None:
    """Sends the beginning of a request, then `drop` about every second, until the server closes the connection."""
    with suppress(ConnectionError):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        started = monotonic()
        slow.open += 1
        writer.write(begin)
        ended = asyncio.ensure_future(reader.read())
        while drop and not ended.done():
            await asyncio.wait([ended], timeout=random.uniform(0.5, 1.5))
            writer.write(drop)
        received = await ended
        if received:
            slow.statuses.add(received[9:12])
        slow.seconds.append(monotonic() - started)
        await _abort(writer)
    slow.open -= 1


async def vanish(port: int, data: bytes) -> None:
    """Sends a part of the data, and closes or resets the connection before, during or after the response."""
    with suppress(OSError):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        end = random.choice((0, random.randrange(len(data)), len(data), len(data)))
        writer.write(data[:end])
        with suppress(TimeoutError):
            async with asyncio.timeout(random.choice((0, 0.002, 0.02, 0.2))):
                await reader.read(random.choice((1, 65536)))
        if random.random() < 0.5:
            reset_when_closed(writer.get_extra_info("socket"))
            writer.transport.abort()
        writer.close()
        await writer.wait_closed()


async def insist(port: int, requests: Sequence[bytes]) -> None:
    """Sends requests in random order, each on a connection of its own, until it is cancelled."""
    while True:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            # The server may refuse it early, and not take all of it.
            with suppress(ConnectionError):
                writer.write(random.choice(requests))
                await reader.read()
        finally:
            await _abort(writer)


async def flood(port: int, path: str, *, goes_on: bool) -> tuple[bytes, bool]:
    """Sends chunks without end, or until a response comes. Returns the response, and True if the server closed."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    answer = asyncio.ensure_future(reader.read(65536))
    with suppress(ConnectionError, TimeoutError):
        writer.write(post(path, b"", b"Transfer-Encoding: chunked"))
        async with asyncio.timeout(FLOOD_TIMEOUT):
            while not writer.is_closing() and (goes_on or not answer.done()):
                writer.write(CHUNK)
                await writer.drain()
                await asyncio.sleep(0)
    is_cut = writer.is_closing()
    received = b""
    with suppress(ConnectionError):
        received = await answer
    await _abort(writer)
    return received, is_cut


async def _abort(writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()
    with suppress(OSError):
        await writer.wait_closed()
