"""The probes: `health` for a load balancer, `live` for a supervisor of processes."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any
from unittest.mock import Mock
from uuid import uuid4

import psycopg
import pytest

from config import metrics
from persistence import batches, history, migrator, readiness, task_lists, tasks
from persistence.postgres import nodes
from persistence.postgres.cancellation import CANCEL_TIMEOUT
from persistence.postgres.database import Database, open_database
from persistence.postgres.dsn import Dsn
from persistence.postgres.errors import DeadlineExceeded
from persistence.postgres.pool import RENEWED_AFTER
from persistence.postgres.shards import SILENT_AFTER, uuid_hash
from persistence.postgres.statement import Statement
from tests.conftest import client_of
from tests.database.helpers import eventually
from tests.database.test_opening import hosts
from tests.database.test_shards import SLEEP
from tests.faults.proxy import Proxy
from tests.support.databases import as_owner, execute
from tests.support.helpers import Client, Json, limited_role, lost_database
from tests.support.nodes import without_nodes
from tests.support.servers import PostgresServer
from todos import health

HEALTHY = {"status": "healthy", "database": "connected", "migration": "up-to-date"}
DATABASE_TIMEOUT = health.DATABASE_TIMEOUT
UNUSABLE = {"status": "unhealthy", "database": "unusable", "migration": "behind"}
UNHEALTHY = {"status": "unhealthy", "database": "disconnected", "migration": "unknown"}


async def _health(client: Client, status: int) -> Json:
    response = await client.get("v1/health")
    assert response.status_code == response.json()["status_code"] == status
    assert "no-store" in response.headers["Cache-Control"]
    data: Json = response.json()["data"]
    return without_nodes(data)


async def test_a_healthy_service_says_so(client: Client) -> None:
    assert await _health(client, 200) == HEALTHY


async def test_a_database_is_behind_until_all_revisions_are_applied(
    empty_dsn: Dsn, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_database(empty_dsn) as database, client_of(database) as client:
        assert await _health(client, 503) == UNUSABLE
        migrator.migrate(empty_dsn, "0001")
        assert await _health(client, 503) == UNUSABLE
        migrator.migrate(empty_dsn)
        assert await _health(client, 200) == HEALTHY
        # A revision that no statement needs.
        known = history.revisions() | {"9999": "Drop what is not used any more"}
        monkeypatch.setattr(history, "revisions", lambda: known)
        assert await _health(client, 200) == HEALTHY | {"migration": "behind"}


async def test_a_revision_that_the_code_does_not_know_is_unknown(migrated_dsn: Dsn) -> None:
    async with open_database(migrated_dsn) as database, client_of(database) as client:
        execute(migrated_dsn, "UPDATE alembic_version SET version_num = '9999'")
        assert (await _health(client, 200))["migration"] == "unknown"


async def test_a_table_that_a_migration_holds_does_not_make_the_service_unhealthy(
    migrated_dsn: Dsn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "DATABASE_TIMEOUT", 60.0)
    async with open_database(migrated_dsn) as database, client_of(database) as client:
        async with database.connection() as connection:
            await connection.execute("LOCK TABLE tasks IN ACCESS EXCLUSIVE MODE")
            assert await _health(client, 200) == HEALTHY
        assert await _health(client, 200) == HEALTHY


async def test_a_flood_of_probes_leaves_the_connection_for_probes_to_each(
    migrated_dsn: Dsn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "DATABASE_TIMEOUT", 10.0)
    async with open_database(migrated_dsn) as database, client_of(database) as client:
        async with database.connection() as connection:
            # Each check waits for the lock for a moment, so that one after the other they would take longer.
            await connection.execute("LOCK TABLE tasks IN ACCESS EXCLUSIVE MODE")
            answers = await asyncio.gather(*(client.get("v1/health") for _ in range(200)))
        assert {answer.status_code for answer in answers} == {200}
        execute(migrated_dsn, "DROP TABLE alembic_version")
        # Nothing is remembered.
        assert await _health(client, 503) == UNUSABLE


async def test_the_end_of_a_setting_that_only_reads_is_seen_although_sessions_keep_it(migrated_dsn: Dsn) -> None:
    change = f'ALTER DATABASE "{migrated_dsn.database}" {{}} default_transaction_read_only'.format
    execute(migrated_dsn, change("SET") + " = on")
    async with open_database(migrated_dsn) as database, client_of(database) as client:
        assert (await _health(client, 503))["database"] == "read-only"
        execute(migrated_dsn, "SET default_transaction_read_only = off", change("RESET"))
        await asyncio.sleep(RENEWED_AFTER)
        await client.get("v1/health")
        assert await _health(client, 200) == HEALTHY


async def test_every_statement_that_the_server_has_is_asked_about() -> None:
    statements = [value for module in (tasks, task_lists, batches) for value in vars(module).values()]
    known = [statement.text for statement in readiness.STATEMENTS.values()]
    assert {each.text for each in statements if isinstance(each, Statement)} <= {*known}
    assert {"create", "get", "replace", "patch", "delete", "summary", "list"} <= readiness.STATEMENTS.keys()


async def test_a_lost_database_is_unhealthy_and_the_process_is_alive(server: Dsn, empty_dsn: Dsn) -> None:
    async with lost_database(server, empty_dsn) as database, client_of(database) as client:
        assert await _health(client, 503) == UNHEALTHY
        assert (await client.get("v1/live")).status_code == 200


@asynccontextmanager
async def _silent_database(dsn: Dsn) -> AsyncIterator[Callable[[], Awaitable[Json]]]:
    """Gives a probe of a database that answers the rest and not the question for its revision."""
    async with open_database(dsn) as database, client_of(database) as client:
        with psycopg.connect(as_owner(dsn).conninfo) as connection:
            connection.execute("LOCK TABLE alembic_version IN ACCESS EXCLUSIVE MODE")
            yield lambda: _health(client, 503)
        assert await _health(client, 200) == HEALTHY


async def test_a_database_that_does_not_answer_is_unhealthy(migrated_dsn: Dsn, monkeypatch: pytest.MonkeyPatch) -> None:
    async with _silent_database(migrated_dsn) as probe:
        with monkeypatch.context() as short:
            short.setattr(health, "DATABASE_TIMEOUT", 0.05)
            assert await probe() == UNHEALTHY


def test_a_probe_that_gets_no_answer_has_its_own_within_two_seconds() -> None:
    assert DATABASE_TIMEOUT + CANCEL_TIMEOUT < 2


async def test_a_service_with_no_connection_left_for_probes_is_healthy(server: Dsn, migrated_dsn: Dsn) -> None:
    with limited_role(server, migrated_dsn, 2) as dsn:
        async with open_database(dsn) as database, client_of(database) as client:
            assert database.probes is not database
            connections = [await database.pool.check_out() for _ in range(2)]
            for connection in connections:
                database.pool.check_in(connection)
            for _ in range(3):
                assert (await _health(client, 200))["database"] == "connected"


async def test_live_never_touches_the_database() -> None:
    untouchable: Any = Mock(spec_set=[])
    async with client_of(untouchable) as client:
        response = await client.get("v1/live")

    assert (response.status_code, response.json()) == (200, {"status": "alive"})


async def test_both_probes_answer_while_every_connection_is_busy(client: Client, database: Database) -> None:
    connections = [await database.pool.check_out() for _ in range(database.pool.limits.max_size)]
    try:
        assert (await client.get("v1/live")).status_code == 200
        assert await _health(client, 200) == HEALTHY
    finally:
        for connection in connections:
            database.pool.check_in(connection)


async def test_a_database_with_a_silent_node_is_degraded_and_the_service_is_healthy(
    postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nodes, "INTERVAL", 0.05)
    with Proxy(postgres.port) as one, Proxy(postgres.port) as other:
        dsn = hosts(postgres.dsn, one.port, other.port)
        async with open_database(dsn) as database, client_of(database) as client:
            assert (await client.get("v1/health")).json()["data"] == HEALTHY | {"nodes": {"known": 2, "answering": 2}}
            for silent in (one, other):
                silent.stall()
                found = [await client.get(f"v1/{probe}") for _ in range(3) for probe in ("health", "ready")]
                assert {answer.status_code for answer in found} == {200}
                await eventually(lambda: database.nodes.stats.answering == 1)
                answer = (await client.get("v1/health")).json()
                assert metrics.collect(database, None)[1]["todo_database_silent_nodes",] == 1
                assert answer["message"] == "1 of 2 database nodes answer."
                assert answer["data"] == HEALTHY | {"database": "degraded", "nodes": {"known": 2, "answering": 1}}
                assert (await client.get("v1/ready")).json()["data"]["database"] == "degraded"
                silent.resume()
                await eventually(lambda: database.nodes.stats.answering == 2)
            monkeypatch.setattr(health, "DATABASE_TIMEOUT", 0.5)
            one.stall()
            other.stall()
            await eventually(lambda: database.nodes.stats.answering == 0)
            assert await _health(client, 503) == UNHEALTHY | {"nodes": {"known": 2, "answering": 0}}


async def test_a_spread_database_with_a_node_whose_statements_fail_is_degraded(migrated_dsn: Dsn) -> None:
    async with open_database(migrated_dsn) as database, client_of(database) as client:
        database.shards.load([{"least": -(2**31), "node": "left"}, {"least": 0, "node": "right"}])
        assert (await client.get("v1/health")).json()["data"] == HEALTHY | {"nodes": {"known": 2, "answering": 2}}
        owner = next(owner for owner in iter(uuid4, None) if uuid_hash(owner) < 0)
        for _ in range(SILENT_AFTER):
            with pytest.raises(DeadlineExceeded):
                await database.rows(SLEEP, {"user_id": owner, "seconds": 3600.0}, 0.1)
        found = {"database": "degraded", "nodes": {"known": 2, "answering": 1}}
        assert await _health(client, 200) == HEALTHY | found
        assert metrics.collect(database, None)[1]["todo_database_silent_nodes",] == 1
        await database.rows(SLEEP, {"user_id": owner, "seconds": 0.0})
        assert (await _health(client, 200))["database"] == "connected"
