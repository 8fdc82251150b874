"""The probes: `health` for whoever routes traffic, `live` for whoever restarts processes."""

from time import perf_counter
from typing import Any
from unittest.mock import Mock

import httpx
import pytest

from persistence import migrator
from persistence.postgres.database import Database, open_database
from persistence.postgres.dsn import Dsn
from persistence.postgres.options import DatabaseOptions
from tests.conftest import client_of
from tests.support.helpers import Json, limited_role, lost_database


async def _health(client: httpx.AsyncClient, status: int) -> Json:
    response = await client.get("v1/health")
    assert response.status_code == status
    assert response.headers["Content-Type"] == "application/json"
    assert "no-store" in response.headers["Cache-Control"]
    health: Json = response.json()
    assert set(health) == {"status_code", "message", "data"}
    assert health["status_code"] == status
    assert health["message"]
    data: Json = health["data"]
    return data


async def test_a_healthy_service_says_so(client: httpx.AsyncClient) -> None:
    assert await _health(client, 200) == {"status": "healthy", "database": "connected", "migration": "up-to-date"}


async def test_a_database_without_tables_is_behind(empty_dsn: Dsn) -> None:
    async with open_database(empty_dsn) as database, client_of(database) as client:
        assert await _health(client, 200) == {"status": "healthy", "database": "connected", "migration": "behind"}


async def test_a_database_at_an_older_step_is_behind(empty_dsn: Dsn) -> None:
    migrator.migrate(empty_dsn, "0001")
    async with open_database(empty_dsn) as database, client_of(database) as client:
        assert (await _health(client, 200))["migration"] == "behind"


async def test_a_database_whose_step_nobody_here_knows_is_unknown(empty_dsn: Dsn) -> None:
    migrator.migrate(empty_dsn)
    async with open_database(empty_dsn) as database, client_of(database) as client:
        async with database.connection() as connection:
            await connection.execute("UPDATE alembic_version SET version_num = '9999'")
        assert (await _health(client, 200))["migration"] == "unknown"


async def test_a_migration_is_seen_without_a_restart(empty_dsn: Dsn) -> None:
    async with open_database(empty_dsn) as database, client_of(database) as client:
        assert (await _health(client, 200))["migration"] == "behind"
        migrator.migrate(empty_dsn)
        assert (await _health(client, 200))["migration"] == "up-to-date"


async def test_a_lost_database_is_unhealthy_and_the_process_is_alive(server: Dsn, empty_dsn: Dsn) -> None:
    async with lost_database(server, empty_dsn) as database, client_of(database) as client:
        started = perf_counter()
        data = await _health(client, 503)

        assert perf_counter() - started < 2
        assert data == {"status": "unhealthy", "database": "disconnected", "migration": "unknown"}
        assert (await client.get("v1/live")).status_code == 200


async def test_a_database_that_does_not_answer_is_unhealthy_within_two_seconds(empty_dsn: Dsn) -> None:
    migrator.migrate(empty_dsn)
    async with open_database(empty_dsn, DatabaseOptions()) as database, client_of(database) as client:
        async with database.connection() as connection:
            await connection.execute("LOCK TABLE alembic_version IN ACCESS EXCLUSIVE MODE")
            started = perf_counter()
            data = await _health(client, 503)

            assert perf_counter() - started < 2
            assert data["database"] == "disconnected"
        assert (await _health(client, 200))["status"] == "healthy"


async def test_a_service_with_no_connection_left_for_probes_is_healthy(server: Dsn, empty_dsn: Dsn) -> None:
    migrator.migrate(empty_dsn)
    with limited_role(server, empty_dsn, 2) as dsn:
        async with open_database(dsn) as database, client_of(database) as client:
            assert database.probes is not database
            connections = [await database.pool.check_out() for _ in range(2)]
            for connection in connections:
                database.pool.check_in(connection)
            for _ in range(3):
                assert (await _health(client, 200))["database"] == "connected"


async def test_live_never_touches_the_database(monkeypatch: pytest.MonkeyPatch) -> None:
    untouchable: Any = Mock(spec_set=[])
    async with client_of(untouchable) as client:
        response = await client.get("v1/live")

    assert response.status_code == 200
    assert response.json() == {"status": "alive"}


async def test_live_answers_while_every_connection_is_busy(client: httpx.AsyncClient, database: Database) -> None:
    connections = [await database.pool.check_out() for _ in range(database.pool.limits.max_size)]
    try:
        assert (await client.get("v1/live")).status_code == 200
    finally:
        for connection in connections:
            database.pool.check_in(connection)


async def test_a_service_whose_connections_are_all_busy_is_healthy(
    client: httpx.AsyncClient, database: Database
) -> None:
    connections = [await database.pool.check_out() for _ in range(database.pool.limits.max_size)]
    try:
        assert (await _health(client, 200))["database"] == "connected"
    finally:
        for connection in connections:
            database.pool.check_in(connection)


async def test_a_warm_probe_takes_less_than_20_ms(client: httpx.AsyncClient) -> None:
    times = []
    for _ in range(21):
        started = perf_counter()
        await _health(client, 200)
        times.append(perf_counter() - started)

    assert sorted(times)[10] < 0.02
