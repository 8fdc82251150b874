"""The line of each request. Those of many requests are written together.

A line of `logging` takes 10 µs, and wakes the thread that writes it. One of these takes 2 µs.
"""

import logging
import sys
import time
from collections.abc import Callable, Iterable
from functools import lru_cache, partial
from hashlib import blake2b
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from web.observation import Observation

INTERVAL = 0.05
"""Seconds for which requests are collected."""
USERS_KEPT = 4096
"""Users whose hashes are remembered, as making one takes a third as long as a line."""

logger = logging.getLogger("web.requests")
"""Its level decides whether there are lines. They do not pass through it."""

TIME = "%Y-%m-%d %H:%M:%S"

type _UserHash = Callable[[str], str | None]


def _as_json(user_hash: _UserHash, request: "Observation") -> str:
    """Nothing has to be escaped: ids are letters and digits, and all other texts are ours."""
    trace = f'"trace_id":"{request.trace_id}",' if request.trace_id else ""
    user = user_hash(request.user_id) if request.user_id else None
    return (
        f'{{"time":"{_iso(request.ended)}","level":"INFO","logger":"web.requests","message":"request",'
        f'"request_id":"{request.request_id}",{trace}"method":"{request.method}","route":"{request.route}",'
        f'"status":{request.status},"ms":{request.seconds * 1000:.2f},"db_ms":{request.database * 1000:.2f},'
        f'"wait_ms":{request.waiting * 1000:.2f},{f'"user":"{user}",' if user else ""}"bytes":{request.size}}}\n'
    )


def _iso(moment: float) -> str:
    return f"{_second(int(moment))}.{int(moment % 1 * 1000):03}Z"


@lru_cache(1)
def _second(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))


def _as_text(request: "Observation", *, in_colour: bool) -> str:
    status = str(request.status)
    if in_colour:
        colour = 32 if request.status < 400 else 33 if request.status < 500 else 31
        status = f"\x1b[{colour}m{status}\x1b[0m"
    at = time.strftime(TIME, time.localtime(request.ended))
    ms, database, waiting = (f"{each * 1000:.1f}" for each in (request.seconds, request.database, request.waiting))
    return (
        f"{at} INFO web.requests [{request.request_id}] {request.method} {request.route} {status} "
        f"in {ms} ms ({database} in the database, {waiting} waiting), {request.size} bytes\n"
    )


class RequestLog:
    """Writes to standard error once it is open."""

    interval = INTERVAL

    def __init__(self) -> None:
        self._form: Callable[[Observation], str] | None = None

    def open(self, user_key: bytes, *, as_json: bool, in_colour: bool = False) -> None:
        """Takes lines from now on, unless the level of `web.requests` is above INFO."""
        # It loads SQLModel. Every command loads this module, and some need no SQLModel.
        from todos.types import is_id

        @lru_cache(USERS_KEPT)
        def user_hash(user_id: str) -> str | None:
            # A path may have anything where the id should be.
            return (
                blake2b(user_id.lower().encode(), key=user_key, digest_size=8).hexdigest() if is_id(user_id) else None
            )

        if logger.isEnabledFor(logging.INFO):
            self._form = partial(_as_json, user_hash) if as_json else partial(_as_text, in_colour=in_colour)
        if not as_json:
            # A developer wants to see the line before those of the next request.
            self.interval = 0.0

    def write(self, requests: Iterable["Observation"]) -> None:
        if form := self._form:
            sys.stderr.write("".join([form(request) for request in requests]))


REQUEST_LOG = RequestLog()
