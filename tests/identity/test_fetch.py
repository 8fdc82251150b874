"""What a fetch of keys sends, and what it takes."""

import asyncio
import ssl
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from identity.fetch import BODY_MAX, FetchFailed, fetch, tls_context
from tests.faults.certificates import Authority

PLAIN = tls_context("http://localhost")
OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"


@asynccontextmanager
async def serving(response: bytes, context: ssl.SSLContext | None = None) -> AsyncIterator[tuple[int, list[bytes]]]:
    """A server that answers every request with these bytes: its port, and the heads of the requests."""
    heads: list[bytes] = []

    async def serve(reader: StreamReader, writer: StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(response)
        writer.close()
        await asyncio.gather(writer.wait_closed(), return_exceptions=True)

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    async with server:
        yield server.sockets[0].getsockname()[1], heads


def sized(body: bytes, *headers: bytes) -> bytes:
    return b"\r\n".join([OK + b"Content-Length: %d" % len(body), *headers, b"", body])


async def fetched(response: bytes, timeout: float = 30) -> bytes:
    async with serving(response) as (port, _):
        return await fetch(f"http://127.0.0.1:{port}/jwks", timeout, PLAIN)


async def test_it_takes_a_document_of_the_largest_size() -> None:
    body = b"a" * BODY_MAX

    assert await fetched(sized(body)) == body
    assert await fetched(OK + b"\r\n" + body) == body
    assert await fetched(CHUNKED + b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)) == body
    assert await fetched(sized(b"keys", b"Content-Encoding: identity")) == b"keys"


@pytest.mark.parametrize(("response", "reason"), [
    (sized(b"a" * (BODY_MAX + 1)), "more than 65,536 bytes"),
    (OK + b"\r\n" + b"a" * (BODY_MAX + 1), "more than 65,536 bytes"),
    (CHUNKED + b"64\r\n%s\r\n" % (b"a" * 100) * 660 + b"0\r\n\r\n", "more than 65,536 bytes"),
    (OK + b"Content-Length: 10\r\n\r\nshort", "RemoteProtocolError"),
    (CHUNKED + b"5\r\nshort", "RemoteProtocolError"),
    (OK + b"A: " + b"a" * 200_000, "RemoteProtocolError"),
    (b"", "RemoteProtocolError"),
    (sized(b"", b"Content-Encoding: br"), "compressed"),
    (b"a" * 60_000 + b"\r\n\r\n", "RemoteProtocolError"),
    (sized(b"").replace(b"200", b"204"), "the status is 204"),
    (sized(b"").replace(b"200", b"304"), "the status is 304"),
    (sized(b"keys", b"Location: /").replace(b"200", b"307"), "the status is 307"),
], ids=range(12))  # fmt: skip
async def test_anything_else_is_a_failure(response: bytes, reason: str) -> None:
    with pytest.raises(FetchFailed, match=reason) as failed:
        await fetched(response)

    assert len(str(failed.value)) < 250


async def test_the_whole_of_it_has_one_time_limit() -> None:
    begun = asyncio.Event()

    async def trickle(reader: StreamReader, writer: StreamWriter) -> None:
        begun.set()
        writer.write(OK + b"\r\n")
        while not writer.is_closing():
            writer.write(b" ")
            await asyncio.gather(writer.drain(), return_exceptions=True)
            await asyncio.sleep(0.01)

    async with await asyncio.start_server(trickle, "127.0.0.1", 0) as server:
        with pytest.raises(FetchFailed, match=r"no complete answer came within 0\.2 s"):
            await fetch(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/", 0.2, PLAIN)
        await begun.wait()


async def test_it_says_nothing_about_this_server(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    async with serving(sized(b"keys", b"Set-Cookie: a=b")) as (port, heads):
        for _ in range(2):
            await fetch(f"http://127.0.0.1:{port}/jwks?tenant=a", 30, PLAIN)

    for head in heads:
        first, *lines = head.decode().strip().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        assert first == "GET /jwks?tenant=a HTTP/1.1"
        assert headers.keys() == {"host", "accept", "accept-encoding", "connection", "user-agent"}
        assert headers["accept-encoding"] == "identity"


async def test_a_certificate_must_be_trusted_and_of_the_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority = Authority(tmp_path, "authority")
    # Only the settings decide which roots are trusted (D51).
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    strict, trusting = tls_context("https://"), tls_context("https://")
    trusting.load_verify_locations(authority.file)
    assert len(strict.get_ca_certs()) > 50
    for host, days, context, is_right in (
        ("localhost", 2, trusting, True),
        ("localhost", 2, strict, False),
        ("localhost", 2, PLAIN, False),
        ("localhost", -1, trusting, False),
        ("example.com", 2, trusting, False),
    ):
        certificate = authority.sign("server", host, days)
        serves = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        serves.load_cert_chain(certificate.file, certificate.key)
        async with serving(sized(b"keys"), serves) as (port, _):
            if is_right:
                assert await fetch(f"https://localhost:{port}/", 30, context) == b"keys"
            else:
                with pytest.raises(FetchFailed, match="certificate verify failed"):
                    await fetch(f"https://localhost:{port}/", 30, context)
