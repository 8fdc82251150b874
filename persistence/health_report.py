"""The report of `dbhealth` about a database."""

from dataclasses import dataclass
from statistics import median
from time import perf_counter

from persistence import history, readiness, rights
from persistence.postgres.database import Database
from persistence.postgres.dsn import Dsn

ROUND_TRIPS = 7
TIMEOUT = 5.0


@dataclass(frozen=True)
class Report:
    """Nothing in it is secret; round trips in milliseconds."""

    server_version: str
    host: str
    database: str
    neon_branch: str | None
    transport: str
    round_trip_min_ms: float
    round_trip_median_ms: float
    migration_current: str | None
    migration_head: str
    migration: history.State
    faults: list[str]
    """What keeps the service from working, and how to mend it."""
    excess_rights: list[str]
    """Rights of the role that the server does not need, which keep nothing from working."""


async def examine(database: Database, dsn: Dsn) -> Report:
    """Asks an open database about itself. Costs about ten round trips, and ten more if something is wrong."""
    async with database.connection() as connection:
        times = []
        for _ in range(ROUND_TRIPS):
            started = perf_counter()
            await connection.execute("SELECT 1")
            times.append((perf_counter() - started) * 1000)
        version = connection.info.server_version
        encrypted = connection.pgconn.ssl_in_use
    found = await readiness.check(database, TIMEOUT)
    return Report(
        server_version=f"{version // 10000}.{version % 10000}",
        host=dsn.host,
        database=dsn.database,
        neon_branch=dsn.neon_branch,
        transport="Unix socket" if dsn.is_socket else "TLS" if encrypted else "TCP without TLS",
        round_trip_min_ms=round(min(times), 2),
        round_trip_median_ms=round(median(times), 2),
        migration_current=found.revision,
        migration_head=history.head(),
        migration=found.migration,
        faults=await readiness.faults(database, TIMEOUT) if found.fault else [],
        excess_rights=rights.excess(await database.rows(rights.granted(), {}, TIMEOUT)),
    )
