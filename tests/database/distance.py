"""A database that is some way away: all that is said on a connection arrives later, and so does its opening."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from persistence.postgres.dsn import Dsn


@asynccontextmanager
async def at_a_distance(dsn: Dsn, seconds: float) -> AsyncIterator[Dsn]:
    """The address, on a port of 127.0.0.1, of the same database `seconds` away in each direction."""
    tasks, ends = set[asyncio.Task[None]](), set[asyncio.StreamWriter]()

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        with suppress(ConnectionError):
            while data := await reader.read(65536):
                loop.call_later(seconds, writer.write, data)
        loop.call_later(seconds, writer.close)

    async def serve(client_reader: asyncio.StreamReader, client_writer: asyncio.StreamWriter) -> None:
        # TCP makes a round trip before it carries anything: a client that leaves meanwhile has sent nothing.
        await asyncio.sleep(2 * seconds)
        first = await client_reader.read(65536)
        if client_reader.at_eof():
            client_writer.close()
            return
        port = dsn.parameters.get("port", "5432")
        if dsn.is_socket:
            reader, writer = await asyncio.open_unix_connection(f"{dsn.host}/.s.PGSQL.{port}")
        else:
            reader, writer = await asyncio.open_connection(dsn.host, int(port))
        ends.update((client_writer, writer))
        asyncio.get_running_loop().call_later(seconds, writer.write, first)
        for work in (carry(client_reader, writer), carry(reader, client_writer)):
            task = asyncio.ensure_future(work)
            tasks.add(task)
            task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    host, port, *_ = server.sockets[0].getsockname()
    try:
        yield Dsn(dsn.parameters | {"host": host, "port": str(port), "sslmode": "disable", "gssencmode": "disable"})
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        for end in ends:
            end.transport.abort()
