"""Connections of the web server to PostgreSQL, as PostgreSQL sees them."""

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Self

import psycopg

from persistence.postgres.opening import APPLICATION_NAME
from tests.faults.matrix import Result

SAMPLE_EVERY = 0.02
SETTLE_TIMEOUT = 10.0

# A server process that starts or ends has no state.
_STATES = """
    SELECT coalesce(state, 'starting'), extract(epoch FROM clock_timestamp() - state_change)::float8
    FROM pg_stat_activity
    WHERE application_name = %s AND datname = current_database() AND backend_type = 'client backend'
"""


class Watch:
    """Samples the connections to a database many times a second, in a thread. PostgreSQL may be down meanwhile."""

    def __init__(self, conninfo: str) -> None:
        self.most = 0
        """The largest number of connections in two samples on end.

        A server process that was told to end needs a moment, in which the connection that takes its place may be there.
        """
        self._last = 0
        self.longest_idle_in_transaction = 0.0
        """Seconds, as far as samples show."""
        self.samples = 0
        self._conninfo = conninfo
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def reset(self) -> None:
        self.most, self.longest_idle_in_transaction = 0, 0.0

    def _run(self) -> None:
        while not self._end.is_set():
            try:
                with _connect(self._conninfo) as connection:
                    while not self._end.wait(SAMPLE_EVERY):
                        self._add(connection.execute(_STATES, [APPLICATION_NAME]).fetchall())
            except psycopg.Error:
                self._end.wait(SAMPLE_EVERY)

    def _add(self, rows: list[tuple[str, float | None]]) -> None:
        self.samples += 1
        self.most, self._last = max(self.most, min(self._last, len(rows))), len(rows)
        waits = [seconds or 0.0 for state, seconds in rows if state.startswith("idle in transaction")]
        self.longest_idle_in_transaction = max(self.longest_idle_in_transaction, *waits, 0.0)


async def check_settled(result: Result, conninfo: str, limit: int) -> None:
    """Waits until all connections are idle and within the limit, and adds those that are not to what has leaked."""
    found: list[tuple[str, float | None]] = []

    def count() -> int:
        nonlocal found
        with _connect(conninfo) as connection:
            found = connection.execute(_STATES, [APPLICATION_NAME]).fetchall()
        return max(0, sum(state != "idle" for state, _ in found), len(found) - limit)

    unsettled = await asyncio.to_thread(lowest, count)
    result.leaked += unsettled
    result.expect(not unsettled, f"not {limit} idle connections at most, but these for so many seconds: {found}")


def lowest(count: Callable[[], int]) -> int:
    """Counts again until the number is 0, and returns the last number after `SETTLE_TIMEOUT`. Blocks."""
    deadline = time.monotonic() + SETTLE_TIMEOUT
    while (number := count()) and time.monotonic() < deadline:
        time.sleep(SAMPLE_EVERY)
    return number


def _connect(conninfo: str) -> psycopg.Connection[tuple[str, float | None]]:
    return psycopg.connect(conninfo, application_name="watch", autocommit=True, connect_timeout=2)
