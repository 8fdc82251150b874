"""A relay between the application and PostgreSQL that counts the messages of the protocol, and can cut connections."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from persistence.postgres.dsn import Dsn


@dataclass
class Wire:
    """The messages since the last `reset`, by the types that the protocol gives them."""

    sent: list[tuple[str, bytes]] = field(default_factory=list)
    received: list[str] = field(default_factory=list)
    turns: int = 0
    """Changes from messages of the client to messages of the server: each is the wait of a round trip."""
    _talking: str = ""
    _clients: set[asyncio.StreamWriter] = field(default_factory=set)

    def reset(self) -> None:
        self.sent.clear()
        self.received.clear()
        self.turns = 0
        self._talking = ""

    def cut(self) -> None:
        """Cuts every connection."""
        for client in self._clients:
            client.transport.abort()

    @property
    def round_trips(self) -> int:
        """ReadyForQuery ends the answer to each Query or Sync; a turn without one would be a round trip as well."""
        asked = sum(kind in "QS" for kind, _ in self.sent)
        answered = self.received.count("Z")
        assert asked == answered
        return max(self.turns, answered)

    @property
    def statements(self) -> list[str]:
        """The texts of every Query and Parse."""
        bodies = [body if kind == "Q" else body.split(b"\0")[1] for kind, body in self.sent if kind in "QP"]
        return [body.rstrip(b"\0").decode() for body in bodies]

    @property
    def prepares(self) -> bool:
        """True if a Parse gave its statement a name."""
        return any(kind == "P" and not body.startswith(b"\0") for kind, body in self.sent)

    async def _relay_client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # The first message has no type.
        head = await reader.readexactly(4)
        writer.write(head + await reader.readexactly(int.from_bytes(head) - 4))
        while True:
            head, body = await _message(reader)
            self.sent.append((head[:1].decode(), body))
            self._talking = "client"
            writer.write(head + body)

    async def _relay_server(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head, body = await _message(reader)
            self.received.append(head[:1].decode())
            self.turns += self._talking == "client"
            self._talking = "server"
            writer.write(head + body)

    @asynccontextmanager
    async def relay(self, dsn: Dsn) -> AsyncIterator[Dsn]:
        """The address, on a port of 127.0.0.1, from which everything is passed on to the database and back."""

        async def serve(client_reader: asyncio.StreamReader, client_writer: asyncio.StreamWriter) -> None:
            port = dsn.parameters.get("port", "5432")
            if dsn.is_socket:
                reader, writer = await asyncio.open_unix_connection(f"{dsn.host}/.s.PGSQL.{port}")
            else:
                reader, writer = await asyncio.open_connection(dsn.host, int(port))
            self._clients.add(client_writer)
            relays = [
                asyncio.ensure_future(self._relay_client(client_reader, writer)),
                asyncio.ensure_future(self._relay_server(reader, client_writer)),
            ]
            await asyncio.wait(relays, return_when=asyncio.FIRST_COMPLETED)
            for each in relays:
                each.cancel()
            outcomes = await asyncio.gather(*relays, return_exceptions=True)
            self._clients.discard(client_writer)
            for end in (writer, client_writer):
                end.close()
            ends = (asyncio.IncompleteReadError, asyncio.CancelledError, ConnectionError)
            assert all(isinstance(outcome, ends) for outcome in outcomes), outcomes

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        async with server:
            host, port, *_ = server.sockets[0].getsockname()
            readable = {"sslmode": "disable", "gssencmode": "disable"}
            yield Dsn(dsn.parameters | {"host": host, "port": str(port)} | readable)


async def _message(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    head = await reader.readexactly(5)
    return head, await reader.readexactly(int.from_bytes(head[1:]) - 4)
