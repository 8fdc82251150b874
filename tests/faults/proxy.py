"""A TCP proxy between the web server and its database, which stalls and cuts connections by order.

It runs in a thread with an event loop of its own, so that the test's own event loop cannot slow it down. Every control
may be used from any thread, and has taken effect when it returns.
"""

import asyncio
import socket
import ssl
import struct
import threading
from asyncio import Event, StreamReader, StreamWriter
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Literal, Self

from tests.faults.certificates import Certificate

type Direction = Literal["requests", "replies"]

BACKLOG = 1024
CHUNK = 65536
LONGEST_PATTERN = 1000
ASK_FOR_TLS = b"\x00\x00\x00\x08\x04\xd2\x16\x2f"
RESET = struct.pack("ii", 1, 0)
"""The value of SO_LINGER with which closing a socket resets its connection."""


@dataclass(eq=False)
class Cut:
    """An order to cut the first connection on which a client sends the pattern."""

    pattern: bytes
    before: bool
    is_done: bool = False


@dataclass(eq=False)
class Link:
    """A client's connection and, as soon as it is made, the one to the server."""

    task: asyncio.Task[None]
    ends: list[StreamWriter] = field(default_factory=list)

    def reset(self) -> None:
        for end in self.ends:
            _reset(end)
        self.task.cancel()


class Proxy:
    """Listens on `port` of 127.0.0.1, and passes everything on to the port `target` there."""

    def __init__(self, target: int, certificate: Certificate | None = None) -> None:
        self.target = target
        self.certificate = certificate
        """The certificate for new connections, which then use TLS. Without one the target decides about TLS."""
        self.accepted = 0
        self._links: set[Link] = set()
        self._cuts: list[Cut] = []
        self._fillers: dict[tuple[str, int], socket.socket] = {}
        """Connections of the proxy's own, by their addresses, that wait so that no other can be made."""
        self._accepting: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.SelectorEventLoop()
        self._flows: dict[Direction, Event] = {"requests": Event(), "replies": Event()}
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._listener = socket.socket()
        self._listener.setblocking(False)
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen(BACKLOG)
        self.port: int = self._listener.getsockname()[1]

    def __enter__(self) -> Self:
        self._thread.start()
        self.resume()
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @property
    def open(self) -> int:
        """The number of connections of which one end is still open."""
        return len(self._links)

    def stall(self, *directions: Direction) -> None:
        """Takes what is sent in these directions, or in both, and delivers nothing, not even the end of a connection.

        A new connection is accepted and, unless only the replies are stalled, goes no further.
        """
        self._do(lambda: [self._flows[direction].clear() for direction in directions or self._flows])

    def stall_connects(self) -> None:
        """Leaves new connections unanswered, as a host that is down does. Open connections go on."""
        self._do(self._stop_accepting)

    def resume(self) -> None:
        """Ends every stall. The stalled data arrives, except from new connections whose clients have left."""
        self._do(self._resume)

    def cut_all(self) -> None:
        """Resets every connection at both ends."""
        self._do(lambda: [link.reset() for link in self._links])

    def cut_when(self, pattern: bytes, *, before: bool) -> Cut:
        """Resets the first connection on which a client sends the pattern.

        With `before` the server gets neither the end of the pattern nor the data that came with it. Otherwise it gets
        all that data and the time to answer, and the client gets nothing of the answer.
        """
        order = Cut(pattern, before)
        self._do(lambda: self._cuts.append(order))
        return order

    def _do(self, action: Callable[[], object]) -> None:
        async def run() -> None:
            action()

        asyncio.run_coroutine_threadsafe(run(), self._loop).result()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _resume(self) -> None:
        for flow in self._flows.values():
            flow.set()
        if self._accepting is None:
            self._listener.listen(BACKLOG)
            self._accepting = self._spawn(self._accept())

    def _stop_accepting(self) -> None:
        assert self._accepting
        self._accepting.cancel()
        self._accepting = None
        # The kernel ignores further clients while the queue is full, and with a backlog of 0 one client fills it.
        self._listener.listen(0)
        for _ in range(2):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", self.port))
            self._fillers[filler.getsockname()] = filler

    async def _accept(self) -> None:
        while True:
            connection, address = await self._loop.sock_accept(self._listener)
            if address in self._fillers:
                self._fillers.pop(address).close()
                connection.close()
            else:
                self.accepted += 1
                self._spawn(self._relay(connection))

    async def _relay(self, connection: socket.socket) -> None:
        task = asyncio.current_task()
        assert task
        self._links.add(link := Link(task))
        try:
            with suppress(OSError):
                reader, client = await self._open(connection)
                link.ends.append(client)
                # In PostgreSQL's protocol the client speaks first.
                data = await self._read(reader, "requests")
                if reader.at_eof():
                    return
                server_reader, server = await asyncio.open_connection("127.0.0.1", self.target)
                link.ends.append(server)
                async with asyncio.TaskGroup() as both:
                    both.create_task(self._pass_requests(link, data, reader))
                    both.create_task(self._pass_replies(link, server_reader))
        finally:
            for end in link.ends:
                _reset(end)
            self._links.discard(link)

    async def _open(self, connection: socket.socket) -> tuple[StreamReader, StreamWriter]:
        context = None
        try:
            if self.certificate:
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                context.load_cert_chain(self.certificate.file, self.certificate.key)
                if await self._loop.sock_recv(connection, len(ASK_FOR_TLS)) != ASK_FOR_TLS:
                    raise ConnectionError("the client does not ask for TLS")
                await self._loop.sock_sendall(connection, b"S")
            protocol = asyncio.StreamReaderProtocol(reader := StreamReader())
            transport, _ = await self._loop.connect_accepted_socket(lambda: protocol, connection, ssl=context)
        except BaseException:
            connection.close()
            raise
        return reader, StreamWriter(transport, protocol, reader, self._loop)

    async def _read(self, reader: StreamReader, direction: Direction) -> bytes:
        """The next data, empty at the end of the connection, and not before the direction flows."""
        data = b""
        with suppress(OSError):
            data = await reader.read(CHUNK)
        await self._flows[direction].wait()
        return data

    async def _pass_requests(self, link: Link, data: bytes, reader: StreamReader) -> None:
        client, server = link.ends
        seen = b""
        while data:
            seen = seen[-LONGEST_PATTERN:] + data
            order = next((order for order in self._cuts if order.pattern in seen), None)
            if order:
                self._cuts.remove(order)
                order.is_done = True
                if order.before:
                    link.reset()
                    return
            server.write(data)
            if order:
                _reset(client)
                return
            data = await self._read(reader, "requests")
        server.close()

    async def _pass_replies(self, link: Link, reader: StreamReader) -> None:
        client, server = link.ends
        # After a cut there is no client for the answer.
        while (data := await self._read(reader, "replies")) and not client.is_closing():
            client.write(data)
        server.close()
        client.close()

    async def _stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for filler in self._fillers.values():
            filler.close()
        # Aborted connections are closed one iteration of the loop later.
        await asyncio.sleep(0)
        self._listener.close()


def _reset(end: StreamWriter) -> None:
    if not end.is_closing():
        end.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        end.transport.abort()
