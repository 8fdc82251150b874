"""The issuer's public keys, fetched off the way of requests (D33).

A key that is known is at hand at once, whatever its issuer's server does. A token with an unknown key waits for one
fetch that all such tokens share. It begins after they came, because an issuer may sign with a key that it made a moment
ago (ADR 0027).
"""

import asyncio
import logging
from contextlib import suppress
from dataclasses import dataclass
from math import ceil, inf
from ssl import SSLContext

from identity.errors import InvalidToken, KeysUnavailable
from identity.fetch import FetchFailed, fetch, tls_context
from identity.keys import Key, read_keys

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Pace:
    """Seconds from the beginning of one fetch to that of the next, and seconds of one fetch."""

    first: float = 1.0
    longest: float = 30.0
    """The spacing doubles up to here while fetches fail, or while unknown keys are asked for and not found."""
    refresh: float = 300.0
    """The spacing when nothing is asked for."""
    fetch: float = 3.0


PACE = Pace()
_WOKEN_AT_ONCE = 2


class KeyStore:
    """The keys of one URL. They are fetched while `run` runs; `timeout` is the longest wait for a fetch, in seconds."""

    def __init__(self, url: str, timeout: float, pace: Pace) -> None:
        self.keys: dict[str, Key] = {}
        """The keys of the last fetch that succeeded, by `kid`."""
        self.fetches = {"ok": 0, "failed": 0}
        self._url, self._timeout, self._pace = url, timeout, pace
        self._context: SSLContext | None = None
        self._loop = asyncio.get_running_loop()
        self._succeeded_at = self._loop.time()
        self._begun = self._ended = 0
        self._next_fetch, self._spacing = 0.0, pace.first
        self._is_wanted = asyncio.Event()
        self._waiters = set[asyncio.Future[None]]()
        self._fault: str | None = None
        self._warned_at = -inf

    @property
    def age(self) -> float:
        """Seconds since the last fetch that succeeded, or since the start."""
        return self._loop.time() - self._succeeded_at

    async def key(self, kid: str) -> Key:
        """The key of this name. Only an unknown one waits.

        Raises `InvalidToken` if the issuer does not publish it, and `KeysUnavailable` if that cannot be told.
        """
        if key := self.keys.get(kid):
            return key
        deadline, wanted = self._loop.time() + self._timeout, self._begun + 1
        while self._ended < wanted:
            if self._begun == self._ended:
                if self._next_fetch >= deadline:
                    raise self._unavailable()
                self._is_wanted.set()
            is_over = await self._wait_for_end(deadline)
            # A fetch that ran when the caller came may have brought the key; only if not, another one is wanted.
            if key := self.keys.get(kid):
                return key
            if not is_over:
                raise self._unavailable()
        if self._fault:
            raise self._unavailable()
        raise InvalidToken("The token is signed with a key that its issuer does not publish.")

    async def _wait_for_end(self, deadline: float) -> bool:
        """Waits for a fetch to end; False if none has by then."""
        waiter = self._loop.create_future()
        self._waiters.add(waiter)
        try:
            async with asyncio.timeout_at(deadline):
                await waiter
        except TimeoutError:
            return False
        finally:
            self._waiters.discard(waiter)
        return True

    def _unavailable(self) -> KeysUnavailable:
        return KeysUnavailable(max(1, ceil(self._next_fetch - self._loop.time())))

    async def run(self) -> None:
        """Fetches keys until it is cancelled."""
        while True:
            await self._wait_for_next()
            is_wanted = self._is_wanted.is_set()
            self._is_wanted.clear()
            self._begun += 1
            now = self._loop.time()
            if now > self._next_fetch + self._pace.longest:
                self._spacing = self._pace.first
            self._next_fetch = now + self._spacing
            before = self.keys
            await self._fetch()
            if self.keys.keys() - before.keys():
                self._spacing = self._pace.first
            elif self._fault or is_wanted:
                self._spacing = min(2 * self._spacing, self._pace.longest)
            self._next_fetch = now + self._spacing
            self._ended += 1
            await self._wake()

    async def _wake(self) -> None:
        """Wakes all callers that wait; a few at a time, or answers to thousands would hold up every other request."""
        for number, waiter in enumerate(tuple(self._waiters)):
            if not waiter.done():
                waiter.set_result(None)
            if number % _WOKEN_AT_ONCE == 0:
                await asyncio.sleep(0)

    async def _wait_for_next(self) -> None:
        await asyncio.sleep(self._next_fetch - self._loop.time())
        if self.keys:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._is_wanted.wait(), self._pace.refresh - self._spacing)

    async def _fetch(self) -> None:
        try:
            if self._context is None:
                self._context = await asyncio.to_thread(tls_context, self._url)
            keys = read_keys(await fetch(self._url, self._pace.fetch, self._context), self.keys)
        except FetchFailed as error:
            self._warn(str(error))
        except ValueError:
            self._warn("it is not a set of keys")
        except Exception as error:  # noqa: BLE001 - whatever it is, the next fetch may succeed
            self._warn(type(error).__name__)
        else:
            if not keys:
                # An issuer that signs has a key, so this is a fault of its server.
                self._warn("it holds no usable key")
                return
            if self._fault or keys != self.keys:
                new = len({*keys.values()} - {*self.keys.values()})
                logger.info("The issuer's keys have been fetched: %d, of which %d are new", len(keys), new)
            self.keys, self._fault, self._warned_at = keys, None, -inf
            self.fetches["ok"] += 1
            self._succeeded_at = self._loop.time()

    def _warn(self, fault: str) -> None:
        """Logs the first failure, and later ones rarely."""
        self._fault = fault
        self.fetches["failed"] += 1
        if self._loop.time() - self._warned_at >= self._pace.refresh:
            self._warned_at = self._loop.time()
            known = len(self.keys)
            effect = f"the {known} known ones serve on" if known else "no token can be verified"
            # Some servers of keys want a secret in the query.
            address = self._url.partition("?")[0]
            logger.warning("The issuer's keys cannot be fetched from %s: %s; %s", address, fault, effect)
