"""Migrations: up and down, revision by revision, without losing data (D11, D30)."""

import re
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from psycopg.rows import dict_row

from persistence import history, migrator
from persistence.history import MigrationError
from persistence.migrator import RevisionRun
from persistence.postgres.database import Database, open_database
from persistence.postgres.dsn import Dsn
from tests.database.helpers import Admin
from tests.database.test_schema import Schema, describe

REVISIONS = list(history.revisions())
BEFORE = dict(zip(REVISIONS, ["base", *REVISIONS], strict=False))
"""The revision before each, with which it is taken back."""


def schema_of(dsn: Dsn) -> Schema:
    with psycopg.connect(dsn.conninfo) as connection:
        return describe(connection)


def insert_data(dsn: Dsn) -> None:
    """One user with one task, in every column that the first revision made."""
    user, now = uuid4(), datetime.now(UTC)
    with psycopg.connect(dsn.conninfo) as connection:
        connection.execute(
            "INSERT INTO users VALUES (%s, 'alice@example.com', 'hash', 'Alice', false, true, %s, %s)", [user, now, now]
        )
        connection.execute(
            "INSERT INTO tasks VALUES (%s, %s, 'Buy milk', 'Two', 'completed', 'high', %s, '{a,b}', %s, %s, %s)",
            [uuid4(), user, now, now, now, now],
        )


def data_of(dsn: Dsn) -> list[list[tuple[Any, ...]]]:
    with psycopg.connect(dsn.conninfo) as connection, connection.cursor(row_factory=dict_row) as cursor:
        return [
            [
                # Revision 0016 raises them.
                tuple(value for name, value in row.items() if name not in ("revision", "horizon"))
                for row in cursor.execute(f"SELECT * FROM {table} ORDER BY id".encode())
            ]
            for table in ("users", "tasks")
        ]


def run_as_psql_does(dsn: Dsn, printed: str) -> None:
    """Runs one statement after the other: CREATE INDEX CONCURRENTLY may not stand among others."""
    with psycopg.connect(dsn.conninfo, autocommit=True) as connection:
        for statement in printed.split(";\n\n"):
            if statement.strip():
                connection.execute(statement.encode())


def test_it_goes_up_and_down_step_by_step_and_has_nothing_to_do_the_second_time(empty_dsn: Dsn) -> None:
    reported: list[RevisionRun] = []
    assert migrator.current(empty_dsn) is None
    runs = migrator.migrate(empty_dsn, "0003", reported.append)
    runs += migrator.migrate(empty_dsn, report=reported.append)
    assert runs == reported
    assert [(run.revision, run.direction) for run in runs] == [(revision, "up") for revision in REVISIONS]
    assert [run.description for run in runs] == list(history.revisions().values())
    assert all(run.duration >= 0 for run in runs)
    assert migrator.current(empty_dsn) == history.head() == REVISIONS[-1]
    assert migrator.migrate(empty_dsn) == []
    back = migrator.migrate(empty_dsn, "0002")
    assert [(run.revision, run.direction) for run in back] == [
        (revision, "down") for revision in reversed(REVISIONS[2:])
    ]
    assert migrator.current(empty_dsn) == "0002"


def test_the_way_down_of_each_revision_ends_where_its_way_up_began(empty_dsn: Dsn) -> None:
    before: dict[str, Schema] = {}
    for revision in REVISIONS:
        before[revision] = schema_of(empty_dsn)
        migrator.migrate(empty_dsn, revision)
        assert schema_of(empty_dsn) != before[revision]
    for revision in reversed(REVISIONS):
        migrator.migrate(empty_dsn, BEFORE[revision])
        assert schema_of(empty_dsn) == before[revision]
    assert schema_of(empty_dsn) == {}
    assert migrator.current(empty_dsn) is None


def test_each_revision_goes_up_and_down_and_up_again_on_a_database_with_data(empty_dsn: Dsn) -> None:
    migrator.migrate(empty_dsn, REVISIONS[0])
    insert_data(empty_dsn)
    first = data_of(empty_dsn)
    for revision in REVISIONS[1:]:
        older = data_of(empty_dsn)
        migrator.migrate(empty_dsn, revision)
        # The columns that a revision adds stand after the older ones.
        assert [
            [row[: len(old)] for row, old in zip(rows, olds, strict=True)]
            for rows, olds in zip(data_of(empty_dsn), older, strict=True)
        ] == older
        newer = schema_of(empty_dsn)
        migrator.migrate(empty_dsn, BEFORE[revision])
        assert data_of(empty_dsn) == older
        migrator.migrate(empty_dsn, revision)
        assert schema_of(empty_dsn) == newer
    migrator.migrate(empty_dsn, REVISIONS[0])
    assert data_of(empty_dsn) == first


@pytest.mark.plain("has the schema of the models")
def test_the_sql_that_it_prints_makes_the_same_schema_and_leads_back(empty_dsn: Dsn, dsn: Dsn) -> None:
    printed = migrator.sql(None, "head")
    # Each revision is a transaction, and something is done between two of 0005, 0008, 0010, 0014 and 0016.
    ends = [re.findall(f"^{end};$", printed, re.MULTILINE) for end in ("BEGIN", "COMMIT")]
    assert [len(found) for found in ends] == [len(REVISIONS) + 5] * 2
    run_as_psql_does(empty_dsn, printed)
    assert schema_of(empty_dsn) == schema_of(dsn)
    assert migrator.migrate(empty_dsn) == []
    run_as_psql_does(empty_dsn, migrator.sql(history.head(), "base"))
    assert schema_of(empty_dsn) == {}


@pytest.mark.parametrize("revision", ["0999", "-1", "0001:0002", ""])
def test_a_revision_that_does_not_exist_is_refused(dsn: Dsn, revision: str) -> None:
    message = f"^There is no revision {revision} in this code; there are base, {', '.join(REVISIONS)}$"
    with pytest.raises(MigrationError, match=message):
        migrator.migrate(dsn, revision)
    with pytest.raises(MigrationError, match=message):
        migrator.sql(None, revision)


def test_a_database_is_behind_up_to_date_or_ahead_and_then_left_alone(migrated_dsn: Dsn, admin: Admin) -> None:
    assert [history.state(revision) for revision in (None, "0001", history.head())] == [
        "behind",
        "behind",
        "up-to-date",
    ]
    before = schema_of(migrated_dsn)
    admin.execute("UPDATE alembic_version SET version_num = '0999'")
    assert history.state(migrator.current(migrated_dsn)) == "unknown"
    for target in ("head", "0001"):
        with pytest.raises(MigrationError, match=rf"^{re.escape(history.ahead('0999'))}$"):
            migrator.migrate(migrated_dsn, target)
    assert schema_of(migrated_dsn) == before


async def test_the_applied_revision_can_be_asked_for_through_the_pool(database: Database, empty_dsn: Dsn) -> None:
    assert await migrator.applied_revision(database, 60) == history.head()
    async with open_database(empty_dsn) as other:
        assert await migrator.applied_revision(other, 60) is None
        migrator.migrate(empty_dsn, "0001")
        migrator.migrate(empty_dsn, "base")
        assert await migrator.applied_revision(other, 60) is None


def test_asking_a_database_that_cannot_be_reached_fails_with_the_reason(dsn: Dsn) -> None:
    for ask in (migrator.current, migrator.migrate):
        with pytest.raises(psycopg.OperationalError, match='database "nowhere" does not exist'):
            ask(dsn.with_database("nowhere"))
