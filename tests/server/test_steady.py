"""No request costs the pool a connection, whatever its answer is: others would have to wait for a new one."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import httpx
import psycopg
import pytest

from persistence import migrator, users
from persistence.postgres import pool
from persistence.postgres.database import APPLICATION_NAME, Database, open_database
from persistence.postgres.dsn import Dsn
from persistence.postgres.options import DatabaseOptions, PoolLimits
from tests.conftest import client_of
from tests.database.test_pool import eventually
from tests.support.helpers import address, make_task

CONNECTIONS = 4
CLIENTS = 64
_OURS = "SELECT pid, backend_start FROM pg_stat_activity WHERE datname = %s AND application_name = %s ORDER BY pid"


@pytest.fixture
async def own_database(empty_dsn: Dsn, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Database]:
    """Migrated, with as many connections as there may be; nobody else is there."""
    # What is cut off costs its connection, and a busy machine may be slow.
    monkeypatch.setattr(pool, "CHECK_AFTER_IDLE", 60.0)
    await asyncio.to_thread(migrator.migrate, empty_dsn)
    limits = PoolLimits(min_size=CONNECTIONS, max_size=CONNECTIONS)
    async with open_database(empty_dsn, DatabaseOptions(limits=limits, statement_timeout=30)) as database:
        await eventually(lambda: database.pool.stats.idle == CONNECTIONS)
        yield database


async def _new_user(database: Database) -> UUID:
    user = await users.create(database, f"{uuid4()}@example.com")
    assert user
    return user


async def _use(client: httpx.AsyncClient, alice: UUID, bob: UUID) -> Counter[int]:
    """What a client may do, and what PostgreSQL or the API refuses; the statuses of the answers."""
    task = await make_task(client, alice)
    answers = [
        await client.get(address(task)),
        await client.get(f"{alice}/tasks", params={"limit": 1, "status": "pending"}),
        await client.get(f"{alice}/tasks/summary"),
        await client.get(f"{alice}/tasks", params={"limit": 0}),
        await client.post(f"{alice}/tasks", json={"title": "Again", "id": task["id"]}),
        await client.post(f"{bob}/tasks", json={"title": "Taken", "id": task["id"]}),
        await client.post(f"{uuid4()}/tasks", json={"title": "Nobody's"}),
        await client.patch(address(task), json={"completed": True}, headers={"If-Match": '"1"'}),
        await client.patch(address(task), json={"completed": True}),
        await client.delete(address(task)),
        await client.delete(address(task)),
    ]
    return Counter(answer.status_code for answer in answers)


async def test_no_answer_costs_a_connection(own_database: Database, server: Dsn, empty_dsn: Dsn) -> None:
    alice, bob = await _new_user(own_database), await _new_user(own_database)
    with psycopg.connect(server.conninfo, autocommit=True) as connection:

        def ours() -> list[tuple[Any, ...]]:
            return connection.execute(_OURS, [empty_dsn.database, APPLICATION_NAME]).fetchall()

        async with client_of(own_database) as client:
            at_first = ours()
            seen = sum(await asyncio.gather(*(_use(client, alice, bob) for _ in range(CLIENTS))), Counter[int]())

        assert len(at_first) == CONNECTIONS
        assert ours() == at_first
    assert set(seen) == {200, 400, 404, 409, 412}
