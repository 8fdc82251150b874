"""PostgreSQL's plans for the feed of changes and the trash, beside thousands of deleted tasks."""

from collections.abc import Iterator
from uuid import UUID, uuid4

import psycopg
import pytest

from persistence import trash
from persistence.changes import CHANGES
from persistence.postgres.dsn import Dsn
from persistence.postgres.statement import Statement
from tests.database.plans import LIMIT, OWN, OWNER, PLANS, SLACK, Plan, explain, filled_database
from tests.support.helpers import Json

pytestmark = pytest.mark.plain("reads plans, in which tasks are one table")

DELETED = 4000
"""Tasks of Alice's in the trash, and as many tombstones."""
# All tasks of each user have versions of their own below its revision; of every two that are deleted one is erased.
DELETE = f"""
INSERT INTO tasks (id, user_id, title, is_erased, deleted_at)
SELECT md5('deleted ' || turn)::uuid,
    CASE WHEN turn % 5 > 0 THEN '{OWNER}' ELSE md5('user ' || 1 + turn % 100)::uuid END,
    '(erased)', turn % 2 = 0, now() - turn * interval '1 minute'
FROM generate_series(1, {DELETED * 5 // 2}) AS turn;
UPDATE tasks SET version = 1000 + numbered.number
FROM (
    SELECT user_id, id, row_number() OVER (PARTITION BY user_id ORDER BY md5(id::text)) AS number FROM tasks
) AS numbered
WHERE tasks.user_id = numbered.user_id AND tasks.id = numbered.id;
UPDATE users SET horizon = 1000, revision = (SELECT max(version) FROM tasks WHERE user_id = users.id);
"""
LAST_ID = UUID(int=(1 << 128) - 1)

each_plan = pytest.mark.parametrize("plan", PLANS)


@pytest.fixture(scope="module")
def connection(server: Dsn, template: str) -> Iterator[psycopg.Connection]:
    with filled_database(server, template) as connection:
        connection.execute(DELETE.encode())
        connection.execute("VACUUM (ANALYZE) users, tasks")
        yield connection


@pytest.fixture
def revision(connection: psycopg.Connection) -> int:
    row = connection.execute("SELECT revision FROM users WHERE id = %s", [OWNER]).fetchone()
    assert row
    assert row[0] == 1000 + OWN + 2 * DELETED
    number: int = row[0]
    return number


def place(version: int, since: int | None, task_id: UUID = LAST_ID) -> Json:
    return {"version": version, "id": task_id, "since": since, "seen": max(version, since or 0)}


def indexes_of_tasks(found: Plan) -> set[str]:
    # The row of a user is found by either of its two keys.
    return {index for index in found.indexes if "tasks" in index}


def explain_changes(connection: psycopg.Connection, plan: str, **values: object) -> Plan:
    found = explain(connection, CHANGES, plan, **values)
    assert indexes_of_tasks(found) == {"ix_tasks_changes"}, found.text
    # A loop over one row keeps the order of the index.
    assert found.kinds <= {"Nested Loop", "Limit", "Index Scan", "Index Only Scan", "Result"}, found.text
    return found


@each_plan
def test_a_poll_without_news_reads_the_owner_and_the_end_of_the_index(
    connection: psycopg.Connection, revision: int, plan: str
) -> None:
    for since in (revision, 1000):
        found = explain_changes(connection, plan, **place(revision, since))
        assert found.read == 0, found.text
        assert found.pages <= SLACK, found.text


@each_plan
def test_news_are_read_in_order_and_nothing_else_is(connection: psycopg.Connection, revision: int, plan: str) -> None:
    for version, limit in ((revision - 5, LIMIT), (revision - 2000, LIMIT), (1000, LIMIT), (1000, 501)):
        found = explain_changes(connection, plan, limit=limit, **place(version, 1000))
        assert found.read == found.returned == min(limit, revision - version), found.text
        assert found.pages <= found.returned + SLACK, found.text


@each_plan
def test_a_first_walk_reads_what_it_passes_over_as_well_and_no_further_than_its_page(
    connection: psycopg.Connection, revision: int, plan: str
) -> None:
    found = explain_changes(connection, plan, **place(0, None, UUID(int=0)))
    assert found.returned == LIMIT
    # Of 11,000 there are 3,000 live.
    assert found.read <= 6 * LIMIT, found.text


@each_plan
def test_only_a_cursor_from_beyond_the_revision_looks_for_the_newest_task(
    connection: psycopg.Connection, revision: int, plan: str
) -> None:
    found = explain_changes(connection, plan, **place(revision + 1, 1000))
    assert found.read == 1, found.text
    assert found.pages <= 2 * SLACK, found.text


@each_plan
@pytest.mark.parametrize("statement", [trash.PAGE, trash.PAGE_AFTER], ids=["first", "after"])
def test_a_page_of_the_trash_reads_what_it_returns(
    connection: psycopg.Connection, statement: Statement, plan: str
) -> None:
    row = connection.execute("SELECT now() - interval '2 days'").fetchone()
    assert row
    for limit in (LIMIT, 501):
        found = explain(connection, statement, plan, limit=limit, after=row[0])
        assert found.indexes == {"ix_tasks_trash"}, found.text
        assert found.returned == limit
        found.assert_reads_only_what_it_returns()


@each_plan
def test_a_limit_beyond_what_most_users_have_makes_no_difference(
    connection: psycopg.Connection, revision: int, plan: str
) -> None:
    # PostgreSQL guesses that a user that it does not know has about as many tasks as all others.
    row = connection.execute("SELECT id FROM users WHERE id <> %s LIMIT 1", [OWNER]).fetchone()
    assert row
    for limit in (101, 501):
        explain_changes(connection, plan, limit=limit, user_id=row[0], **place(0, None, UUID(int=0)))
        found = explain(connection, trash.PAGE, plan, limit=limit, user_id=row[0])
        assert found.indexes == {"ix_tasks_trash"}, found.text
        assert "Sort" not in found.kinds, found.text


@each_plan
def test_erasing_finds_a_task_by_its_key_and_anothers_as_none(connection: psycopg.Connection, plan: str) -> None:
    query = "SELECT id FROM tasks WHERE user_id {} %s AND deleted_at IS NOT NULL AND NOT is_erased LIMIT 1"
    own, theirs = (connection.execute(query.format(sign).encode(), [OWNER]).fetchone() for sign in ("=", "<>"))
    assert own
    assert theirs
    for task, returned in ((own[0], 1), (theirs[0], 0), (uuid4(), 0)):
        found = explain(connection, trash.ERASE, plan, task_id=task)
        assert indexes_of_tasks(found) == {"pk_tasks"}, found.text
        assert (found.returned, found.removed) == (returned, 0), found.text


@each_plan
def test_emptying_reads_each_task_that_it_erases_a_few_times(connection: psycopg.Connection, plan: str) -> None:
    found = explain(connection, trash.ERASE_SOME, plan, limit=100)
    assert "ix_tasks_trash" in found.indexes, found.text
    assert "Seq Scan" not in found.kinds, found.text
    # Each is found, looked up and changed.
    assert (found.read <= 3 * 100, found.removed) == (True, 0), found.text
