"""A lean HTTP/1.1 client that always knows how far a request came, which is what decides whether it may be repeated."""

import asyncio
import select
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast, override

import orjson

type Json = dict[str, Any] | list[Any] | str | float | bool | None

_NO_BODY = (204, 304)


class Unsent(OSError):
    """The connection could not be made, so the server knows nothing of the request."""


class Cut(OSError):
    """The request was sent, and no whole answer came: nobody knows what has become of it."""


@dataclass(frozen=True)
class Answer:
    """`headers` are by name in lower case; `seconds` are from sending to the last byte."""

    status: int
    headers: dict[str, str]
    body: bytes
    seconds: float

    @property
    def json(self) -> Any:
        return orjson.loads(self.body)

    @property
    def problem(self) -> str:
        """The `type` of a problem document, or nothing."""
        if self.headers.get("content-type") != "application/problem+json":
            return ""
        return str(self.json.get("type", ""))


class Http:
    """One kept-alive connection to 127.0.0.1, made when it is needed; for one request at a time."""

    def __init__(self, port: int, timeout: float = 30.0) -> None:
        self._port, self._timeout = port, timeout
        self._link: _Link | None = None

    async def request(
        self, method: str, path: str, body: Json | bytes = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Raises `Unsent` or `Cut`; the timeout is for making the connection, and again for the answer.

        A connection that the server has closed meanwhile is seen before sending, and replaced.
        """
        data = _request(method, path, body, headers or {})
        link = await self._connected()
        try:
            answer = await link.ask(data, self._timeout, with_body=method != "HEAD")
        except BaseException:
            # Cancelled as well: whatever answer comes yet must not be taken for that of the next request.
            self.close()
            raise
        if answer.headers.get("connection", "").lower() == "close":
            self.close()
        return answer

    def close(self) -> None:
        if self._link:
            self._link.transport.abort()
            self._link = None

    async def _connected(self) -> "_Link":
        if self._link and self._link.is_usable:
            return self._link
        self.close()
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._timeout):
                _, self._link = await loop.create_connection(_Link, "127.0.0.1", self._port)
        except TimeoutError:
            raise Unsent(f"no connection within {self._timeout:g} s") from None
        except OSError as error:
            raise Unsent(str(error)) from error
        return self._link


class _Link(asyncio.Protocol):
    transport: asyncio.Transport

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._lost: str | None = None
        self._ended = False
        self._changed: asyncio.Future[None] | None = None

    @property
    def is_usable(self) -> bool:
        """Whether nothing has come unasked. The event loop may not have seen yet what the kernel knows."""
        if self._lost is not None or self._buffer or self.transport.is_closing():
            return False
        poll = select.poll()
        poll.register(self.transport.get_extra_info("socket").fileno(), select.POLLIN)
        return not poll.poll(0)

    async def ask(self, data: bytes, timeout: float, *, with_body: bool) -> Answer:
        started = time.monotonic()
        self.transport.write(data)
        try:
            async with asyncio.timeout(timeout):
                while (head := self._buffer.find(b"\r\n\r\n")) < 0:
                    await self._more()
                status, headers = _head(bytes(self._buffer[:head]))
                del self._buffer[: head + 4]
                body = await self._body(status, headers) if with_body else b""
        except TimeoutError:
            raise Cut(f"no whole answer within {timeout:g} s") from None
        return Answer(status, headers, body, time.monotonic() - started)

    async def _body(self, status: int, headers: Mapping[str, str]) -> bytes:
        if status in _NO_BODY:
            return b""
        if (length := headers.get("content-length")) is None:
            # It ends with the connection, if that is closed properly.
            while not self._ended:
                await self._more()
            return bytes(self._buffer)
        while len(self._buffer) < int(length):
            await self._more()
        body = bytes(self._buffer[: int(length)])
        del self._buffer[: int(length)]
        return body

    async def _more(self) -> None:
        if self._lost is not None:
            raise Cut(self._lost)
        self._changed = asyncio.get_running_loop().create_future()
        await self._changed

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's has not the class that asyncio's has.
        self.transport = cast("asyncio.Transport", transport)

    @override
    def data_received(self, data: bytes) -> None:
        self._buffer += data
        self._wake()

    @override
    def eof_received(self) -> None:
        self._ended = True
        self._lost = "the server closed the connection"
        self._wake()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = self._lost or str(exc or "the connection was closed")
        self._wake()

    def _wake(self) -> None:
        if self._changed and not self._changed.done():
            self._changed.set_result(None)


def _request(method: str, path: str, body: Json | bytes, headers: Mapping[str, str]) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", *(f"{name}: {value}" for name, value in headers.items())]
    content = b""
    if body is not None:
        content = body if isinstance(body, bytes) else orjson.dumps(body)
        lines += ["Content-Type: application/json", f"Content-Length: {len(content)}"]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + content


def _head(head: bytes) -> tuple[int, dict[str, str]]:
    status, *lines = head.decode("latin-1").split("\r\n")
    pairs = (line.partition(":") for line in lines)
    return int(status.split(" ", 2)[1]), {name.lower(): value.strip() for name, _, value in pairs}
