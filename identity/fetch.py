"""The fetch of a small document over HTTP, which trusts neither the server's speed nor its size."""

import asyncio
import ssl

import certifi
import httpx2

BODY_MAX = 64 * 1024
"""Bytes of the document: some hundred keys."""
_SHOWN = 200
"""Characters of an error, which may repeat all that the server said."""


class FetchFailed(Exception):
    """The text says why."""


def tls_context(url: str) -> ssl.SSLContext:
    """Trusts the system's roots, where a company adds its own, and certifi's. Reading them takes 30 ms and more."""
    if url.startswith("http:"):
        # Nothing is encrypted, and no redirect is followed to where it would be.
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context = httpx2.create_ssl_context(trust_env=False)
    context.load_verify_locations(certifi.where())
    return context


async def fetch(url: str, timeout: float, context: ssl.SSLContext) -> bytes:
    """The document at `url`, within `timeout` seconds in all. Raises `FetchFailed`."""
    try:
        async with asyncio.timeout(timeout):
            return await _get(url, context)
    except TimeoutError:
        raise FetchFailed(f"no complete answer came within {timeout:g} s") from None
    except (httpx2.HTTPError, httpx2.InvalidURL, OSError) as error:
        raise FetchFailed(f"{type(error).__name__}: {error}"[:_SHOWN]) from error


async def _get(url: str, context: ssl.SSLContext) -> bytes:
    # A client for each fetch keeps neither cookies nor a connection that may have died since the last one.
    async with (
        httpx2.AsyncClient(verify=context, trust_env=False, timeout=None, follow_redirects=False) as client,
        client.stream("GET", url, headers={"Accept": "application/json", "Accept-Encoding": "identity"}) as response,
    ):
        if response.status_code != httpx2.codes.OK:
            raise FetchFailed(f"the status is {response.status_code}")
        # What is small on the way could be large when it is unpacked.
        if response.headers.get("Content-Encoding", "identity") != "identity":
            raise FetchFailed("it is compressed, although that was not asked for")
        body = bytearray()
        async for part in response.aiter_raw():
            body += part
            if len(body) > BODY_MAX:
                raise FetchFailed(f"it has more than {BODY_MAX:,} bytes")
        return bytes(body)
