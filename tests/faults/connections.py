"""What the server holds: its connections to PostgreSQL, as PostgreSQL sees them, and the sockets of its processes."""

import asyncio
import threading
import time
from collections import Counter
from dataclasses import dataclass
from typing import Self

import psutil
import psycopg

from persistence.postgres.database import APPLICATION_NAME

SAMPLE_EVERY = 0.02
SETTLE_TIMEOUT = 10.0

# What a backend says of itself while it starts or ends is no state of a transaction.
_STATES = """
    SELECT coalesce(state, 'starting'), extract(epoch FROM clock_timestamp() - state_change)::float8
    FROM pg_stat_activity
    WHERE application_name = %s AND datname = current_database() AND backend_type = 'client backend'
"""


class Watch:
    """Looks at the server's connections to a database many times a second; PostgreSQL may be away meanwhile."""

    def __init__(self, conninfo: str) -> None:
        self.most = 0
        """The most that there were at once."""
        self.most_by_state: Counter[str] = Counter()
        self.longest_idle_in_transaction = 0.0
        """In seconds, as far as samples show it."""
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

    def forget(self) -> None:
        """Begins anew."""
        self.most, self.longest_idle_in_transaction = 0, 0.0
        self.most_by_state.clear()

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
        self.most = max(self.most, len(rows))
        for state, number in Counter(state for state, _ in rows).items():
            self.most_by_state[state] = max(self.most_by_state[state], number)
        waits = [seconds or 0.0 for state, seconds in rows if state.startswith("idle in transaction")]
        self.longest_idle_in_transaction = max(self.longest_idle_in_transaction, *waits, 0.0)


async def settled(conninfo: str, limit: int) -> int:
    """Waits until all connections are idle and no more than the limit, and says how many are not after all."""
    return await asyncio.to_thread(_settle, conninfo, limit)


def _settle(conninfo: str, limit: int) -> int:
    deadline = time.monotonic() + SETTLE_TIMEOUT
    with _connect(conninfo) as connection:
        while True:
            states = [state for state, _ in connection.execute(_STATES, [APPLICATION_NAME]).fetchall()]
            busy = sum(state != "idle" for state in states)
            too_many = max(busy, len(states) - limit)
            if too_many <= 0 or time.monotonic() > deadline:
                return max(0, too_many)
            time.sleep(SAMPLE_EVERY)


def _connect(conninfo: str) -> psycopg.Connection[tuple[str, float | None]]:
    return psycopg.connect(conninfo, application_name="watch", autocommit=True, connect_timeout=2)


@dataclass(frozen=True)
class Holdings:
    """What one process holds open."""

    database: int
    """Sockets to the database's port."""
    clients: int
    """Sockets of clients that are connected to its own port."""
    others: int
    """Every other descriptor."""
    memory: int
    """Bytes that are resident."""

    @classmethod
    def of(cls, process: psutil.Process, database_port: int, web_port: int) -> Self:
        sockets = process.net_connections("tcp")
        database = sum(bool(each.raddr) and each.raddr.port == database_port for each in sockets)
        clients = sum(bool(each.raddr) and each.laddr.port == web_port for each in sockets)
        return cls(database, clients, process.num_fds() - database - clients, process.memory_info().rss)


def workers_of(master: int) -> list[psutil.Process]:
    return psutil.Process(master).children()
