"""The server's own answers, where no request has come so far as the application, and how it ends a connection."""

import asyncio
from collections.abc import Callable
from email.utils import formatdate
from http import HTTPStatus
from typing import Any, override

from web import cors
from web.headers import ALWAYS, NO_STORE, POLICY
from web.observation import Observation
from web.problems import Problem, render

LINGER_SECONDS = 2.0
LINGER_BYTES = 128 * 1024


def rendered(problem: Problem, request_id: str, origin: str | None, method: bytes = b"") -> bytes:
    """Makes the whole answer, after which the connection is closed, and notes it for the log and the metrics.

    The application has seen no request, so at most the method is known of it. For `origin` see `web.cors.add_headers`.
    """
    response = cors.add_headers(render(problem), origin)
    headers = [
        *((name.encode("ascii"), value.encode("latin-1")) for name, value in response.items()),
        (b"Content-Length", b"%d" % len(response.content)),
        (b"X-Request-ID", request_id.encode("ascii")),
        *ALWAYS,
        POLICY,
        NO_STORE,
        (b"Date", formatdate(usegmt=True).encode("ascii")),
        (b"Connection", b"close"),
    ]
    body = b"" if method == b"HEAD" else response.content
    Observation(str(method, "latin-1"), request_id).end(problem.status, len(body))
    lines = [b"HTTP/1.1 %d %s" % (problem.status, HTTPStatus(problem.status).phrase.encode("ascii"))]
    lines += [b"%s: %s" % header for header in headers]
    return b"\r\n".join([*lines, b"", body])


class Linger(asyncio.Protocol):
    """Ends a connection whose client may still be sending: sends no more, and reads on for a moment.

    Closing it at once would reset it, because the client's bytes would find no reader, and a reset may overtake the
    answer that the client has yet to read. `lost` is called when it is over.
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
            # A client that sends on is held up until the end, by which time the answer must have reached it.
            self._transport.pause_reading()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._end.cancel()
        self._lost(exc)
