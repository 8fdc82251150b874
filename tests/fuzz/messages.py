"""HTTP requests in parts, which can be bent one by one before they become bytes."""

import json
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

type Pairs = list[tuple[bytes, bytes]]

_TOKEN = "\ue000"
_ESCAPED = "\\ue000"
"""Marks text in JSON that is to stand there as it is."""


def token(raw: bytes) -> str:
    """A value that becomes these bytes where it stands in JSON."""
    return _TOKEN + raw.hex() + _TOKEN


def encoded(text: str) -> bytes:
    """A value as it stands in a URL. Half a surrogate pair takes the bytes that would be its own."""
    return quote(text.encode("utf-8", "surrogatepass"), safe="-:.,").encode("ascii")


def to_json(document: Any) -> bytes:
    text = json.dumps(document)
    if _ESCAPED not in text:
        return text.encode()
    # The quotation marks around each token go with its marks, and every other part is a token.
    parts = text.replace(f'"{_ESCAPED}', _ESCAPED).replace(f'{_ESCAPED}"', _ESCAPED).split(_ESCAPED)
    return b"".join(bytes.fromhex(part) if number % 2 else part.encode() for number, part in enumerate(parts))


@dataclass
class Message:
    """One request."""

    label: str
    method: bytes
    path: list[bytes]
    query: Pairs = field(default_factory=list)
    headers: Pairs = field(default_factory=list)
    document: Any = None
    body: bytes | None = None
    chunks: list[bytes] | None = None
    """The body in chunks, each written by itself, when it has no Content-Length."""
    version: bytes = b"HTTP/1.1"

    def encode(self) -> bytes:
        target = b"/" + b"/".join(self.path)
        if self.query:
            target += b"?" + b"&".join(b"%b=%b" % pair for pair in self.query)
        lines = [b"%b %b %b" % (self.method, target, self.version)]
        lines += [b"%b: %b" % header for header in self.headers]
        content = b""
        if self.body is not None:
            if self.chunks is None:
                content = self.body
                lines.append(b"Content-Length: %d" % len(content))
            else:
                content = b"".join(self.chunks)
                lines.append(b"Transfer-Encoding: chunked")
        return b"\r\n".join((*lines, b"", content))
