"""Clients that keep a copy of a user's tasks by the feed, as an app does that works offline."""

import asyncio
import random
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from tests.faults.http import Cut, Http, Unsent
from tests.sync.cuts import Cuts
from tests.sync.log import Log
from tests.sync.rows import Row

LIMITS = (1, 2, 5, 20, 100, 500)
ANEW, SAVED, RELOADED, OFFLINE = 0.01, 0.04, 0.04, 0.03
"""Shares of the polls before which a reader begins anew, saves its state, goes back to it, or goes offline."""
PAUSE, LONG_PAUSE = 0.02, 3.0
"""Most seconds between two polls, and while a reader is offline."""
PATIENCE = 60.0
"""Seconds that a last poll may take."""


@dataclass
class Reader:
    name: str
    user_id: UUID
    http: Http
    log: Log
    cuts: Cuts
    items: dict[UUID, Row] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    polls: int = 0
    gone: int = 0
    """Times that its cursor could no longer be served."""
    _cursor: str | None = None
    _last: tuple[int, UUID] | None = None
    """The version and the id of the last item since the reader began anew."""
    _saved: tuple[dict[UUID, Row], str | None, tuple[int, UUID] | None] = field(default=({}, None, None))

    async def work(self, ending: asyncio.Event) -> None:
        """Polls at random until the end, and then until there is nothing more."""
        while not ending.is_set():
            chance = random.random()
            if chance < ANEW:
                self._begin()
            elif (chance := chance - ANEW) < SAVED:
                self._saved = dict(self.items), self._cursor, self._last
            elif (chance := chance - SAVED) < RELOADED:
                items, self._cursor, self._last = self._saved
                self.items = dict(items)
            pause = random.uniform(0, LONG_PAUSE if chance - RELOADED < OFFLINE else PAUSE)
            with_cut = self.cuts.arm_read()
            await self.poll(random.choice(LIMITS), with_cut)
            await _wait(ending, pause)

    async def finish(self) -> None:
        """Polls until there is nothing more. Raises `TimeoutError`."""
        try:
            async with asyncio.timeout(PATIENCE):
                while await self.poll(random.choice(LIMITS[2:])) is not False:
                    pass
        finally:
            self.http.close()

    async def poll(self, limit: int, headers: dict[str, str] | None = None) -> bool | None:
        """Asks for the next page and applies it. Returns what the answer says of more pages, None without an answer."""
        query = f"limit={limit}" + (f"&cursor={self._cursor}" if self._cursor else "")
        self.polls += 1
        try:
            answer = await self.http.request("GET", f"/api/{self.user_id}/tasks/changes?{query}", None, headers)
        except (Cut, Unsent):
            await asyncio.sleep(0.02)
            return None
        if answer.status == 200:
            return self._apply(answer.json)
        if answer.status == 410:
            self.gone += 1
            self._begin()
        elif answer.status == 503:
            await asyncio.sleep(0.02)
        else:
            self.faults.append(f"the feed answered {answer.status}: {answer.body[:300]!r}")
            return False
        return None

    def _begin(self) -> None:
        self.items, self._cursor, self._last = {}, None, None

    def _apply(self, page: Any) -> bool:
        for item in page["items"]:
            row = self.log.see(item)
            if self._last and (row.version, row.id) <= self._last:
                self.faults.append(f"after {self._last} came {row}")
            self._last = row.version, row.id
            if row.user_id != self.user_id:
                self.faults.append(f"an item of another user: {row}")
            self.items[row.id] = row
        self._cursor = page["next_cursor"]
        return bool(page["more"])


async def _wait(ending: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await ending.wait()
    except TimeoutError:
        pass
