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
    b"cross-origin-resource-policy",
    b"cross-origin-opener-policy", b"x-frame-options", b"access-control-allow-origin", b"access-control-expose-headers",
})  # fmt: skip
"""The headers that answers have; any other one came from a request."""
_MOST_HEAD = 16_384


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
    def fault(self) -> str | None:
        """The reason why this server can never give such an answer, whatever the request was."""
        if self.status >= 500:
            return f"the status is {self.status}"
        if unknown := self.headers.keys() - _KNOWN:
            return f"there are unknown headers: {unknown}"
        media = self.headers.get(b"content-type", b"")
        if self.status >= 400 and media != b"application/problem+json":
            return f"a problem in {media!r}"
        if self.body and b"json" in media:
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
        body_end = end + 4 + _length(status, headers, without_body=without_body)
        if len(self._buffer) < body_end:
            return None
        answer = Answer(status, headers, self._buffer[end + 4 : body_end], self._buffer[:body_end])
        self._buffer = self._buffer[body_end:]
        self.is_free = status == 101
        return answer

    def feed(self, data: bytes) -> None:
        self._buffer += data


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
    if length is None or b"transfer-encoding" in headers or not length.isdigit():
        raise Malformed(f"the length is not clear: {headers}")
    return 0 if without_body else int(length)
