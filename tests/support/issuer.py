"""An issuer of tokens on 127.0.0.1, as Better Auth is one, whose key endpoint can be made to fail in many ways.

It runs in a thread with an event loop of its own, so that it serves synchronous tests, too, and no test slows it down.
Everything of it may be used from any thread, and has taken effect when it returns.
"""

import asyncio
import gzip
import socket
import threading
from asyncio import Server, StreamReader, StreamWriter
from base64 import urlsafe_b64encode
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from time import monotonic, time
from typing import Any, Literal, Self
from uuid import uuid4

import orjson
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import Algorithm, get_default_algorithms

from tests.support.sockets import reset_when_closed

type Fault = Literal[
    "500", "html", "empty", "hang", "slow", "reset", "redirect", "large", "gzip", "garbage", "refused", "oct-only",
]  # fmt: skip

FAULTS: tuple[Fault, ...] = Fault.__value__.__args__
KEYS_PATH, TOKEN_PATH, MOVED_PATH = "/api/auth/jwks", "/api/auth/token", "/api/auth/moved"
LIFETIME = 15 * 60
"""Seconds that a token lives, as Better Auth's do."""
SECONDS_PER_BYTE = 0.1
"""The pace of "slow". No wait for the next byte is long, but the whole answer takes half a minute."""
TOO_MUCH = b" " * 2_000_000
"""What makes an answer too large."""

_CURVES: dict[str, Callable[[], ec.EllipticCurve]] = {
    "ES256": ec.SECP256R1, "ES384": ec.SECP384R1, "ES512": ec.SECP521R1,
}  # fmt: skip
_ALGORITHMS: dict[str, Algorithm] = get_default_algorithms()
# RFC 9864's name for EdDSA with an Ed25519 key, which PyJWT does not know.
_ALGORITHMS["Ed25519"] = _ALGORITHMS["EdDSA"]


@dataclass(frozen=True)
class SigningKey:
    """A key pair with the name that it has in the set of keys."""

    algorithm: str = "EdDSA"
    kid: str = field(default_factory=lambda: str(uuid4()))

    @cached_property
    def private(self) -> Any:
        if curve := _CURVES.get(self.algorithm):
            return ec.generate_private_key(curve())
        if self.algorithm[:2] in {"RS", "PS"}:
            return rsa.generate_private_key(65537, 2048)
        return ed25519.Ed25519PrivateKey.generate()

    @cached_property
    def jwk(self) -> dict[str, Any]:
        """The public key as Better Auth publishes it, without `use` and `key_ops`."""
        public = _ALGORITHMS[self.algorithm].to_jwk(self.private.public_key(), as_dict=True)
        return {"alg": self.algorithm, **{k: v for k, v in public.items() if k != "key_ops"}, "kid": self.kid}

    def sign(self, header: Mapping[str, Any] | bytes, claims: Mapping[str, Any] | bytes) -> str:
        """Signs exactly this header and these claims, however odd they are. Bytes need not be JSON."""
        parts = [each if isinstance(each, bytes) else orjson.dumps(dict(each)) for each in (header, claims)]
        signed = b".".join(map(base64url, parts))
        return b".".join((signed, base64url(_ALGORITHMS[self.algorithm].sign(signed, self.private)))).decode()


def base64url(content: bytes) -> bytes:
    return urlsafe_b64encode(content).rstrip(b"=")


class Issuer:
    """Serves the set of its keys at `jwks_url`, and makes tokens."""

    def __init__(self, algorithm: str = "EdDSA") -> None:
        self.algorithm = algorithm
        self.keys = [SigningKey(algorithm)]
        """The keys of the set. The last one signs."""
        self.fetched_at: list[float] = []
        """When requests for the keys came, on the monotonic clock. Those that are refused are not seen."""
        self.delay = 0.0
        """Seconds before an answer, which has the keys from when the request came."""
        self.signs = True
        """False makes the endpoint of tokens fail, as it does after the issuer's secret was changed."""
        self._fault: Fault | None = None
        # It keeps the port while nothing listens on it. Connections to it are refused.
        self._reservation = _bound(0)
        self.port: int = self._reservation.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        """The `iss` and the `aud` of its tokens."""
        self.jwks_url = f"{self.url}{KEYS_PATH}"
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="issuer", daemon=True)
        self._server: Server | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result()
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._reservation.close()

    @property
    def settings(self) -> dict[str, Any]:
        """The settings of a server that asks for its tokens."""
        return {
            "AUTH_MODE": "jwt", "AUTH_ISSUER": self.url, "AUTH_AUDIENCE": self.url, "AUTH_JWKS_URL": self.jwks_url,
        }  # fmt: skip

    @property
    def fetches(self) -> int:
        """Requests for the keys so far."""
        return len(self.fetched_at)

    @property
    def fault(self) -> Fault | None:
        """The way in which the endpoint of keys fails."""
        return self._fault

    @fault.setter
    def fault(self, fault: Fault | None) -> None:
        self._fault = fault
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result()

    def rotate(self) -> SigningKey:
        """Makes a key that signs from now on. The old ones stay in the set."""
        key = SigningKey(self.algorithm)
        # It signs after it is published, and other threads see the old list or the new one.
        assert key.jwk
        self.keys = [*self.keys, key]
        return key

    def forget_old_keys(self) -> None:
        self.keys = self.keys[-1:]

    def token(
        self, sub: object = ..., *, header: Mapping[str, Any] | None = None, key: SigningKey | None = None,
        **changes: Any,
    ) -> str:  # fmt: skip
        """A token with the header and the claims of Better Auth's, for a new user unless `sub` is given.

        `changes` are to its claims, `header` to its header; those that are None are left out. `key` signs it.
        """
        key, now = key or self.keys[-1], int(time())
        claims = {
            "iat": now, "sid": uuid4().hex, "sub": uuid4() if sub is ... else sub, "exp": now + LIFETIME,
            "iss": self.url, "aud": self.url,
        }  # fmt: skip
        head = {"alg": key.algorithm, "kid": key.kid}
        return key.sign(_changed(head, header or {}), _changed(claims, changes))

    async def _listen(self) -> None:
        """Listens, or closes the listening socket, as the fault says."""
        if self._fault == "refused" and self._server:
            self._server.close()
            self._server = None
        elif self._fault != "refused" and not self._server:
            self._server = await asyncio.start_server(self._serve, sock=_bound(self.port))

    async def _stop(self) -> None:
        if self._server:
            self._server.close()
        # A connection is closed by its task, and one that has just been accepted has yet to get it.
        await _turns()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await _turns()

    async def _serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        """Answers one request, and closes the connection."""
        with suppress(OSError, EOFError):
            try:
                method, path, _ = (await reader.readuntil(b"\r\n\r\n")).split(b" ", 2)
                await self._answer(method.decode(), path.decode(), reader, writer)
            except asyncio.CancelledError:
                writer.transport.abort()
                raise
            finally:
                writer.close()
            await writer.wait_closed()

    async def _answer(self, method: str, path: str, reader: StreamReader, writer: StreamWriter) -> None:
        served = orjson.dumps({"keys": [key.jwk for key in self.keys]})
        if path == KEYS_PATH:
            self.fetched_at.append(monotonic())
            await asyncio.sleep(self.delay)
        match self._fault if path == KEYS_PATH else None:
            case "hang":
                await reader.read()
            case "slow":
                for byte in _response(served):
                    writer.write(bytes((byte,)))
                    await writer.drain()
                    await asyncio.sleep(SECONDS_PER_BYTE)
            case "reset":
                reset_when_closed(writer.get_extra_info("socket"))
                writer.transport.abort()
            case None:
                writer.write(self._ordinary(method, path, served))
            case fault:
                writer.write(self._wrong(fault, served))

    def _ordinary(self, method: str, path: str, served: bytes) -> bytes:
        if method == "GET" and path in {KEYS_PATH, MOVED_PATH}:
            return _response(served)
        if method == "GET" and path == TOKEN_PATH:
            if not self.signs:
                return _response(b'{"message":"Failed to decrypt private key"}', "500 Internal Server Error")
            return _response(orjson.dumps({"token": self.token()}))
        # Better Auth does not answer HEAD.
        return _response(b"", "404 Not Found")

    def _wrong(self, fault: Fault, served: bytes) -> bytes:
        match fault:
            case "500":
                return _response(b'{"message":"failed"}', "500 Internal Server Error")
            case "html":
                return _response(b"<!doctype html><title>Sign in</title>", kind="text/html")
            case "empty":
                return _response(b'{"keys":[]}')
            case "oct-only":
                secrets = [{"kty": "oct", "alg": "HS256", "kid": key.kid, "k": "c2VjcmV0"} for key in self.keys]
                return _response(orjson.dumps({"keys": secrets}))
            case "redirect":
                return _response(b"", "302 Found", f"Location: {self.url}{MOVED_PATH}")
            case "large":
                return _response(served + TOO_MUCH)
            case "gzip":
                # It is small on the wire.
                return _response(gzip.compress(served + TOO_MUCH), "200 OK", "Content-Encoding: gzip")
            case _:
                return b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n"


async def _turns() -> None:
    for _ in range(4):
        await asyncio.sleep(0)


def _bound(port: int) -> socket.socket:
    bound = socket.socket()
    # Two sockets may have one port as long as at most one of them listens.
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.bind(("127.0.0.1", port))
    return bound


def _changed(values: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in {**values, **changes}.items() if value is not None}


def _response(body: bytes, status: str = "200 OK", *headers: str, kind: str = "application/json") -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Type: {kind}", f"Content-Length: {len(body)}", "Connection: close"]
    return "\r\n".join([*lines, *headers, "", ""]).encode() + body
