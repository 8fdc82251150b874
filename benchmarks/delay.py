"""A proxy that delays and counts the round trips to the database; it runs in a process of its own.

`python -m benchmarks.delay PORT` prints a port of 127.0.0.1 and forwards its connections to PORT. It reads commands
from standard input, a line each: `delay MILLISECONDS` sets what is added to every round trip. The answer to every
command is the number of round trips so far.
"""

import asyncio
import selectors
import subprocess
import sys
from collections import deque
from types import TracebackType
from typing import Self, override

from benchmarks.processes import ROOT


class Proxy:
    """Starts the process and talks to it."""

    def __init__(self, target: int) -> None:
        self._command = [sys.executable, "-m", "benchmarks.delay", str(target)]

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(  # noqa: S603 - our own command
            self._command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.port = self._read()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate()

    def delay(self, milliseconds: float) -> None:
        self._send(f"delay {milliseconds}")

    @property
    def round_trips(self) -> int:
        """The number of answers of the server since the start, each of which a client has waited for."""
        return self._send("round_trips")

    def _send(self, line: str) -> int:
        assert self._process.stdin
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()
        return self._read()

    def _read(self) -> int:
        assert self._process.stdout
        return int(self._process.stdout.readline())


class _Relay:
    """The state that all connections share. Each direction takes `seconds` longer."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.seconds = 0.0
        self.round_trips = 0

    def read_command(self) -> None:
        words = sys.stdin.readline().split()
        if not words:
            asyncio.get_running_loop().stop()
            return
        if words[0] == "delay":
            self.seconds = float(words[1]) / 2000
        print(self.round_trips, flush=True)  # noqa: T201 - this is the answer


class _Endpoint(asyncio.Protocol):
    """One end of a connection. The other end sends the bytes that arrive here, later and in the same order."""

    transport: asyncio.Transport

    def __init__(self, relay: _Relay, client: "_Endpoint | None" = None) -> None:
        self._relay = relay
        self._client = client
        self._other = client
        self._in_transit: deque[bytes] = deque()
        self.has_sent = False

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        if self._client is None:
            self._connecting = asyncio.ensure_future(self._connect())

    async def _connect(self) -> None:
        _, self._other = await asyncio.get_running_loop().create_connection(
            lambda: _Endpoint(self._relay, client=self), "127.0.0.1", self._relay.target
        )
        while self._in_transit:
            self._forward()

    @override
    def data_received(self, data: bytes) -> None:
        if self._client is None:
            self.has_sent = True
        else:
            self._relay.round_trips += self._client.has_sent
            self._client.has_sent = False
        self._in_transit.append(data)
        if self._other is None:
            return
        if self._relay.seconds:
            asyncio.get_running_loop().call_later(self._relay.seconds, self._forward)
        else:
            self._forward()

    def _forward(self) -> None:
        assert self._other
        if self._in_transit:
            self._other.transport.write(self._in_transit.popleft())

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        if self._other is not None:
            asyncio.get_running_loop().call_later(self._relay.seconds, self._other.transport.close)


async def _listen(relay: _Relay) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Endpoint(relay), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)  # noqa: T201 - this is the answer
    loop.add_reader(sys.stdin, relay.read_command)


if __name__ == "__main__":
    # epoll waits for whole milliseconds; select() can wait for less.
    main_loop = asyncio.SelectorEventLoop(selectors.SelectSelector())
    main_loop.create_task(_listen(_Relay(int(sys.argv[1]))))
    main_loop.run_forever()
