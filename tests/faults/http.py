"""A small HTTP/1.1 client that always knows how far a request came, which decides if it may be repeated."""

import asyncio
import select
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

type Json = dict[str, Any] | list[Any] | str | float | bool | None


class Unsent(OSError):
    """The connection could not be made, so the server knows nothing of the request."""


class Cut(OSError):
    """The request was sent, and no complete response came. The outcome is unknown."""


@dataclass(frozen=True)
class Answer:
    """A response; `headers` are by name in lower case, `seconds` are from sending to the last byte."""

    status: int
    headers: dict[str, str]
    body: bytes
    seconds: float

    @property
    def json(self) -> Any:
        return orjson.loads(self.body)

    @property
    def problem(self) -> str:
        """The `type` of a problem document, or an empty string."""
        is_problem = self.headers.get("content-type") == "application/problem+json"
        return str(self.json.get("type", "")) if is_problem else ""


class Http:
    """One kept-alive connection to 127.0.0.1, for one request at a time. It is made when it is needed."""

    def __init__(self, port: int, timeout: float = 30.0) -> None:
        self.connects = 0
        """Times that a connection was made."""
        self._port, self._timeout = port, timeout
        self._socket: socket.socket | None = None
        self._received = bytearray()

    async def request(
        self, method: str, path: str, body: Json | bytes = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Sends a request. Raises `Unsent` or `Cut`; the timeout counts for the connect, and again for the response.

        A connection that the server has closed in the meantime is noticed before sending, and replaced.
        """
        if self._socket and not self._is_usable(self._socket):
            self.close()
        link = self._socket or await self._connect()
        started = time.monotonic()
        try:
            async with asyncio.timeout(self._timeout):
                await asyncio.get_running_loop().sock_sendall(link, _encode(method, path, body, headers or {}))
                head = await self._read_until(b"\r\n\r\n")
                status, fields = _decode(head)
                has_body = method != "HEAD" and status not in (204, 304)
                content = await self._read_body(int(fields["content-length"])) if has_body else b""
        except BaseException as error:
            # A response to a cancelled request must not be taken for the response to the next one.
            self.close()
            if isinstance(error, TimeoutError):
                raise Cut(f"no complete response within {self._timeout:g} s") from None
            if isinstance(error, OSError) and not isinstance(error, Cut):
                raise Cut(str(error)) from error
            raise
        if fields.get("connection", "").lower() == "close":
            self.close()
        return Answer(status, fields, content, time.monotonic() - started)

    def close(self) -> None:
        if self._socket:
            self._socket.close()
        self._socket, self._received = None, bytearray()

    async def _connect(self) -> socket.socket:
        link = socket.socket()
        link.setblocking(False)
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            async with asyncio.timeout(self._timeout):
                await asyncio.get_running_loop().sock_connect(link, ("127.0.0.1", self._port))
        except BaseException as error:
            link.close()
            if isinstance(error, OSError):
                raise Unsent(str(error) or f"no connection within {self._timeout:g} s") from error
            raise
        self.connects += 1
        self._socket = link
        return link

    def _is_usable(self, link: socket.socket) -> bool:
        """False after the server has sent something that was not asked for, the end of the connection included."""
        poll = select.poll()
        poll.register(link.fileno(), select.POLLIN)
        return not self._received and not poll.poll(0)

    async def _read_until(self, end: bytes) -> bytes:
        while (position := self._received.find(end)) < 0:
            await self._read_more()
        head = bytes(self._received[:position])
        del self._received[: position + len(end)]
        return head

    async def _read_body(self, length: int) -> bytes:
        while len(self._received) < length:
            await self._read_more()
        body = bytes(self._received[:length])
        del self._received[:length]
        return body

    async def _read_more(self) -> None:
        assert self._socket
        data = await asyncio.get_running_loop().sock_recv(self._socket, 65536)
        if not data:
            raise Cut("the server closed the connection")
        self._received += data


def _encode(method: str, path: str, body: Json | bytes, headers: Mapping[str, str]) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", *(f"{name}: {value}" for name, value in headers.items())]
    content = b""
    if body is not None:
        content = body if isinstance(body, bytes) else orjson.dumps(body)
        lines += ["Content-Type: application/json", f"Content-Length: {len(content)}"]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + content


def _decode(head: bytes) -> tuple[int, dict[str, str]]:
    status, *lines = head.decode("latin-1").split("\r\n")
    pairs = (line.partition(":") for line in lines)
    return int(status.split(" ", 2)[1]), {name.lower(): value.strip() for name, _, value in pairs}
