"""The line of each request: collected, and written a few times a second by the event loop.

A line of `logging` takes 10 µs, and wakes the thread that writes it. One of these takes 3 µs.
"""

import asyncio
import atexit
import logging
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache, partial
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import orjson

from todos.types import is_id

if TYPE_CHECKING:
    from web.observation import Observation

INTERVAL = 0.05
"""Seconds for which lines are collected."""
USERS_KEPT = 4096
"""Users whose hashes are remembered, as making one takes a third as long as a line."""

logger = logging.getLogger("web.requests")
"""Its level decides whether there are lines. They do not pass through it."""

TIME = "%Y-%m-%d %H:%M:%S"

type _UserHash = Callable[[str], str | None]


def _as_json(user_hash: _UserHash, request: "Observation") -> str:
    line: dict[str, Any] = {
        "time": datetime.now(UTC),
        "level": "INFO",
        "logger": "web.requests",
        "message": "request",
        "request_id": request.request_id,
    }
    if request.trace_id:
        line["trace_id"] = request.trace_id
    line["method"] = request.method
    line["route"] = request.route
    line["status"] = request.status
    line["ms"] = _milliseconds(request.seconds)
    line["db_ms"] = _milliseconds(request.database)
    line["wait_ms"] = _milliseconds(request.waiting)
    if request.user_id and (user := user_hash(request.user_id)):
        line["user"] = user
    line["bytes"] = request.size
    return orjson.dumps(line, option=orjson.OPT_UTC_Z | orjson.OPT_APPEND_NEWLINE).decode()


def _as_text(request: "Observation", *, in_colour: bool) -> str:
    status = str(request.status)
    if in_colour:
        colour = 32 if request.status < 400 else 33 if request.status < 500 else 31
        status = f"\x1b[{colour}m{status}\x1b[0m"
    return (
        f"{time.strftime(TIME)} INFO web.requests [{request.request_id}] {request.method} "
        f"{request.route} {status} in {request.seconds * 1000:.1f} ms "
        f"({request.database * 1000:.1f} in the database, {request.waiting * 1000:.1f} waiting), {request.size} bytes\n"
    )


def _milliseconds(seconds: float) -> float:
    return int(seconds * 100_000) / 100


class RequestLog:
    """Takes lines while it is open."""

    def __init__(self) -> None:
        self.is_open = False
        self._lines: list[str] = []
        self._form: Callable[[Observation], str] = partial(_as_text, in_colour=False)

    def open(self, user_key: bytes, *, as_json: bool, in_colour: bool = False) -> None:
        """Writes to standard error from now on, unless the level of `web.requests` is above INFO."""

        @lru_cache(USERS_KEPT)
        def user_hash(user_id: str) -> str | None:
            # A path may have anything where the id should be.
            return (
                blake2b(user_id.lower().encode(), key=user_key, digest_size=8).hexdigest() if is_id(user_id) else None
            )

        self.is_open = logger.isEnabledFor(logging.INFO)
        self._form = partial(_as_json, user_hash) if as_json else partial(_as_text, in_colour=in_colour)
        atexit.register(self.flush)

    def add(self, request: "Observation") -> None:
        if not self._lines:
            asyncio.get_running_loop().call_later(INTERVAL, self.flush)
        self._lines.append(self._form(request))

    def flush(self) -> None:
        lines, self._lines = self._lines, []
        if lines:
            sys.stderr.write("".join(lines))


REQUEST_LOG = RequestLog()
