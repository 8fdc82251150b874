"""TLS in front of a PostgreSQL, because the one that the tests start was built without."""

import asyncio
import socket
import ssl
from asyncio import StreamReader, StreamReaderProtocol, StreamWriter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from tests.faults.certificates import Certificate

_ASK_FOR_TLS = b"\x00\x00\x00\x08\x04\xd2\x16\x2f"


class Front:
    """Speaks TLS with clients on `port` of 127.0.0.1, and passes on what they say."""

    def __init__(self, listener: socket.socket, target: int) -> None:
        self.port: int = listener.getsockname()[1]
        self._listener, self._target = listener, target
        self.certificate: Certificate | None = None
        """What new connections are shown; with none they hear that there is no TLS here."""

    async def serve(self) -> None:
        async with asyncio.TaskGroup() as links:
            while True:
                link, _ = await asyncio.get_running_loop().sock_accept(self._listener)
                links.create_task(self._link(link))

    async def _link(self, link: socket.socket) -> None:
        loop, certificate = asyncio.get_running_loop(), self.certificate
        with link, suppress(OSError):
            first = await loop.sock_recv(link, len(_ASK_FOR_TLS))
            if first == _ASK_FOR_TLS:
                await loop.sock_sendall(link, b"S" if certificate else b"N")
                first = b""
            protocol = StreamReaderProtocol(reader := StreamReader())
            # Streams that only later learn of TLS complain about clients that break off.
            transport, _ = await loop.connect_accepted_socket(
                lambda: protocol, link, ssl=_context(certificate) if certificate and not first else None
            )
            writer = StreamWriter(transport, protocol, reader, loop)
            server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self._target)
            server_writer.write(first)
            await asyncio.gather(_pass_on(reader, server_writer), _pass_on(server_reader, writer))


def _context(certificate: Certificate) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.file, certificate.key)
    return context


async def _pass_on(reader: StreamReader, writer: StreamWriter) -> None:
    """Until one side ends, which the other is then told."""
    try:
        with suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
    finally:
        writer.close()


@asynccontextmanager
async def front(target: int) -> AsyncIterator[Front]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        serving = asyncio.create_task((made := Front(listener, target)).serve())
        try:
            yield made
        finally:
            serving.cancel()
            with suppress(asyncio.CancelledError):
                await serving
