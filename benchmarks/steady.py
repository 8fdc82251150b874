"""The number of database connections that are opened under steady load: none, if the pool keeps its connections."""

import time
from datetime import datetime
from typing import Any

import psycopg

from benchmarks import this_project, wrk
from benchmarks.operations import GET, LIST
from benchmarks.options import Options
from benchmarks.postgres import Postgres
from benchmarks.tables import Goal, markdown

CLIENTS = (16, 64, 256)
WARM_UP, SECONDS, QUICK_SECONDS = 1.0, 30.0, 3.0
FLUSHED = 0.3
"""Seconds until PostgreSQL's statistics surely include every connection that was opened."""
REQUESTS = 1000

_SESSIONS = """
SELECT pg_stat_clear_snapshot(), (SELECT sessions FROM pg_stat_database WHERE datname = current_database()), now()
"""
_NEWER = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND backend_type = 'client backend' AND backend_start > %s
"""


def run(options: Options, database: Postgres) -> dict[str, Any]:
    seconds = QUICK_SECONDS if options.quick else SECONDS
    requests = [one for pair in zip(GET.requests(REQUESTS, 1), LIST.requests(REQUESTS, 2), strict=True) for one in pair]
    found = []
    with (
        psycopg.connect(database.dsn.conninfo, autocommit=True) as connection,
        this_project.serving(database.port) as server,
    ):
        for clients in CLIENTS:
            wrk.run(server.port, requests, clients, WARM_UP)
            before, since = _sessions(connection)
            done = wrk.run(server.port, requests, clients, seconds)
            after, _ = _sessions(connection)
            [newer] = connection.execute(_NEWER, [since]).fetchone() or [0]
            found.append({"clients": clients, "rate": done.rate, "p99": done.p99, "new": max(after - before, newer)})
    return {"seconds": seconds, "loads": found}


def table(result: dict[str, Any]) -> str:
    header = [
        f"Clients, {result['seconds']:g} s of steady reads", "requests/s", "p99 ms", "new connections to the database",
    ]  # fmt: skip
    rows = [
        [str(each["clients"]), f"{each['rate']:,.0f}", f"{each['p99']:.1f}", str(each["new"])]
        for each in result["loads"]
    ]
    return markdown(header, rows)


def goals(result: dict[str, Any]) -> list[Goal]:
    new = sum(each["new"] for each in result["loads"])
    return [Goal("new database connections under steady load: 0", str(new), new == 0)]


def _sessions(connection: psycopg.Connection) -> tuple[int, datetime]:
    """Returns the number of connections opened until now, and the time."""
    time.sleep(FLUSHED)
    _, sessions, now = connection.execute(_SESSIONS).fetchone() or (None, 0, None)
    return sessions, now
