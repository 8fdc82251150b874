"""A proxy that makes the database far away and counts round trips; it runs in a process of its own.

`python -m benchmarks.delay PORT` passes connections on to this port of 127.0.0.1, from one that it prints. A line on
its standard input asks for something and gets a number back: `delay MILLISECONDS` makes every round trip take so much
longer, and `turns` tells how many there have been.
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
    """The process, for whoever needs one."""

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
        self._ask(f"delay {milliseconds}")

    @property
    def turns(self) -> int:
        """How often the server has answered since the start: each time somebody has waited for a round trip."""
        return self._ask("turns")

    def _ask(self, line: str) -> int:
        assert self._process.stdin
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()
        return self._read()

    def _read(self) -> int:
        assert self._process.stdout
        return int(self._process.stdout.readline())


class _Relay:
    """What all connections share. Each direction takes `seconds` longer."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.seconds = 0.0
        self.turns = 0

    def obey(self) -> None:
        words = sys.stdin.readline().split()
        if not words:
            asyncio.get_running_loop().stop()
            return
        if words[0] == "delay":
            self.seconds = float(words[1]) / 2000
        print(self.turns, flush=True)  # noqa: T201 - how the processes talk


class _End(asyncio.Protocol):
    """One end of a connection: what comes in here goes out at the other one, later and in the same order."""

    transport: asyncio.Transport

    def __init__(self, relay: _Relay, client: "_End | None" = None) -> None:
        """The server's end is made for its client's, which has none yet."""
        self._relay = relay
        self._client = client
        self._other = client
        self._underway: deque[bytes] = deque()
        self.spoke = False

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        if self._client is None:
            self._connecting = asyncio.ensure_future(self._connect())

    async def _connect(self) -> None:
        _, self._other = await asyncio.get_running_loop().create_connection(
            lambda: _End(self._relay, client=self), "127.0.0.1", self._relay.target
        )
        while self._underway:
            self._pass_on()

    @override
    def data_received(self, data: bytes) -> None:
        if self._client is None:
            self.spoke = True
        else:
            self._relay.turns += self._client.spoke
            self._client.spoke = False
        self._underway.append(data)
        if self._other is None:
            return
        if self._relay.seconds:
            asyncio.get_running_loop().call_later(self._relay.seconds, self._pass_on)
        else:
            self._pass_on()

    def _pass_on(self) -> None:
        assert self._other
        if self._underway:
            self._other.transport.write(self._underway.popleft())

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        if self._other is not None:
            asyncio.get_running_loop().call_later(self._relay.seconds, self._other.transport.close)


async def _listen(relay: _Relay) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _End(relay), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)  # noqa: T201 - how the processes talk
    loop.add_reader(sys.stdin, relay.obey)


if __name__ == "__main__":
    # The usual ways to wait for sockets wait for whole milliseconds; select() knows shorter times.
    main_loop = asyncio.SelectorEventLoop(selectors.SelectSelector())
    main_loop.create_task(_listen(_Relay(int(sys.argv[1]))))
    main_loop.run_forever()
