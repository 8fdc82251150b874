"""A TCP proxy between the web server and its database, which delays, stalls, cuts and falsifies by order.

It runs in a thread with an event loop of its own, so that the test's own event loop cannot slow it down. Every control
may be used from any thread, and has taken effect when it returns.
"""

import asyncio
import socket
import ssl
import threading
from asyncio import Event, StreamReader, StreamWriter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, Self, cast

from tests.faults.certificates import Certificate
from tests.support.sockets import reset_when_closed

type Direction = Literal["requests", "replies"]

BACKLOG = 1024
CHUNK = 65536
LONGEST_PATTERN = 1000
ASK_FOR_TLS = b"\x00\x00\x00\x08\x04\xd2\x16\x2f"
"""The first message of a PostgreSQL client that wants TLS."""
SYNC = b"S\0\0\0\x04"
"""A client's last message of a statement, or of several that are one transaction."""
READY = b"Z\0\0\0\x05I"
"""The server's last message of an answer, outside a transaction."""


@dataclass(eq=False)
class Cut:
    """An order to cut the first connection on which a client sends the pattern, or to falsify the answer to it."""

    pattern: bytes
    before: bool
    end: bytes = b""
    """The end of what the server gets before the connection is cut."""
    instead: bytes = b""
    """The message that the client gets instead of the answer, on a connection that goes on."""
    is_done: bool = False
    is_answered: bool = False
    """True once the server has answered all the same."""


@dataclass(eq=False)
class Link:
    """A client's connection and, as soon as it is made, the one to the server."""

    connection: socket.socket
    ends: list[StreamWriter] = field(default_factory=list)
    task: asyncio.Task[None] | None = None
    cut: Cut | None = None
    """The order by which the client was cut off."""


def _control[Method: Callable[..., Any]](method: Method) -> Method:
    """Makes a method run in the event loop of the proxy."""

    def call(self: "Proxy", *values: Any, **named: Any) -> Any:
        async def run() -> Any:
            return method(self, *values, **named)

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result()

    return cast("Method", call)


class Proxy:
    """Listens on `port` of 127.0.0.1, and passes everything on to the port `target` there."""

    def __init__(self, target: int, certificate: Certificate | None = None) -> None:
        self.target = target
        self.certificate = certificate
        """The certificate for new connections, which then use TLS. Without one the target decides about TLS."""
        self.accepted = 0
        self.distance = 0.0
        """Seconds that data takes from one end to the other."""
        self.links: set[Link] = set()
        """The connections of which one end is still open."""
        self._cuts: list[Cut] = []
        self._fillers: dict[tuple[str, int], socket.socket] = {}
        """Connections of the proxy's own, by their addresses, that wait so that no other can be made."""
        self._accepting: asyncio.Task[None] | None = None
        self._loop = asyncio.SelectorEventLoop()
        self._flows: dict[Direction, Event] = {"requests": Event(), "replies": Event()}
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=BACKLOG)
        self._listener.setblocking(False)
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

    @_control
    def stall(self, *directions: Direction) -> None:
        """Takes what is sent in these directions, or in both, and delivers nothing, not even the end of a connection.

        A new connection is accepted and, unless only the replies are stalled, goes no further.
        """
        for direction in directions or self._flows:
            self._flows[direction].clear()

    @_control
    def stall_connects(self) -> None:
        """Leaves new connections unanswered, as a host that is down does. Open connections go on."""
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

    @_control
    def resume(self) -> None:
        """Ends every stall. The stalled data arrives, except from new connections whose clients have left."""
        for flow in self._flows.values():
            flow.set()
        if self._accepting is None:
            self._listener.listen(BACKLOG)
            self._accepting = self._loop.create_task(self._accept())

    @_control
    def cut_all(self) -> None:
        """Resets every connection at both ends."""
        for link in list(self.links):
            self._reset(link)

    @_control
    def cut_when(self, pattern: bytes, *, before: bool, end: bytes = b"") -> Cut:
        """Resets the first connection on which a client sends the pattern.

        With `before` the server gets neither the end of the pattern nor the data that came with it. Otherwise it gets
        all that data and more until some ends with `end`, and the time to answer, and the client gets nothing of the
        answer.
        """
        self._cuts.append(order := Cut(pattern, before, end))
        return order

    @_control
    def falsify(self, pattern: bytes, sqlstate: str) -> Cut:
        """Answers with an error in place of what the server answers to the first client that sends the pattern.

        The connection goes on, as it does behind a pooler or a coordinator that has lost a connection of its own.
        """
        fields = b"SERROR\0VERROR\0C" + sqlstate.encode() + b"\0Mserver closed the connection unexpectedly\0\0"
        self._cuts.append(order := Cut(pattern, before=False, instead=b"E" + _length(fields) + fields + READY))
        return order

    async def _accept(self) -> None:
        while True:
            connection, address = await self._loop.sock_accept(self._listener)
            if address in self._fillers:
                self._fillers.pop(address).close()
                connection.close()
                continue
            self.accepted += 1
            self.links.add(link := Link(connection))
            link.task = self._loop.create_task(self._relay(link))
            link.task.add_done_callback(partial(self._reset, link))

    async def _relay(self, link: Link) -> None:
        with suppress(OSError):
            reader = await self._open(link)
            # TCP makes a round trip of its own before it carries anything.
            await asyncio.sleep(2 * self.distance)
            # In PostgreSQL's protocol the client speaks first.
            data = await self._read(reader, "requests")
            if reader.at_eof():
                return
            server_reader, server = await asyncio.open_connection("127.0.0.1", self.target)
            link.ends.append(server)
            async with asyncio.TaskGroup() as both:
                both.create_task(self._pass_requests(link, data, reader))
                both.create_task(self._pass_replies(link, server_reader))

    async def _open(self, link: Link) -> StreamReader:
        context = None
        if self.certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(self.certificate.file, self.certificate.key)
            # A client that does not ask for TLS fails the handshake.
            await self._loop.sock_recv(link.connection, len(ASK_FOR_TLS))
            await self._loop.sock_sendall(link.connection, b"S")
        protocol = asyncio.StreamReaderProtocol(reader := StreamReader())
        transport, _ = await self._loop.connect_accepted_socket(lambda: protocol, link.connection, ssl=context)
        link.ends.append(StreamWriter(transport, protocol, reader, self._loop))
        return reader

    async def _read(self, reader: StreamReader, direction: Direction) -> bytes:
        """The next data, empty at the end of the connection, and not before the direction flows."""
        data = b""
        with suppress(OSError):
            data = await reader.read(CHUNK)
        await asyncio.sleep(self.distance)
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
                    self._reset(link)
                    return
            server.write(data)
            if order:
                link.cut = order
            if link.cut and not link.cut.instead and data.endswith(link.cut.end):
                _abort(client)
                return
            data = await self._read(reader, "requests")
        server.close()

    async def _pass_replies(self, link: Link, reader: StreamReader) -> None:
        client, server = link.ends
        # After a cut there is no client for the answer.
        while (data := await self._read(reader, "replies")) and not client.is_closing():
            if link.cut and link.cut.instead:
                # The answer is over when the server is ready for the next statement.
                data, link.cut.is_answered = b"", data.endswith(READY)
                if link.cut.is_answered:
                    data, link.cut = link.cut.instead, None
            client.write(data)
        if link.cut and data:
            link.cut.is_answered = True
        server.close()
        client.close()

    def _reset(self, link: Link, _: object = None) -> None:
        """Resets the ends that are still open."""
        assert link.task
        link.task.cancel()
        for end in link.ends:
            _abort(end)
        if not link.ends:
            link.connection.close()
        self.links.discard(link)

    async def _stop(self) -> None:
        tasks = [link.task for link in self.links] + [self._accepting]
        for task in filter(None, tasks):
            task.cancel()
            await asyncio.wait([task])
        for filler in self._fillers.values():
            filler.close()
        # Aborted connections are closed one iteration of the loop later.
        await asyncio.sleep(0)
        self._listener.close()


def _abort(end: StreamWriter) -> None:
    if not end.is_closing():
        reset_when_closed(end.get_extra_info("socket"))
        end.transport.abort()


def _length(fields: bytes) -> bytes:
    return (len(fields) + 4).to_bytes(4)
