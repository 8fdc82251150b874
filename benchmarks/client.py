"""One of many clients: it has one connection, and sends its next request when the last one is answered."""

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
class Workload:
    """Requests that clients send over and over, for a number of seconds or until a number of requests is sent."""

    port: int
    requests: Sequence[bytes]
    clients: int
    seconds: float = float("inf")
    number: int | None = None
    pause: float = 0.0
    """Mean seconds between an answer and the client's next request; each pause is between 0 and twice the mean."""
    first: int = 0
    """Index of the first request to be sent."""


@dataclass
class Answers:
    statuses: Counter[int] = field(default_factory=Counter)
    each: list[int] = field(default_factory=list)
    """Answers of each client."""
    milliseconds: array[float] = field(default_factory=lambda: array("d"))
    """Times from request to answer, in the order of the answers."""
    refused: int = 0
    """Connections that could not be made."""
    broken: int = 0
    """Requests whose connection was closed, or that had no answer at the end."""
    seconds: float = 0.0


class Client(asyncio.Protocol):
    """Reads only the status and the length of an answer."""

    def __init__(self, load: Workload, answers: Answers, numbers: "count[int]", last: int | None, end: float) -> None:
        self.answered = 0
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._load, self._answers, self._numbers, self._last, self._end = load, answers, numbers, last, end
        self._buffer = b""

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transport is not a subclass of asyncio's.
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
        if self._load.pause:
            pause = random.uniform(0, 2 * self._load.pause)  # noqa: S311 - a pause is not secret
            asyncio.get_running_loop().call_later(pause, self._send)
        else:
            self._send()

    def _send(self) -> None:
        number = next(self._numbers)
        if self._transport.is_closing():
            return
        if time.perf_counter() >= self._end or (self._last is not None and number >= self._last):
            self.done.set_result(None)
            self._transport.close()
            return
        self._sent = time.perf_counter()
        self._transport.write(self._load.requests[number % len(self._load.requests)])


def _length(head: bytes) -> int:
    _, _, rest = head.lower().partition(b"\r\ncontent-length:")
    return int(rest.partition(b"\r\n")[0] or 0)
