"""Answers read from the bytes of a connection, and what is wrong with them."""

import re
from collections import Counter
from dataclasses import dataclass, field

import orjson

_HEAD = re.compile(
    rb"HTTP/1\.[01] (?P<status>[1-9]\d\d) [ -~]*\r\n"
    rb"(?P<headers>(?:[!#$%&'*+.^_`|~0-9A-Za-z-]+:[ \t]*[ -~\x80-\xff]*\r\n)*)\r\n"
)
_KNOWN = frozenset({
    b"server", b"date", b"connection", b"content-type", b"content-length", b"transfer-encoding", b"x-request-id",
    b"x-content-type-options", b"referrer-policy", b"cache-control", b"location", b"etag", b"link", b"allow", b"vary",
    b"accept-patch", b"retry-after", b"idempotency-replayed", b"accept", b"upgrade", b"content-security-policy",
    b"cross-origin-resource-policy", b"content-disposition",
    b"cross-origin-opener-policy", b"x-frame-options", b"access-control-allow-origin", b"access-control-expose-headers",
})  # fmt: skip
"""The headers that answers have; any other one came from a request."""
_MOST_HEAD = 16_384
_BUSY = re.compile(rb"Too many (ex|im)ports are being made at once")
"""A storm asks for more of them at once than a server makes, which is not a fault of the server."""
_CHUNK = re.compile(rb"([0-9a-f]{1,8})\r\n")


NONE = 0
"""Stands for a status: the server closed the connection, or waited for more than was sent."""


@dataclass
class Report:
    """The result of a round. `answers` counts the answers by what was sent, in words, and status."""

    failures: list[str] = field(default_factory=list)
    answers: Counter[tuple[str, int]] = field(default_factory=Counter)


class Malformed(Exception):
    """The bytes are not an answer in HTTP."""


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[bytes, bytes]
    """Names are in lower case."""
    body: bytes
    raw: bytes

    @property
    def closes(self) -> bool:
        return self.headers.get(b"connection", b"").lower() == b"close"

    @property
    def _says_busy(self) -> bool:
        """An answer to HEAD has no words."""
        waits = self.headers.get(b"retry-after") == b"5"
        return self.status == 503 and waits and (not self.body or bool(_BUSY.search(self.body)))

    @property
    def fault(self) -> str | None:
        """The reason why this server can never give such an answer, whatever the request was."""
        if self.status >= 500 and not self._says_busy:
            return f"the status is {self.status}"
        if unknown := self.headers.keys() - _KNOWN:
            return f"there are unknown headers: {unknown}"
        media = self.headers.get(b"content-type", b"")
        if self.status >= 400 and media != b"application/problem+json":
            return f"a problem in {media!r}"
        if self.body and media.endswith(b"json"):
            try:
                document = orjson.loads(self.body)
            except orjson.JSONDecodeError as error:
                return f"the body is not JSON: {error}"
            if self.status >= 400 and document["status"] != self.status:
                return f"the problem says {document['status']}, the answer {self.status}"
        return None


class Reader:
    """Takes bytes as they come and returns the answers that are whole."""

    def __init__(self) -> None:
        self._buffer = b""
        self.is_free = False
        """True when what follows is no longer HTTP/1."""
        self.is_over = False
        """True when no more bytes will come, which ends an answer in HTTP/1.0 without a length."""

    @property
    def has_part(self) -> bool:
        return bool(self._buffer)

    def next(self, *, without_body: bool = False) -> Answer | None:
        """The next one, or None when it is not whole yet. Only the client knows that it asked by HEAD."""
        if self.is_free:
            self._buffer = b""
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            if len(self._buffer) > _MOST_HEAD or not b"HTTP/1.".startswith(self._buffer[:7]):
                raise Malformed(repr(self._buffer[:500]))
            return None
        match = _HEAD.match(self._buffer)
        if not match or match.end() != end + 4:
            raise Malformed(repr(self._buffer[:500]))
        status = int(match["status"])
        headers = _headers(match["headers"])
        start = end + 4
        if headers.get(b"transfer-encoding") == b"chunked" and not without_body:
            body, body_end = self._chunks(start)
        elif self._ends_with_the_connection(status, headers):
            body, body_end = self._buffer[start:], len(self._buffer) if self.is_over else None
        else:
            body_end = start + _length(status, headers, without_body=without_body)
            body = self._buffer[start:body_end]
        if body_end is None or len(self._buffer) < body_end:
            return None
        answer = Answer(status, headers, body, self._buffer[:body_end])
        self._buffer = self._buffer[body_end:]
        self.is_free = status == 101
        return answer

    def feed(self, data: bytes) -> None:
        self._buffer += data

    def _chunks(self, place: int) -> tuple[bytes, int | None]:
        """The body of an answer in chunks, and its end if all of it is here."""
        body = b""
        while size := _CHUNK.match(self._buffer, place):
            length, place = int(size[1], 16), size.end()
            body += self._buffer[place : place + length]
            place += length + 2
            if len(self._buffer) < place:
                return body, None
            if self._buffer[place - 2 : place] != b"\r\n":
                raise Malformed(f"a chunk of {length} bytes has no end")
            if length == 0:
                return body, place
        if len(self._buffer) > place + 10:
            raise Malformed(f"this is not a chunk: {self._buffer[place : place + 100]!r}")
        return body, None

    @staticmethod
    def _ends_with_the_connection(status: int, headers: dict[bytes, bytes]) -> bool:
        """Only an export has no length, and only for a client that knows no chunks."""
        known = headers.keys() & {b"content-length", b"transfer-encoding"}
        return (
            status == 200 and not known and b"content-disposition" in headers and headers.get(b"connection") == b"close"
        )


def _headers(block: bytes) -> dict[bytes, bytes]:
    headers = dict[bytes, bytes]()
    for line in block.split(b"\r\n")[:-1]:
        name, _, value = line.partition(b":")
        name = name.lower()
        if name in headers and name != b"vary":
            raise Malformed(f"{name!r} comes twice: {block!r}")
        headers[name] = value.strip(b" \t")
    return headers


def _length(status: int, headers: dict[bytes, bytes], *, without_body: bool) -> int:
    """The length of the body, which this server always tells."""
    length = headers.get(b"content-length")
    if status < 200 or status in (204, 304):
        if length not in (None, b"0"):
            raise Malformed(f"{status} has a Content-Length")
        return 0
    if without_body and b"content-disposition" in headers:
        return 0
    if length is None or b"transfer-encoding" in headers or not length.isdigit():
        raise Malformed(f"the length is not clear: {headers}")
    return 0 if without_body else int(length)
