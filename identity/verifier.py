"""From a token to the id of its user, quickly: a token that was verified is remembered (D33)."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from hashlib import blake2b
from time import time

from identity import tokens
from identity.key_store import PACE, KeyStore, Pace
from identity.keys import Key
from identity.options import TokenRules

VERIFIED_MAX = 10_000
"""Tokens that are remembered. Each takes some 300 bytes."""


class Verifier:
    def __init__(self, rules: TokenRules, store: KeyStore) -> None:
        self._rules, self._store = rules, store
        # By digest, so that no token is in the memory of the process for longer than its request.
        self._verified: dict[bytes, tuple[str, int, Key]] = {}

    def known(self, token: str) -> str | None:
        """The user of a token that was verified before, is still valid, and whose key is still published.

        The id has the form that it has in paths, because making a text of it takes as long as the rest. Takes about a
        microsecond. None says nothing about the token: ask `user_id`.
        """
        return self._known(_digest(token))

    def _known(self, digest: bytes) -> str | None:
        entry = self._verified.get(digest)
        if entry:
            user_id, expires, key = entry
            if time() < expires and self._store.keys.get(key.kid) is key:
                return user_id
        return None

    async def user_id(self, token: str) -> str:
        """The user of a token. Raises `InvalidToken`, and `KeysUnavailable` if its key is unknown and cannot be had."""
        digest = _digest(token)
        if user_id := self._known(digest):
            return user_id
        parsed = tokens.parse(token, self._rules)
        key = await self._store.key(parsed.kid)
        verified, expires = tokens.verify(parsed, key, self._rules)
        user_id = str(verified)
        if len(self._verified) >= VERIFIED_MAX:
            del self._verified[next(iter(self._verified))]
        self._verified[digest] = user_id, expires, key
        return user_id


def _digest(token: str) -> bytes:
    # In a server sha256 costs 5 µs more, as OpenSSL's code for it is not in the processor's cache. A token with a lone
    # surrogate, which is refused later, must not fail here.
    return blake2b(token.encode(errors="surrogatepass"), digest_size=32).digest()


@asynccontextmanager
async def open_verifier(rules: TokenRules, timeout: float, pace: Pace = PACE) -> AsyncIterator[Verifier]:
    """Fetches keys in the background while it is open, and does not wait for the first ones.

    `timeout` is the longest wait of a token for its key, in seconds.
    """
    store = KeyStore(rules.jwks_url, timeout, pace)
    fetching = asyncio.create_task(store.run())
    try:
        yield Verifier(rules, store)
    finally:
        fetching.cancel()
        await asyncio.wait([fetching])
