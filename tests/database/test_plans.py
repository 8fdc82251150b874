"""How PostgreSQL finds what a statement is about: it reads what it returns and little else, however much there is.

No times here: a plan says which index it uses and counts the pages and rows that it read. Each is looked at twice, as
PostgreSQL plans it for the values at hand and as it plans it once for all values.
"""

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import product
from pathlib import Path
from typing import Any, get_args
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg import sql

from persistence import migrator, task_lists, tasks, users
from persistence.postgres.dsn import Dsn
from persistence.postgres.statement import Statement
from persistence.task_lists import SortKey, Start
from tests.support.helpers import Json

READS_MORE = {
    "sort=updated_at": "no index has this order, so all tasks are read and sorted",
    "sort=title": "no index has this order, so all tasks are read and sorted",
    "sort=priority": "an index has the priorities in order, but not the ids within one, so one is read whole",
    "priorities": "newest first until the page is full, or all of these two or three priorities",
    "tags": "all tasks with these tags are read and sorted",
    "due_before": "newest first until the page is full, or all with such a due date if they seem few",
    "due_after": "newest first until the page is full, or all with such a due date if they seem few",
    "overdue": "pending tasks, newest first, or all whose due date has passed if they seem few",
    "not_overdue": "newest first until the page is full",
    "with_due_date": "newest first until the page is full, or all with a due date if they seem few",
    "without_due_date": "newest first until the page is full, or all without a due date if they seem few",
    "updated_before": "newest first until the page is full",
    "updated_after": "newest first until the page is full",
    "words": "the texts of all tasks, newest first, until the page is full",
    "summary": "all tasks are counted",
}
"""The only reads that are not an index range of just what they return; each reads tasks of its user only."""

IN_ORDER = {
    "sort=created_at": "ix_tasks_newest",
    "sort=due_date": "ix_tasks_due_date",
    "status": "ix_tasks_status",
    "priority": "ix_tasks_priority",
    "created_before": "ix_tasks_newest",
    "created_after": "ix_tasks_newest",
}
"""The index for each sort, and for each filter of the newest first."""

SLACK = 12
"""Pages that a statement may read beyond one for each row: the way down an index, twice, and its leaves."""
LIMIT = 21
OWN, RARE, USERS = 3000, 3, 100
OWNER = uuid4()
NOW = datetime.now(UTC)
PLANS = ("force_custom_plan", "force_generic_plan")

# Every third row is Alice's, so that each of her tasks is on a page of its own with those of others; all but a few of
# hers are done and of little importance, as a list looks after some years.
FILL = f"""
INSERT INTO users (id, email) SELECT md5('user ' || number)::uuid, number || '@example.com'
    FROM generate_series(1, {USERS}) AS number;
INSERT INTO users (id, email) VALUES ('{OWNER}', 'alice@example.com');
INSERT INTO tasks (id, user_id, title, status, priority, due_date, tags, created_at, updated_at, completed_at)
SELECT gen_random_uuid(),
    CASE WHEN hers THEN '{OWNER}' ELSE md5('user ' || 1 + turn % {USERS})::uuid END,
    'Task ' || md5(turn::text), (CASE WHEN rare THEN 'pending' ELSE 'completed' END)::task_status,
    (CASE WHEN rare THEN 'high' WHEN turn % 2 = 0 THEN 'low' ELSE 'medium' END)::task_priority,
    CASE WHEN turn % 5 < 2 THEN at + interval '9 days' END,
    CASE WHEN rare THEN ARRAY['rare'] WHEN turn % 4 = 0 THEN ARRAY['work'] ELSE ARRAY[]::text[] END,
    at, at, CASE WHEN NOT rare THEN at END
FROM (
    SELECT turn, turn % 3 = 0 AS hers, turn % {OWN} = 0 AS rare, now() - (3 * {OWN} - turn) * interval '1 hour' AS at
    FROM generate_series(1, 3 * {OWN}) AS turn
) AS rows;
"""

VALUES: Json = {
    "user_id": OWNER,
    "limit": LIMIT,
    "status": "pending",
    "priority": "high",
    "priorities": "{low,medium}",
    "tags": "{work}",
    "words": "{task}",
    "due_before": NOW,
    "due_after": NOW - timedelta(days=99),
    "created_before": NOW - timedelta(days=100),
    "created_after": NOW - timedelta(days=100),
    "updated_before": NOW,
    "updated_after": NOW - timedelta(days=100),
    "after_id": UUID(int=1 << 127),
    "email": "alice@example.com",
    "id": uuid4(),
    "title": "New",
    "description": None,
    "due_date": NOW,
    "versions": None,
    "sends_description": False,
    "sends_due_date": True,
    "new_title": "New",
    "new_description": None,
    "new_status": "completed",
    "new_priority": "low",
    "new_due_date": NOW,
    "new_tags": "{new}",
}
AFTER: dict[SortKey, Any] = {
    "created_at": NOW - timedelta(days=100),
    "updated_at": NOW - timedelta(days=100),
    "due_date": NOW - timedelta(days=100),
    "priority": "medium",
    "title": "task 8",
}


@pytest.fixture(scope="module")
def connection(server: Dsn) -> Iterator[psycopg.Connection]:
    """A migrated database of this module's own, with the tasks of Alice and others."""
    dsn = server.with_database(f"test_{uuid4().hex}")
    name = sql.Identifier(dsn.database)
    with psycopg.connect(server.conninfo, autocommit=True) as admin:
        admin.execute(sql.SQL("CREATE DATABASE {}").format(name))
        try:
            migrator.migrate(dsn)
            with psycopg.connect(dsn.conninfo, autocommit=True, cursor_factory=psycopg.ClientCursor) as connection:
                connection.execute(FILL.encode())
                connection.execute("VACUUM (ANALYZE) users, tasks")
                # The table is so small that reading all of it would often be best.
                connection.execute("SET enable_seqscan = off")
                connection.execute("SET max_parallel_workers_per_gather = 0")
                yield connection
        finally:
            admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))


class Plan:
    """What EXPLAIN ANALYZE says about one run."""

    def __init__(self, plan: Json) -> None:
        self.nodes = list(_nodes(plan))
        self.kinds = {node["Node Type"] for node in self.nodes}
        self.returned = round(plan["Actual Rows"])
        self.pages = plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]
        self.indexes = {node["Index Name"] for node in self.nodes if "Index Name" in node}
        self.removed = sum(
            node.get("Rows Removed by Filter", 0) + node.get("Rows Removed by Index Recheck", 0) for node in self.nodes
        )
        self.read = self.removed + sum(
            round(node["Actual Rows"]) for node in self.nodes if node.get("Relation Name") == "tasks"
        )
        self.text = json.dumps(plan, indent=1)

    def assert_reads_only_what_it_returns(self) -> None:
        assert not self.kinds & {"Seq Scan", "Bitmap Heap Scan", "Incremental Sort"}, self.text
        assert self.removed == 0, self.text
        assert self.read == self.returned, self.text
        assert self.pages <= self.returned + SLACK, self.text


def _nodes(node: Json) -> Iterator[Json]:
    yield node
    for child in node.get("Plans", ()):
        yield from _nodes(child)


def explain(connection: psycopg.Connection, statement: Statement, plan: str, **values: Any) -> Plan:
    """Runs it, and takes back what it wrote."""
    bound = {**VALUES, **values}
    with connection.transaction(force_rollback=True):
        connection.execute(f"SET LOCAL plan_cache_mode = {plan}".encode())
        connection.execute(f"PREPARE statement AS {statement.text}".encode())
        try:
            places = ", ".join(["%s"] * len(statement.parameters))
            row = connection.execute(
                f"EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, FORMAT JSON) EXECUTE statement ({places})".encode(),
                [bound[name] for name in statement.parameters],
            ).fetchone()
        finally:
            connection.execute("DEALLOCATE statement")
    assert row
    return Plan(row[0][0]["Plan"])


def a_list(*filters: str, sort: SortKey = "created_at", descending: bool = True, start: Start = "first") -> Any:
    return task_lists.list_statement(frozenset(filters), sort, descending=descending, start=start)


def starts(sort: SortKey) -> list[Start]:
    return [start for start in get_args(Start.__value__) if start != "after-null" or sort == "due_date"]


SORTS: list[SortKey] = [sort for sort in get_args(SortKey.__value__) if f"sort={sort}" not in READS_MORE]


def test_there_are_as_many_tasks_as_it_takes(connection: psycopg.Connection) -> None:
    counts = connection.execute(
        "SELECT count(*), count(*) FILTER (WHERE status = 'pending'), count(DISTINCT (ctid::text::point)[0])"
        " FROM tasks WHERE user_id = %s",
        [OWNER],
    ).fetchone()

    assert counts
    assert counts[:2] == (OWN, RARE)
    assert counts[2] > 50


def test_every_sort_and_filter_is_either_an_index_range_or_excused() -> None:
    names = {f"sort={sort}" for sort in get_args(SortKey.__value__)} | task_lists.CONDITIONS.keys() | {"summary"}

    assert IN_ORDER.keys() | READS_MORE.keys() == names - {"nothing"}
    assert not IN_ORDER.keys() & READS_MORE
    for name in task_lists.CONDITIONS.keys() - {"nothing"}:
        assert task_lists.has_one_plan(frozenset({name}), "created_at") == (name in IN_ORDER), name


def test_a_filter_that_nothing_can_meet_reads_nothing(connection: psycopg.Connection) -> None:
    for plan in PLANS:
        assert explain(connection, a_list("nothing"), plan).pages == 0


def test_the_documentation_names_every_read_that_reads_more() -> None:
    page = (Path(__file__).parents[2] / "docs/scaling.md").read_text()
    named = re.findall(r"^\| `([a-z_=]+)` \| ([^|]+) \|", page, re.MULTILINE)

    assert dict(named) == READS_MORE


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("sort", SORTS)
def test_a_sort_reads_only_the_page_from_both_ends_and_the_middle(
    connection: psycopg.Connection, sort: SortKey, plan: str
) -> None:
    for descending, start in product((True, False), starts(sort)):
        statement = a_list(sort=sort, descending=descending, start=start)
        found = explain(connection, statement, plan, after=AFTER[sort])

        assert found.indexes == {IN_ORDER[f"sort={sort}"]}, found.text
        assert found.returned == LIMIT
        found.assert_reads_only_what_it_returns()
        # Two ranges of the index of due dates are put together, which sorts one page.
        assert "Sort" not in found.kinds or sort == "due_date", found.text


@pytest.mark.parametrize("plan", PLANS)
def test_the_pages_where_the_due_dates_end_read_only_the_page(connection: psycopg.Connection, plan: str) -> None:
    for descending, after in ((True, NOW - timedelta(days=364)), (False, NOW + timedelta(days=8))):
        statement = a_list(sort="due_date", descending=descending, start="after")
        found = explain(connection, statement, plan, after=after)

        assert found.indexes == {"ix_tasks_due_date"}, found.text
        assert found.returned == LIMIT
        found.assert_reads_only_what_it_returns()


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("condition", ["status", "priority", "created_before", "created_after"])
def test_a_filter_that_an_index_serves_reads_only_what_it_finds(
    connection: psycopg.Connection, condition: str, plan: str
) -> None:
    for descending, start in product((True, False), starts("created_at")):
        statement = a_list(condition, descending=descending, start=start)
        found = explain(connection, statement, plan, after=NOW - timedelta(days=50))

        assert found.indexes == {IN_ORDER[condition]}, found.text
        assert "Sort" not in found.kinds, found.text
        found.assert_reads_only_what_it_returns()


def test_a_rare_status_or_priority_is_found_among_thousands(connection: psycopg.Connection) -> None:
    for condition, plan in product(("status", "priority"), PLANS):
        assert explain(connection, a_list(condition), plan).returned == RARE


@pytest.mark.parametrize("plan", PLANS)
def test_a_limit_beyond_what_most_users_have_makes_no_difference(connection: psycopg.Connection, plan: str) -> None:
    # PostgreSQL guesses that a user whom it does not know has about as many tasks as all others.
    somebody = connection.execute("SELECT user_id FROM tasks WHERE user_id <> %s LIMIT 1", [OWNER]).fetchone()
    assert somebody
    found = explain(connection, a_list(), plan, limit=501, user_id=somebody[0])

    assert found.indexes == {"ix_tasks_newest"}, found.text
    assert found.returned == 2 * OWN // USERS
    found.assert_reads_only_what_it_returns()


@pytest.mark.parametrize("sort", ["priority", "title", "updated_at"])
def test_a_sort_without_an_index_reads_only_the_users_own_tasks(connection: psycopg.Connection, sort: SortKey) -> None:
    for descending, start, plan in product((True, False), starts(sort), PLANS):
        found = explain(connection, a_list(sort=sort, descending=descending, start=start), plan, after=AFTER[sort])

        assert found.returned >= RARE
        assert found.read <= OWN, found.text
        assert all("tasks" in index for index in found.indexes)
        assert found.indexes, found.text


@pytest.mark.parametrize("condition", sorted((READS_MORE.keys() & task_lists.CONDITIONS) - {"tags"}))
def test_a_filter_that_finds_much_reads_little_more_than_the_page(
    connection: psycopg.Connection, condition: str
) -> None:
    # The newest of those pending is not due yet.
    expected = RARE - 1 if condition == "overdue" else LIMIT
    found = explain(connection, a_list(condition), "force_custom_plan")

    assert found.returned == expected, found.text
    assert found.read <= 8 * LIMIT, found.text
    assert found.pages <= 8 * LIMIT + SLACK, found.text


@pytest.mark.parametrize("condition", sorted(READS_MORE.keys() & task_lists.CONDITIONS))
def test_a_filter_never_reads_more_than_the_users_own_tasks(connection: psycopg.Connection, condition: str) -> None:
    long_ago, far_off = NOW - timedelta(days=9999), NOW + timedelta(days=9999)
    values: Json = {"tags": "{nobodys}", "words": "{nowhere}"}
    values |= {name: long_ago if name.endswith("before") else far_off for name in ("due_before", "due_after")}
    for plan in PLANS:
        found = explain(connection, a_list(condition), plan, **values)

        assert found.read <= OWN, found.text
        assert found.indexes, found.text


@pytest.mark.parametrize(("name", "days"), [("due_before", -364), ("due_after", 8)])
def test_the_few_with_such_a_due_date_are_found_by_it(connection: psycopg.Connection, name: str, days: int) -> None:
    found = explain(connection, a_list(name), "force_custom_plan", **{name: NOW + timedelta(days=days)})

    assert found.indexes == {"ix_tasks_due_date"}, found.text
    assert 0 < found.returned <= LIMIT
    assert found.read <= 2 * LIMIT, found.text


@pytest.mark.parametrize("plan", PLANS)
def test_a_tag_is_looked_for_among_the_users_own(connection: psycopg.Connection, plan: str) -> None:
    row = connection.execute("SELECT user_id FROM tasks WHERE user_id <> %s LIMIT 1", [OWNER]).fetchone()
    assert row
    average = 2 * OWN // USERS
    for user, tag, most in (
        (OWNER, "rare", RARE),
        (OWNER, "nobodys", 0),
        (row[0], "work", average),
        (row[0], "rare", 0),
    ):
        found = explain(connection, a_list("tags"), plan, user_id=user, tags=f"{{{tag}}}")
        entries = sum(node["Actual Rows"] for node in found.nodes if node.get("Index Name") == "ix_tasks_tags")

        assert found.read <= most, found.text
        # A hash finds nobody else's.
        assert entries <= most, found.text


@pytest.mark.parametrize("plan", PLANS)
def test_the_summary_reads_each_of_the_users_tasks_once(connection: psycopg.Connection, plan: str) -> None:
    found = explain(connection, task_lists.SUMMARY, plan)

    assert found.read == OWN, found.text
    assert found.indexes, found.text


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("name", ["GET", "REPLACE", "PATCH", "DELETE"])
def test_one_task_is_found_by_its_id(connection: psycopg.Connection, name: str, plan: str) -> None:
    row = connection.execute("SELECT id FROM tasks WHERE user_id = %s LIMIT 1", [OWNER]).fetchone()
    assert row
    statement: Statement = getattr(tasks, name)
    found = explain(connection, statement, plan, task_id=row[0])

    assert found.indexes == {"pk_tasks"}, found.text
    assert found.returned == 1
    assert found.removed == 0, found.text


@pytest.mark.parametrize("plan", PLANS)
def test_a_new_task_looks_for_nothing_but_its_id(connection: psycopg.Connection, plan: str) -> None:
    found = explain(connection, tasks.CREATE, plan)

    assert found.kinds == {"ModifyTable", "Result"}, found.text
    # Down to a leaf of each index, twice for the id, into the page of the table, and to the owner.
    assert found.pages <= 60, found.text


@pytest.mark.parametrize("plan", PLANS)
def test_a_user_is_found_by_id_and_by_address(connection: psycopg.Connection, plan: str) -> None:
    # The check of the foreign key is a search by id, too.
    for statement, index in ((users.EXISTS, "pk_users"), (users.FIND, "uq_users_email")):
        found = explain(connection, statement, plan, email="Alice@Example.com")

        assert found.indexes == {index}, found.text
        assert found.returned == 1
        assert found.pages <= 4, found.text


def test_the_tasks_of_a_deleted_user_are_found_by_their_owner(connection: psycopg.Connection) -> None:
    # What the foreign key does on DELETE, as PostgreSQL writes it.
    row = connection.execute(
        "EXPLAIN (GENERIC_PLAN, FORMAT JSON) DELETE FROM ONLY public.tasks WHERE $1 = user_id"
    ).fetchone()
    assert row

    nodes = list(_nodes(row[0][0]["Plan"]))
    assert any("user_id" in node.get("Index Cond", "") for node in nodes), nodes
