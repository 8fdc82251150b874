"""Migrations know both worlds: each revision from 0013 on does the same to a plain and to a spread database."""

from typing import Any

import psycopg
import pytest

from persistence import distribution, migrator
from persistence.postgres.dsn import Dsn
from tests.citus.test_distribute import rows
from tests.database.conftest import MigrationFiles
from tests.support.databases import execute

SCHEMA = [
    """
    SELECT attname, format_type(atttypid, atttypmod), attnotnull, pg_get_expr(adbin, adrelid)
    FROM pg_attribute LEFT JOIN pg_attrdef ON (adrelid, adnum) = (attrelid, attnum)
    WHERE attrelid = '{0}'::regclass AND attnum > 0 AND NOT attisdropped
    """,
    # Citus makes the table `users` anew, where PostgreSQL 18 gives NOT NULL other names.
    """
    SELECT CASE contype WHEN 'n' THEN 'a column' ELSE conname END, pg_get_constraintdef(oid), convalidated
    FROM pg_constraint WHERE conrelid = '{0}'::regclass
    """,
    "SELECT indexdef FROM pg_indexes WHERE tablename = '{0}'",
]
"""Columns, rules and indexes of a table."""
DIFFERENT = {
    "CREATE INDEX ix_users_email ON public.users USING btree (email)",
    "CREATE UNIQUE INDEX uq_users_email ON public.users USING btree (email)",
    "uq_users_email",
}
"""The one rule that cannot hold in a spread database, and the index in its place."""


@pytest.fixture
def spread(nodes: list[Dsn]) -> Dsn:
    """A database at 0012, before the revisions that a running service goes through, with rows, and spread."""
    migrator.migrate(nodes[0], "0012")
    execute(
        nodes[0],
        "INSERT INTO users (id, email) SELECT gen_random_uuid(), n || '@example.com' FROM generate_series(1, 20) AS n",
        "INSERT INTO tasks (id, user_id, title) SELECT gen_random_uuid(), id, 'x' FROM users, generate_series(1, 5)",
    )
    distribution.distribute(nodes[0], revision="0012")
    return nodes[0]


def schema_of(dsn: Dsn) -> set[tuple[Any, ...]]:
    found = {row for table in ("users", "tasks") for query in SCHEMA for row in rows(dsn, query.format(table))}
    return {row for row in found if row[0] not in DIFFERENT}


def test_a_spread_database_goes_up_to_the_newest_revision_and_becomes_what_a_plain_one_does(
    spread: Dsn, nodes: list[Dsn], empty_dsn: Dsn
) -> None:
    migrator.migrate(empty_dsn)
    migrator.migrate(spread)
    for node in nodes:
        assert schema_of(node) == schema_of(empty_dsn)
        assert rows(node, "SELECT count(*) FROM tasks") == [(100,)]
        # No client that keeps a copy misses a task.
        assert rows(node, "SELECT count(*) FROM users WHERE revision <> horizon") == [(0,)]
        late = "SELECT count(*) FROM tasks JOIN users ON users.id = user_id WHERE version > revision"
        assert rows(node, late) == [(0,)]
    assert distribution.status(spread).left == []


def test_it_goes_down_to_where_it_was_spread_and_up_again(spread: Dsn) -> None:
    before = schema_of(spread)
    migrator.migrate(spread)
    migrator.migrate(spread, "0012")
    assert schema_of(spread) == before
    migrator.migrate(spread)
    assert rows(spread, "SELECT count(*) FROM tasks") == [(100,)]


def test_the_recipe_for_a_new_column_with_a_rule_works_on_a_spread_database(
    spread: Dsn, nodes: list[Dsn], revisions: MigrationFiles
) -> None:
    rule = "CHECK (char_length(colour) <= 20) NOT VALID"
    revisions.add(
        'op.execute("ALTER TABLE tasks ADD colour text");'
        f' op.execute("ALTER TABLE tasks ADD CONSTRAINT ck_tasks_colour_length {rule}")',
        'op.execute("ALTER TABLE tasks DROP colour")',
    )
    revisions.add('op.execute("ALTER TABLE tasks VALIDATE CONSTRAINT ck_tasks_colour_length")')
    migrator.migrate(spread)
    for node in nodes:
        execute(node, "UPDATE tasks SET colour = 'red'")
        with pytest.raises(psycopg.errors.CheckViolation):
            execute(node, "UPDATE tasks SET colour = repeat('red', 7)")
        rules = "SELECT convalidated FROM pg_constraint WHERE conname = 'ck_tasks_colour_length'"
        assert rows(node, rules) == [(True,)]
    migrator.migrate(spread, "0016")
    assert rows(spread, "SELECT count(*) FROM pg_attribute WHERE attname = 'colour' AND attnum > 0") == [(0,)]
