"""One client of many: on one connection, with its next request when the last is answered."""

import asyncio
import random
import time
from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import cast, override


@dataclass(frozen=True)
class Crowd:
    """Clients who send these requests over and over, in turns, for so many seconds or until so many are sent."""

    port: int
    requests: Sequence[bytes]
    clients: int
    seconds: float = float("inf")
    number: int | None = None
    pause: float = 0.0
    """The mean of the seconds between an answer and the client's next request, each from nothing to twice as long."""
    first: int = 0
    """Which of the requests is the first to be sent."""


@dataclass
class Answers:
    statuses: Counter[int] = field(default_factory=Counter)
    each: list[int] = field(default_factory=list)
    """How many each client had."""
    milliseconds: array[float] = field(default_factory=lambda: array("d"))
    """From request to answer, for each answer as it came."""
    refused: int = 0
    """Connections that could not be made."""
    broken: int = 0
    """Requests whose connection was closed, or that had no answer when all was over."""
    seconds: float = 0.0


class Client(asyncio.Protocol):
    """Reads no more of an answer than its status and its length."""

    def __init__(self, crowd: Crowd, answers: Answers, turns: "count[int]", last: int | None, end: float) -> None:
        self.answered = 0
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._crowd, self._answers, self._turns, self._last, self._end = crowd, answers, turns, last, end
        self._buffer = b""

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's has not the class that asyncio's has.
        self._transport = cast("asyncio.Transport", transport)
        self._next()

    @override
    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head = self._buffer.find(b"\r\n\r\n")
        if head < 0 or len(self._buffer) < head + 4 + _length(self._buffer[:head]):
            return
        self._answers.milliseconds.append((time.perf_counter() - self._sent) * 1000)
        self._answers.statuses[int(self._buffer[9:12])] += 1
        self._buffer = b""
        self.answered += 1
        self._next()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self._answers.broken += 1
            self.done.set_result(None)

    def _next(self) -> None:
        if self._crowd.pause:
            pause = random.uniform(0, 2 * self._crowd.pause)  # noqa: S311 - no secret
            asyncio.get_running_loop().call_later(pause, self._send)
        else:
            self._send()

    def _send(self) -> None:
        turn = next(self._turns)
        if self._transport.is_closing():
            return
        if time.perf_counter() >= self._end or (self._last is not None and turn >= self._last):
            self.done.set_result(None)
            self._transport.close()
            return
        self._sent = time.perf_counter()
        self._transport.write(self._crowd.requests[turn % len(self._crowd.requests)])


def _length(head: bytes) -> int:
    _, _, rest = head.lower().partition(b"\r\ncontent-length:")
    return int(rest.partition(b"\r\n")[0] or 0)
