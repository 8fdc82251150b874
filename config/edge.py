"""What the server says and does where no request has come so far as to the application."""

import asyncio
from collections.abc import Callable
from email.utils import formatdate
from http import HTTPStatus
from random import getrandbits
from typing import Any, override

import orjson

from todos.errors import Problem

FIXED_HEADERS = [
    (b"X-Content-Type-Options", b"nosniff"),
    (b"Referrer-Policy", b"no-referrer"),
]
LINGER_SECONDS = 2.0
LINGER_BYTES = 128 * 1024


def new_request_id() -> str:
    # It is no secret, and an id from the system's source of randomness takes longer to make.
    return f"{getrandbits(128):032x}"


def rendered(problem: Problem, request_id: str, *, with_body: bool = True) -> bytes:
    """The whole answer, after which the connection is closed."""
    body = orjson.dumps(problem.document)
    headers = [
        *((name.encode("ascii"), value.encode("latin-1")) for name, value in problem.headers.items()),
        (b"Content-Type", b"application/problem+json"),
        (b"Content-Length", b"%d" % len(body)),
        (b"X-Request-ID", request_id.encode("ascii")),
        *FIXED_HEADERS,
        (b"Cache-Control", b"no-store"),
        (b"Date", formatdate(usegmt=True).encode("ascii")),
        (b"Connection", b"close"),
    ]
    lines = [b"HTTP/1.1 %d %s" % (problem.status, HTTPStatus(problem.status).phrase.encode("ascii"))]
    lines += [b"%s: %s" % header for header in headers]
    return b"\r\n".join([*lines, b"", body if with_body else b""])


class Linger(asyncio.Protocol):
    """Ends a connection whose client may still be sending: says no more, and reads on for a moment.

    To close it at once would reset it, as the client's bytes would find nobody, and a reset may overtake the answer
    that the client has yet to read. `lost` is called when it is over.
    """

    def __init__(self, transport: Any, lost: Callable[[Exception | None], None]) -> None:
        self._transport, self._lost, self._left = transport, lost, LINGER_BYTES
        self._end = asyncio.get_running_loop().call_later(LINGER_SECONDS, transport.abort)
        transport.set_protocol(self)
        if transport.can_write_eof():
            # Not with TLS.
            transport.write_eof()
        transport.resume_reading()

    @override
    def data_received(self, data: bytes) -> None:
        self._left -= len(data)
        if self._left <= 0:
            # Whoever sends on is held up until the end, by which time the answer must have reached him.
            self._transport.pause_reading()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._end.cancel()
        self._lost(exc)
