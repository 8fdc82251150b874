"""A small HTTP/1.1 client that always knows how far a request came, which decides if it may be repeated."""

import asyncio
import select
import time
from asyncio import StreamReader, StreamWriter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson


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
        self._streams: tuple[StreamReader, StreamWriter] | None = None

    async def request(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Sends a request. Raises `Unsent` or `Cut`; the timeout counts for the connect, and again for the response.

        A connection that the server has closed in the meantime is noticed before sending, and replaced.
        """
        reader, writer = await self._connected()
        started = time.monotonic()
        try:
            async with asyncio.timeout(self._timeout):
                writer.write(_encode(method, path, body, headers or {}))
                status, fields = _decode(await reader.readuntil(b"\r\n\r\n"))
                has_body = method != "HEAD" and status not in (204, 304)
                content = await reader.readexactly(int(fields["content-length"])) if has_body else b""
        except BaseException as error:
            # A response to a cancelled request must not be taken for the response to the next one.
            self.close()
            if isinstance(error, OSError | EOFError):
                raise Cut(str(error) or f"no complete response within {self._timeout:g} s") from error
            raise
        if fields.get("connection", "").lower() == "close":
            self.close()
        return Answer(status, fields, content, time.monotonic() - started)

    def close(self) -> None:
        if self._streams:
            self._streams[1].transport.abort()
        self._streams = None

    async def _connected(self) -> tuple[StreamReader, StreamWriter]:
        if self._streams and not _is_usable(self._streams[1]):
            self.close()
        if self._streams is None:
            try:
                async with asyncio.timeout(self._timeout):
                    self._streams = await asyncio.open_connection("127.0.0.1", self._port)
            except OSError as error:
                raise Unsent(str(error) or f"no connection within {self._timeout:g} s") from error
            self.connects += 1
        return self._streams


def _is_usable(writer: StreamWriter) -> bool:
    """False after the server has closed the connection, even before the event loop notices."""
    if writer.is_closing():
        return False
    poll = select.poll()
    poll.register(writer.get_extra_info("socket").fileno(), select.POLLIN)
    return not poll.poll(0)


def _encode(method: str, path: str, body: Any, headers: Mapping[str, str]) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", *(f"{name}: {value}" for name, value in headers.items())]
    content = b""
    if body is not None:
        content = body if isinstance(body, bytes) else orjson.dumps(body)
        lines += ["Content-Type: application/json", f"Content-Length: {len(content)}"]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + content


def _decode(head: bytes) -> tuple[int, dict[str, str]]:
    status, *lines = head.decode("latin-1").strip().split("\r\n")
    pairs = (line.partition(":") for line in lines)
    return int(status.split(" ", 2)[1]), {name.lower(): value.strip() for name, _, value in pairs}
