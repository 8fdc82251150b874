"""One statement on one connection, at the level of the protocol."""

import asyncio
import resource
from collections.abc import AsyncIterator
from typing import Any

import psycopg
import pytest
from psycopg.pq import TransactionStatus
from sqlalchemy import text

from persistence.postgres import connection as connections
from persistence.postgres.connection import Connection
from persistence.postgres.dsn import Dsn
from persistence.postgres.statement import Statement
from tests.support.servers import eventually

LARGE = 2_000_000
"""More characters than the buffers of two sockets hold."""


@pytest.fixture
async def connection(empty_dsn: Dsn) -> AsyncIterator[Connection]:
    connection = await Connection.connect(empty_dsn.conninfo, autocommit=True, prepare_threshold=None)
    yield connection
    await connection.close()


def statement(query: str) -> Statement:
    return Statement(text(query), dict)


async def prepared(connection: Connection) -> list[str]:
    rows = await connection.fetch(statement("SELECT statement FROM pg_prepared_statements ORDER BY name"), {})
    return [row["statement"] for row in rows]


async def test_it_returns_rows_by_the_names_of_their_columns(connection: Connection) -> None:
    rows = await connection.fetch(statement("SELECT n AS number, 'x' AS letter FROM generate_series(1, 2) AS n"), {})

    assert rows == [{"number": 1, "letter": "x"}, {"number": 2, "letter": "x"}]


async def test_it_returns_no_rows_where_there_are_none(connection: Connection) -> None:
    assert await connection.fetch(statement("SELECT 1 AS value WHERE false"), {}) == []
    assert await connection.fetch(statement("CREATE TABLE notes (note text)"), {}) == []


async def test_it_sends_and_receives_more_than_the_network_holds(connection: Connection) -> None:
    echo = statement("SELECT repeat(cast(:value AS text), 2) AS value")
    value = "é" * LARGE

    async with asyncio.timeout(30):
        [row] = await connection.fetch(echo, {"value": value})
    assert row["value"] == value + value


async def test_it_prepares_what_is_used_often(connection: Connection) -> None:
    often = statement("SELECT cast(:value AS int) AS value")

    for value in range(connections.PREPARE_AFTER):
        assert await connection.fetch(often, {"value": value}) == [{"value": value}]
    assert await prepared(connection) == []
    for value in range(3):
        assert await connection.fetch(often, {"value": value}) == [{"value": value}]
    assert await prepared(connection) == [often.text]


async def test_a_statement_that_was_built_anew_is_the_same_statement(connection: Connection) -> None:
    for value in range(connections.PREPARE_AFTER + 1):
        await connection.fetch(statement("SELECT cast(:value AS int) AS value"), {"value": value})

    assert len(await prepared(connection)) == 1


async def test_it_prepares_nothing_when_told_so(connection: Connection) -> None:
    connection.behind_pooler = True

    for _ in range(2 * connections.PREPARE_AFTER):
        assert await connection.fetch(statement("SELECT 1 AS value"), {}) == [{"value": 1}]
    assert await prepared(connection) == []


async def test_it_bounds_what_it_prepares_and_what_it_counts(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "PREPARED_MAX", 3)
    monkeypatch.setattr(connections, "COUNTED_MAX", 7)

    for number in range(20):
        for _ in range(connections.PREPARE_AFTER + 1):
            assert await connection.fetch(statement(f"SELECT {number} AS value"), {}) == [{"value": number}]
    for number in range(20):
        await connection.fetch(statement(f"SELECT 'once {number}' AS value"), {})

    assert await prepared(connection) == [f"SELECT {number} AS value" for number in range(3)]
    assert len(connection._uses) <= 7


@pytest.mark.parametrize("query", ["SELECT * FROM nowhere", "SELECT 1 / cast(:value AS int)", "SELECT 'x'::int"])
async def test_a_failed_statement_leaves_the_connection_good(connection: Connection, query: str) -> None:
    for _ in range(2 * connections.PREPARE_AFTER):
        with pytest.raises(psycopg.DatabaseError) as caught:
            await connection.fetch(statement(query), {"value": 0})
        assert caught.value.sqlstate
        assert connection.pgconn.transaction_status == TransactionStatus.IDLE
    assert await connection.fetch(statement("SELECT 1 AS value"), {}) == [{"value": 1}]


async def test_an_error_names_the_rule_that_was_broken(connection: Connection) -> None:
    await connection.fetch(statement("CREATE TABLE notes (note text CONSTRAINT no_x CHECK (note <> 'x'))"), {})

    with pytest.raises(psycopg.errors.CheckViolation) as caught:
        await connection.fetch(statement("INSERT INTO notes VALUES (:note)"), {"note": "x"})
    assert caught.value.diag.constraint_name == "no_x"


async def test_a_type_that_changes_under_a_prepared_statement_costs_no_error(
    connection: Connection, empty_dsn: Dsn
) -> None:
    await connection.fetch(statement("CREATE TABLE notes (note int)"), {})
    await connection.fetch(statement("INSERT INTO notes VALUES (7)"), {})
    read = statement("SELECT note FROM notes")
    for _ in range(2 * connections.PREPARE_AFTER):
        assert await connection.fetch(read, {}) == [{"note": 7}]

    with psycopg.connect(empty_dsn.conninfo, autocommit=True) as other:
        other.execute("ALTER TABLE notes ALTER note TYPE text")

    assert await connection.fetch(read, {}) == [{"note": "7"}]
    assert connection.invalidated


async def test_a_prepared_statement_that_is_gone_costs_no_error(connection: Connection) -> None:
    for _ in range(2 * connections.PREPARE_AFTER):
        await connection.fetch(statement("SELECT 1 AS value"), {})
    await connection.execute("DEALLOCATE ALL")

    assert await connection.fetch(statement("SELECT 1 AS value"), {}) == [{"value": 1}]
    assert connection.invalidated


async def test_what_a_session_rolls_back_leaves_prepared_statements_alone(connection: Connection) -> None:
    for _ in range(2 * connections.PREPARE_AFTER):
        await connection.fetch(statement("SELECT 1 AS value"), {})
        async with connection.transaction():
            await connection.execute("SELECT 2")
            raise psycopg.Rollback

    assert len(await prepared(connection)) == 1
    assert not connection.invalidated


async def test_a_statement_that_was_cancelled_leaves_a_connection_that_says_so(connection: Connection) -> None:
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(connection.fetch(statement("SELECT pg_sleep(60)"), {}), 0.1)

    assert connection.pgconn.transaction_status == TransactionStatus.ACTIVE


async def test_a_severed_connection_wakes_who_waits(connection: Connection) -> None:
    asyncio.get_running_loop().call_later(0.1, connection.abort)

    with pytest.raises(psycopg.OperationalError) as caught:
        await connection.fetch(statement("SELECT pg_sleep(60)"), {})
    assert caught.value.sqlstate is None


async def test_a_connection_that_is_gone_fails_at_once(connection: Connection, empty_dsn: Dsn) -> None:
    [row] = await connection.fetch(statement("SELECT pg_backend_pid() AS pid"), {})
    with psycopg.connect(empty_dsn.conninfo, autocommit=True) as other:
        other.execute("SELECT pg_terminate_backend(%s, 5000)", [row["pid"]])

    with pytest.raises(psycopg.OperationalError):
        await connection.fetch(statement("SELECT 1 AS value"), {})
    with pytest.raises(psycopg.OperationalError):
        await connection.fetch(statement("SELECT 1 AS value"), {})


async def test_a_goodbye_between_two_statements_is_heard(connection: Connection, empty_dsn: Dsn) -> None:
    # The notice of a server that ends comes so when it arrives together with the end of an answer.
    await connection.fetch(
        statement("CREATE FUNCTION take_leave() RETURNS void LANGUAGE plpgsql AS 'BEGIN RAISE WARNING ''x''; END'"), {}
    )
    await connection.fetch(statement("SELECT take_leave()"), {})
    assert not connection.invalidated
    with psycopg.connect(empty_dsn.conninfo, autocommit=True) as admin:
        admin.execute("SELECT pg_terminate_backend(%s, 5000)", [connection.info.backend_pid])
    # libpq reads it while nothing is under way.
    connection.pgconn.consume_input()
    connection.pgconn.get_result()

    assert connection.invalidated


async def test_a_statement_is_not_sent_when_the_server_ended_the_connection_while_it_was_prepared(
    connection: Connection, empty_dsn: Dsn
) -> None:
    await connection.fetch(statement("CREATE TABLE notes (note text)"), {})
    insert = statement("INSERT INTO notes VALUES ('x')")
    for _ in range(connections.PREPARE_AFTER):
        await connection.fetch(insert, {})
    connection.invalidated = True
    with pytest.raises(psycopg.errors.AdminShutdown) as refusal:
        await connection.fetch(insert, {})

    assert connection.has_rolled_back(refusal.value)
    with psycopg.connect(empty_dsn.conninfo) as other:
        assert other.execute("SELECT count(*) FROM notes").fetchone() == (connections.PREPARE_AFTER,)


async def test_it_can_be_severed_when_no_file_can_be_opened(connection: Connection) -> None:
    running = asyncio.create_task(connection.fetch(statement("SELECT pg_sleep(60)"), {}))
    await asyncio.to_thread(eventually, lambda: connection.pgconn.transaction_status == TransactionStatus.ACTIVE)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, limits[1]))
    try:
        connection.abort()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)

    with pytest.raises(psycopg.OperationalError):
        await running


async def test_a_name_that_a_pooler_knows_already_stands_for_the_same_statement(connection: Connection) -> None:
    often = statement("SELECT cast(:value AS int) AS value")
    for value in range(connections.PREPARE_AFTER + 1):
        await connection.fetch(often, {"value": value})
    # As if another client of the pooler had done all this.
    connection._names.clear()

    assert await connection.fetch(often, {"value": 7}) == [{"value": 7}]
    assert await connection.fetch(often, {"value": 8}) == [{"value": 8}]
    assert not connection.invalidated
