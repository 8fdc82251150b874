"""Raw sockets for tests of HTTP's edges: the bytes that a client sends, and the bytes that it gets."""

import socket
import struct
from contextlib import suppress
from dataclasses import dataclass

import orjson

LIVE = b"GET /api/v1/live HTTP/1.1\r\nHost: test\r\n\r\n"


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[bytes, bytes]
    body: bytes


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=120)


def reset_when_closed(client: socket.socket) -> None:
    """Makes the end of the connection a reset, as of a client that has crashed, instead of one in good order."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def all_from(client: socket.socket) -> bytes:
    """Reads until the server closes the connection, or resets it."""
    received = b""
    with suppress(ConnectionError):
        while data := client.recv(65536):
            received += data
    return received


def answer_from(client: socket.socket) -> Answer:
    """The next answer on a connection that may stay open."""
    received = b""
    while True:
        head, end, body = received.partition(b"\r\n\r\n")
        if end and len(body) >= int(head.lower().partition(b"\r\ncontent-length:")[2].partition(b"\r\n")[0]):
            [answer] = answers_in(received)
            return answer
        data = client.recv(65536)
        assert data, received
        received += data


def answers_in(received: bytes) -> list[Answer]:
    """Whole answers and nothing else; answers of 100 are left out."""
    found = []
    while received:
        head, end, rest = received.partition(b"\r\n\r\n")
        assert end, received
        first, *lines = head.split(b"\r\n")
        version, status, _ = first.split(b" ", 2)
        assert version in {b"HTTP/1.1", b"HTTP/1.0"}
        if status == b"100":
            received = rest
            continue
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(b":") for line in lines)}
        length = int(headers[b"content-length"])
        assert len(rest) >= length
        found.append(Answer(int(status), headers, rest[:length]))
        received = rest[length:]
    return found


def check_problem(answer: Answer) -> None:
    """The answer is a problem document, with the headers of all answers."""
    assert answer.headers[b"content-type"] == b"application/problem+json"
    document = orjson.loads(answer.body)
    assert document["status"] == answer.status
    assert document["type"].startswith("urn:problem:todo:")
    assert document["title"]
    assert document["detail"].endswith(".")
    assert answer.headers[b"x-request-id"]
    assert answer.headers[b"x-content-type-options"] == b"nosniff"
    assert answer.headers[b"referrer-policy"] == b"no-referrer"
    assert answer.headers[b"cross-origin-resource-policy"] == b"same-origin"
    assert answer.headers[b"content-security-policy"] == b"default-src 'none'; frame-ancestors 'none'"
    assert answer.headers[b"cache-control"] == b"no-store"
