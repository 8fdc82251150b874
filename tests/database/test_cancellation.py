"""Statements whose time is up: the server ends them, and until then their connections count."""

import asyncio
from uuid import UUID

import psycopg
import pytest

from persistence import tasks
from persistence.postgres.database import Database, open_database
from persistence.postgres.dsn import Dsn
from persistence.postgres.errors import Unavailable
from tests.database.distance import at_a_distance
from tests.database.helpers import LONG, TASK, Admin, eventually, new_user, options

DEADLINE = 0.4


async def create_in_vain(database: Database, user_id: UUID) -> None:
    with pytest.raises(Unavailable):
        await tasks.create(database, user_id, TASK)


@pytest.mark.parametrize("seconds", [0, 0.005, 0.05, 0.2])
async def test_the_server_has_no_more_connections_than_the_limit(
    migrated_dsn: Dsn, admin: Admin, seconds: float
) -> None:
    limits = options(most=2, statement_timeout=DEADLINE + 4 * seconds)
    async with at_a_distance(migrated_dsn, seconds) as dsn, open_database(dsn, limits) as database:
        user_id = await new_user(database)
        seen = set[int]()
        with psycopg.connect(migrated_dsn.conninfo) as locker:
            locker.execute("LOCK TABLE tasks")
            for _ in range(8):
                await asyncio.gather(*(create_in_vain(database, user_id) for _ in range(3)))
                seen.add(len(admin.pids()))
        assert max(seen) <= 2, seen
        await eventually(lambda: database.pool.stats.in_use == 0, LONG)
        assert await tasks.create(database, user_id, TASK)
