"""From a token to the id of its user, quickly: a token that was verified is remembered (D33)."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from time import time

from identity import tokens
from identity.key_store import PACE, KeyStore, Pace
from identity.keys import Key
from identity.options import TokenRules

VERIFIED_MAX = 10_000
"""Tokens that are remembered."""
REMEMBERED_MAX = 2_000
"""Characters of a token that is remembered, so that all take 24 MB at most. A longer one is verified each time."""


class Verifier:
    def __init__(self, rules: TokenRules, store: KeyStore) -> None:
        self._rules, self._store = rules, store
        self._verified: dict[str, tuple[str, int, Key]] = {}

    @property
    def fetches(self) -> Mapping[str, int]:
        """The number of fetches of keys by outcome: `ok` or `failed`."""
        return self._store.fetches

    @property
    def age_of_keys(self) -> float:
        """Seconds since the last fetch that succeeded, or since the start."""
        return self._store.age

    @property
    def has_keys(self) -> bool:
        """True from the first fetch of keys that succeeds."""
        return bool(self._store.keys)

    def known(self, token: str) -> str | None:
        """The user of a token that was verified before, is still valid, and whose key is still published.

        The id has the form that it has in paths, because making a text of it takes as long as the rest. Takes less than
        a microsecond. None says nothing about the token: ask `user_id`.
        """
        entry = self._verified.get(token)
        if entry:
            user_id, expires, key = entry
            if time() < expires and self._store.keys.get(key.kid) is key:
                return user_id
        return None

    async def user_id(self, token: str) -> str:
        """The user of a token. Raises `InvalidToken`, and `KeysUnavailable` if its key is unknown and cannot be had."""
        if user_id := self.known(token):
            return user_id
        parsed = tokens.parse(token, self._rules)
        key = await self._store.key(parsed.kid)
        verified, expires = tokens.verify(parsed, key, self._rules)
        user_id = str(verified)
        if len(token) <= REMEMBERED_MAX:
            if len(self._verified) >= VERIFIED_MAX:
                del self._verified[next(iter(self._verified))]
            self._verified[token] = user_id, expires, key
        return user_id


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
