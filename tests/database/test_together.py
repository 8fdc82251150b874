"""Several statements in one transaction and one round trip: all of them happen, or none."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

from persistence.postgres import pool
from persistence.postgres.connection import PREPARE_AFTER
from persistence.postgres.database import Database, open_database
from persistence.postgres.dsn import Dsn
from persistence.postgres.errors import (
    DeadlineExceeded,
    ForeignKeyViolated,
    InvalidValue,
    OutcomeUnknown,
    UniqueViolated,
)
from persistence.postgres.statement import Step
from tests.database.helpers import FOREVER, LONG, PID, SLEEP, Admin, eventually, options, pid_of, statement
from tests.database.wire import Wire
from tests.faults import pgbouncer
from tests.faults.pgbouncer import PgBouncer
from tests.support.databases import as_owner
from tests.support.servers import PostgresServer

ADD = statement("INSERT INTO notes VALUES (:value) RETURNING value")
READ = statement("SELECT value FROM notes ORDER BY value")
ECHO = statement("SELECT cast(:value AS text) AS value")
LOCKED = statement("SELECT 7 AS value FROM pg_advisory_xact_lock_shared(7)")
LARGE = 1_000_000
"""Characters, of which two do not fit into the buffers of a socket."""


def notes(*values: int) -> list[Step]:
    return [(ADD, {"value": value}) for value in values]


def rows(*values: object) -> list[dict[str, object]]:
    return [{"value": value} for value in values]


@pytest.fixture
def admin(admin: Admin) -> Admin:
    """One who has made a table of notes, of which each is there once."""
    admin.execute("CREATE TABLE notes (value int UNIQUE)")
    return admin


@pytest.fixture
async def database(empty_dsn: Dsn, admin: Admin) -> AsyncIterator[Database]:
    """One connection, and the table of notes."""
    async with open_database(empty_dsn, options(most=1)) as database:
        yield database


@pytest.fixture
def bouncer(postgres: PostgresServer, tmp_path: Path) -> Iterator[PgBouncer]:
    if not pgbouncer.available():
        pytest.skip("PgBouncer is not installed")
    with psycopg.connect(as_owner(postgres.dsn).conninfo, autocommit=True) as owner:
        owner.execute("CREATE TABLE notes (value int UNIQUE)")
    with PgBouncer(tmp_path / "pgbouncer", postgres.port, pool_size=1) as bouncer:
        yield bouncer


async def test_each_statement_returns_its_rows_in_order(database: Database) -> None:
    found = await database.together([*notes(1, 2), (READ, {}), (ADD, {"value": 3}), (READ, {})])
    assert found == [rows(1), rows(2), rows(1, 2), rows(3), rows(1, 2, 3)]
    assert await database.together(notes(4)) == [rows(4)]
    assert await database.together([]) == []


@pytest.mark.parametrize("behind_pooler", [False, True])
async def test_they_take_one_round_trip_and_what_is_prepared_is_used(
    empty_dsn: Dsn, admin: Admin, behind_pooler: bool
) -> None:
    wire = Wire()
    async with (
        wire.relay(empty_dsn) as through,
        open_database(replace(through, behind_pooler=behind_pooler), options(most=1)) as database,
    ):
        for value in range(PREPARE_AFTER + 1):
            await database.together([*notes(2 * value, 2 * value + 1), (READ, {})])
        wire.reset()
        await database.together([*notes(98, 99), (READ, {})])
        sent = "".join(kind for kind, _ in wire.sent)
        # Without a name, a statement that comes twice in a row is parsed once.
        assert sent == ("PBDEBDEPBDES" if behind_pooler else "BDEBDEBDES")
        assert wire.round_trips == 1
        assert not wire.prepares


@pytest.mark.parametrize("place", [0, 1, 2])
async def test_an_error_of_one_undoes_all_and_leaves_the_connection_good(database: Database, place: int) -> None:
    await database.together(notes(1))
    steps = notes(2, 3)
    steps.insert(place, (ADD, {"value": 1}))
    pid = await pid_of(database)
    for _ in range(PREPARE_AFTER + 1):
        with pytest.raises(UniqueViolated):
            await database.together(steps)
    assert await database.together([(READ, {}), (PID, {})]) == [rows(1), rows(pid)]
    assert await database.rows(READ, {}) == rows(1)


async def test_an_error_of_the_commit_undoes_all(database: Database, admin: Admin) -> None:
    admin.execute("ALTER TABLE notes ADD FOREIGN KEY (value) REFERENCES notes (value) DEFERRABLE INITIALLY DEFERRED")
    admin.execute("ALTER TABLE notes ADD COLUMN parent int REFERENCES notes (value) DEFERRABLE INITIALLY DEFERRED")
    orphan = statement("INSERT INTO notes VALUES (:value, 7)")
    pid = await pid_of(database)
    with pytest.raises(ForeignKeyViolated):
        await database.together([(orphan, {"value": 1}), *notes(2)])
    assert await database.together([(READ, {}), (PID, {})]) == [[], rows(pid)]


async def test_a_value_that_cannot_be_sent_undoes_all(database: Database) -> None:
    with pytest.raises(InvalidValue):
        await database.together([*notes(1), (ECHO, {"value": "\ud800"})])
    assert await database.together([(READ, {}), *notes(1)]) == [[], rows(1)]


async def test_more_is_sent_and_received_than_the_network_holds(database: Database) -> None:
    values = [f"{number}" * LARGE for number in range(8)]
    found = await database.together([(ECHO, {"value": value}) for value in values])
    assert found == [rows(value) for value in values]


async def test_a_prepared_statement_that_a_migration_has_outdated_costs_no_error(
    database: Database, admin: Admin
) -> None:
    for value in range(PREPARE_AFTER + 1):
        await database.together([*notes(value), (READ, {})])
    admin.execute("ALTER TABLE notes ALTER value TYPE text")
    _, found = await database.together([*notes(9), (READ, {})])
    assert found == rows("0", "1", "2", "3", "4", "5", "9")


@pytest.mark.plain("is one server")
async def test_those_that_were_not_finished_run_again_and_happen_once(database: Database, admin: Admin) -> None:
    admin.execute("SELECT pg_advisory_lock(7)")
    # The server has said of the first that it is done.
    running = asyncio.create_task(database.together([*notes(1), (LOCKED, {}), *notes(2)]))
    admin.terminate(await admin.waiting())
    await admin.waiting()
    admin.execute("SELECT pg_advisory_unlock(7)")
    assert await running == [rows(1), rows(7), rows(2)]
    assert await database.rows(READ, {}) == rows(1, 2)


async def test_those_that_were_finished_but_not_yet_committed_do_not_run_again(
    database: Database, admin: Admin
) -> None:
    admin.execute("CREATE FUNCTION dawdle() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(3600); END'")
    admin.execute(
        "CREATE CONSTRAINT TRIGGER dawdle AFTER INSERT ON notes DEFERRABLE INITIALLY DEFERRED"
        " FOR EACH ROW EXECUTE FUNCTION dawdle()"
    )
    running = asyncio.create_task(database.together(notes(1, 2)))
    admin.terminate(await admin.waiting())
    with pytest.raises(OutcomeUnknown):
        await running


async def test_reads_run_again_when_their_connection_is_cut_and_writes_may_have_happened(
    empty_dsn: Dsn, admin: Admin
) -> None:
    wire = Wire()
    admin.execute("SELECT pg_advisory_lock(7)")
    async with wire.relay(empty_dsn) as through, open_database(through, options(most=1)) as database:
        writing = asyncio.create_task(database.together([*notes(1), (LOCKED, {})]))
        admin.terminate(await _cut(wire, admin))
        with pytest.raises(OutcomeUnknown):
            await writing
        reading = asyncio.create_task(database.together([(READ, {}), (LOCKED, {})]))
        await _cut(wire, admin)
        admin.execute("SELECT pg_advisory_unlock(7)")
        assert await reading == [[], rows(7)]


async def _cut(wire: Wire, admin: Admin) -> int:
    waiting = await admin.waiting()
    wire.cut()
    return waiting


async def test_at_the_deadline_the_server_ends_them_and_none_has_happened(
    database: Database, admin: Admin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "CANCEL_TIMEOUT", LONG)
    with pytest.raises(DeadlineExceeded):
        await database.together([*notes(1), (SLEEP, FOREVER), *notes(2)], 0.1)
    assert await database.rows(READ, {}) == []


async def test_what_a_caller_leaves_behind_ends_and_the_connection_comes_free(database: Database, admin: Admin) -> None:
    # The server sends what it has done of them when its buffer is full.
    steps = [*notes(1), (ECHO, {"value": "x" * LARGE}), (SLEEP, FOREVER), *notes(2)]
    running = asyncio.create_task(database.together(steps))
    await admin.waiting()
    running.cancel()
    assert await asyncio.gather(running, return_exceptions=True)
    await eventually(lambda: database.pool.stats.in_use == 0)
    assert await database.rows(READ, {}) == []
    assert not admin.pids("state = 'active'")


async def test_behind_a_real_pooler_they_are_one_transaction_too(bouncer: PgBouncer) -> None:
    through = replace(Dsn.parse(bouncer.url), behind_pooler=True)
    async with open_database(through, options(most=2)) as database:
        await database.together([(ECHO, {"value": "x" * LARGE}), *notes(1, 2), (ECHO, {"value": "y" * LARGE})])

        async def fail(value: int) -> None:
            with pytest.raises(UniqueViolated):
                await database.together(notes(value, 1, value + 1))

        await asyncio.gather(*(fail(value) for value in range(10, 20)))
        found = await asyncio.gather(*(database.together([(READ, {}), *notes(value)]) for value in range(3, 9)))
        assert [len(read) for read, _ in found] == [2, 3, 4, 5, 6, 7]
        # The server that PgBouncer has, with one client after the other, is not left in a transaction.
        running = asyncio.create_task(database.together([*notes(9), (SLEEP, FOREVER)]))
        await asyncio.sleep(0.1)
        bouncer.restart()
        with pytest.raises(OutcomeUnknown):
            await running
