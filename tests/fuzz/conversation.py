"""Requests and answers one by one, as bytes, over one connection that is kept."""

import socket
from collections.abc import Mapping

from tests.fuzz.answers import Answer, Reader


class Conversation:
    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=60)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask(self, request: bytes) -> Answer:
        self._socket.sendall(request)
        reader = Reader()
        while not (answer := reader.next()):
            data = self._socket.recv(65_536)
            assert data, "the server closed the connection"
            reader.feed(data)
        assert not reader.has_part, "there is more than one answer"
        return answer

    def close(self) -> None:
        self._socket.close()


def request(method: str, path: str, headers: Mapping[str, str] = {}, body: str | None = None) -> bytes:
    lines = [f"{method} /api/{path} HTTP/1.1", "Host: test", *(f"{name}: {value}" for name, value in headers.items())]
    if body is not None:
        lines += ["Content-Type: application/json", f"Content-Length: {len(body.encode())}"]
    return "\r\n".join((*lines, "", body or "")).encode()
