"""PostgreSQL's plans: a statement reads what it returns and little else, however much there is.

A plan says which index it uses, and counts the pages and rows that it reads; no clock is read. Each statement has two
plans, one for the values at hand and one for all values.
"""

import re
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from itertools import product
from pathlib import Path
from typing import Any, get_args
from uuid import UUID, uuid4

import psycopg
import pytest

from persistence import batches, purge, task_lists, tasks, transfers
from persistence.postgres.dsn import Dsn
from persistence.postgres.statement import Statement
from persistence.task_lists import SortKey, Start
from tests.database import plans
from tests.database.plans import AFTER, LIMIT, NOW, OWN, OWNER, PLANS, RARE, SLACK, USERS, explain, filled_database
from tests.support.helpers import Json

pytestmark = pytest.mark.plain("reads plans, in which tasks are one table")

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

SORTS: list[SortKey] = [sort for sort in get_args(SortKey.__value__) if f"sort={sort}" not in READS_MORE]

each_plan = pytest.mark.parametrize("plan", PLANS)


@pytest.fixture(scope="module")
def connection(server: Dsn, template: str) -> Iterator[psycopg.Connection]:
    with filled_database(server, template) as connection:
        yield connection


@pytest.fixture
def stranger(connection: psycopg.Connection) -> UUID:
    """An owner with as many tasks as most have."""
    row = connection.execute("SELECT user_id FROM tasks WHERE user_id <> %s LIMIT 1", [OWNER]).fetchone()
    assert row
    user_id: UUID = row[0]
    return user_id


def a_list(*filters: str, sort: SortKey = "created_at", descending: bool = True, start: Start = "first") -> Any:
    return task_lists.list_statement(frozenset(filters), sort, descending=descending, start=start)


def starts(sort: SortKey) -> list[Start]:
    return [start for start in get_args(Start.__value__) if start != "after-null" or sort == "due_date"]


def test_every_sort_and_filter_is_either_an_index_range_or_excused() -> None:
    names = {f"sort={sort}" for sort in get_args(SortKey.__value__)} | task_lists.CONDITIONS.keys() | {"summary"}
    assert IN_ORDER.keys() | READS_MORE.keys() == names - {"nothing"}
    assert not IN_ORDER.keys() & READS_MORE
    for name in task_lists.CONDITIONS.keys() - {"nothing"}:
        assert task_lists.is_in_index_order(frozenset({name}), "created_at") == (name in IN_ORDER), name


def test_the_documentation_names_every_read_that_reads_more() -> None:
    page = (Path(__file__).parents[2] / "docs/scaling.md").read_text()
    named = re.findall(r"^\| `([a-z_=]+)` \| ([^|]+) \|", page, re.MULTILINE)
    assert dict(named) == READS_MORE


@each_plan
@pytest.mark.parametrize("sort", SORTS)
def test_a_sort_reads_only_the_page_from_both_ends_and_the_middle(
    connection: psycopg.Connection, sort: SortKey, plan: str
) -> None:
    pages = [(descending, start, AFTER[sort]) for descending, start in product((True, False), starts(sort))]
    if sort == "due_date":
        # On the pages where the due dates end, tasks without one follow.
        pages += [(True, "after", NOW - timedelta(days=364)), (False, "after", NOW + timedelta(days=8))]
    for descending, start, after in pages:
        found = explain(connection, a_list(sort=sort, descending=descending, start=start), plan, after=after)
        assert found.indexes == {IN_ORDER[f"sort={sort}"]}, found.text
        assert found.returned == LIMIT
        found.assert_reads_only_what_it_returns()
        # Two ranges of the index of due dates are put together, which sorts one page.
        assert "Sort" not in found.kinds or sort == "due_date", found.text


@each_plan
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
        if start == "first":
            # A rare status or priority is found among thousands.
            assert found.returned == (RARE if condition in {"status", "priority"} else LIMIT)


@each_plan
def test_a_limit_beyond_what_most_users_have_makes_no_difference(
    connection: psycopg.Connection, stranger: UUID, plan: str
) -> None:
    # PostgreSQL guesses that a user that it does not know has about as many tasks as all others.
    found = explain(connection, a_list(), plan, limit=501, user_id=stranger)
    assert found.indexes == {"ix_tasks_newest"}, found.text
    assert found.returned == 2 * OWN // USERS
    found.assert_reads_only_what_it_returns()


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


@pytest.mark.parametrize("name", sorted(READS_MORE.keys() - {"summary"}))
def test_no_sort_and_no_filter_reads_more_than_the_users_own_tasks(connection: psycopg.Connection, name: str) -> None:
    long_ago, far_off = NOW - timedelta(days=9999), NOW + timedelta(days=9999)
    values: Json = {"tags": "{unused}", "words": "{nowhere}", "due_before": long_ago, "due_after": far_off}
    filters = {name} & task_lists.CONDITIONS.keys()
    sort: Any = "created_at" if filters else name.removeprefix("sort=")
    for descending, start, plan in product((True, False), starts(sort), PLANS):
        statement = a_list(*filters, sort=sort, descending=descending, start=start)
        found = explain(connection, statement, plan, after=AFTER[sort], **values)
        assert found.read <= OWN, found.text
        assert found.indexes, found.text
        assert all("tasks" in index for index in found.indexes)
        assert explain(connection, a_list("nothing", *filters), plan, **values).pages == 0


@pytest.mark.parametrize(("name", "days"), [("due_before", -364), ("due_after", 8)])
def test_the_few_with_such_a_due_date_are_found_by_it(connection: psycopg.Connection, name: str, days: int) -> None:
    found = explain(connection, a_list(name), "force_custom_plan", **{name: NOW + timedelta(days=days)})
    assert found.indexes == {"ix_tasks_due_date"}, found.text
    assert 0 < found.returned <= LIMIT
    assert found.read <= 2 * LIMIT, found.text


@each_plan
def test_a_tag_is_looked_for_among_the_users_own(connection: psycopg.Connection, stranger: UUID, plan: str) -> None:
    average = 2 * OWN // USERS
    for user, tag, most in (
        (OWNER, "rare", RARE), (OWNER, "unused", 0), (stranger, "work", average), (stranger, "rare", 0),
    ):  # fmt: skip
        found = explain(connection, a_list("tags"), plan, user_id=user, tags=f"{{{tag}}}")
        entries = sum(node["Actual Rows"] for node in found.nodes if node.get("Index Name") == "ix_tasks_tags")
        assert found.read <= most, found.text
        # The hash of an owner and a tag leads to no task of another owner.
        assert entries <= most, found.text


@pytest.mark.parametrize("statement", [a_list(sort="title"), a_list("words", sort="updated_at"), task_lists.SUMMARY])
def test_what_reads_all_tasks_of_a_user_takes_one_processor(
    connection: psycopg.Connection, statement: Statement
) -> None:
    unsafe = connection.execute("SELECT proname FROM pg_proc WHERE proparallel = 'u'").fetchall()
    assert any(f"{name}()" in statement.text for (name,) in unsafe)


@each_plan
def test_the_summary_reads_each_of_the_users_tasks_once(connection: psycopg.Connection, plan: str) -> None:
    found = explain(connection, task_lists.SUMMARY, plan)
    assert found.read == OWN, found.text
    assert found.indexes, found.text


@each_plan
def test_an_export_begins_at_once_and_reads_the_owners_tasks_in_their_order(
    connection: psycopg.Connection, stranger: UUID, plan: str
) -> None:
    for user, number in ((OWNER, OWN), (stranger, 2 * OWN // USERS)):
        for statement in (transfers.EXPORT, transfers.EXPORT_LIVE):
            found = explain(connection, statement, plan, user_id=user)
            assert found.read - found.removed == found.returned, found.text
            assert found.read <= found.returned + number, found.text
            assert found.indexes, found.text
        assert explain(connection, transfers.NUMBER, plan, user_id=user, with_trash=True).indexes, found.text


@each_plan
def test_an_import_looks_for_its_ids_and_counts_no_more_than_there_may_be(
    connection: psycopg.Connection, plan: str
) -> None:
    ids = [uuid4() for _ in range(100)]
    found = explain(connection, transfers.KNOWN, plan, ids=ids)
    # PostgreSQL 18 can also skip from version to version of an owner's tasks, which takes a page for many of them.
    assert found.indexes < {"pk_tasks", "ix_tasks_changes"}, found.text
    assert (found.read, found.returned) == (0, 0), found.text
    assert found.pages <= 4 * len(ids), found.text
    found = explain(connection, transfers.OWNER_AND_NUMBERS, plan, most=10)
    assert found.indexes - OF_THE_OWNER, found.text
    assert found.read <= 20, found.text
    new = {name: [None] * len(ids) for name in transfers.IMPORTED} | {
        "id": ids, "title": ["x"] * len(ids), "status": ["pending"] * len(ids), "priority": ["low"] * len(ids),
        "tags": [""] * len(ids), "created_at": [NOW] * len(ids), "updated_at": [NOW] * len(ids),
    }  # fmt: skip
    found = explain(connection, transfers.IMPORT, plan, **new)
    assert found.indexes <= OF_THE_OWNER, found.text
    assert found.read == found.returned == 100, found.text
    assert found.kinds == {"ModifyTable", "CTE Scan", "Nested Loop", "Function Scan", "Index Scan", "Result"}, (
        found.text
    )


OF_THE_OWNER = {"pk_users", "uq_users_id_is_erased"}
"""Both find the row of a user, which each write of a task raises."""


@each_plan
@pytest.mark.parametrize("name", ["GET", "REPLACE", "PATCH", "PATCH_STATUS", "DELETE", "PATCH_ONCE", "STATES"])
def test_one_task_is_found_by_its_key_and_anothers_reads_as_many_pages_as_none(
    connection: psycopg.Connection, name: str, plan: str
) -> None:
    statement: Statement = getattr(tasks, name)
    ids = "SELECT id FROM tasks WHERE user_id {} %s ORDER BY id LIMIT 40"
    own, theirs = ([task for (task,) in connection.execute(ids.format(sign).encode(), [OWNER])] for sign in ("=", "<>"))

    def usual(ids: list[UUID]) -> tuple[int, int, int]:
        """The pages and rows that one run reads. A missing id may be at the edge of a page, which reads another."""
        found = [explain(connection, statement, plan, task_id=task, ids=[task]) for task in ids]
        return Counter((each.pages, each.read, each.removed) for each in found).most_common(1)[0][0]

    found = explain(connection, statement, plan, task_id=own[0], ids=[own[0]])
    assert found.indexes - OF_THE_OWNER == {"pk_tasks"}, found.text
    assert (found.returned, found.removed) == (1, 0), found.text
    assert usual(theirs) == usual([uuid4() for _ in theirs])


@each_plan
def test_the_owner_of_a_batch_is_found_by_its_key(connection: psycopg.Connection, plan: str) -> None:
    found = explain(connection, batches.LOCK_OWNER, plan)
    assert found.indexes <= OF_THE_OWNER, found.text
    assert (found.returned, found.removed) == (1, 0), found.text


@each_plan
def test_a_new_task_looks_for_its_key(connection: psycopg.Connection, plan: str) -> None:
    found = explain(connection, tasks.CREATE, plan)
    assert found.kinds == {"ModifyTable", "Result", "CTE Scan", "Index Scan"}, found.text
    assert found.indexes <= OF_THE_OWNER, found.text
    # Down to a leaf of each index, twice for the key, into the page of the table, and to the owner.
    assert found.pages <= 60, found.text


@each_plan
def test_a_new_task_within_a_limit_reads_as_many_of_the_owners_as_there_may_be(
    connection: psycopg.Connection, stranger: UUID, plan: str
) -> None:
    for user, most in ((OWNER, 100), (OWNER, OWN), (stranger, OWN)):
        found = explain(connection, tasks.CREATE_WITHIN, plan, user_id=user, others_max=most - 1, tags="{}")
        assert found.indexes - OF_THE_OWNER == {"ix_tasks_newest", "pk_tasks"}, found.text
        assert not found.kinds & {"Seq Scan", "Bitmap Heap Scan", "Sort"}, found.text
        assert found.returned == (user == stranger), found.text
        assert found.read <= most + 1, found.text


def test_the_tasks_of_a_deleted_user_are_found_by_their_owner(connection: psycopg.Connection) -> None:
    # PostgreSQL runs this for the foreign key on DELETE.
    row = connection.execute(
        "EXPLAIN (GENERIC_PLAN, FORMAT JSON) DELETE FROM ONLY public.tasks WHERE $1 = user_id"
    ).fetchone()
    assert row
    nodes = list(plans.nodes_of(row[0][0]["Plan"]))
    assert any("user_id" in node.get("Index Cond", "") for node in nodes), nodes


@each_plan
def test_a_purge_reads_the_trash_and_the_tombstones_only_to_find_owners_and_of_an_owner_what_it_takes(
    connection: psycopg.Connection, plan: str
) -> None:
    old = "SELECT id FROM tasks WHERE deleted_at IS NULL AND user_id = %s LIMIT 100"
    with connection.transaction(force_rollback=True):
        for state, kind in (("false", purge.TRASH), ("true", purge.TOMBSTONES)):
            connection.execute(
                f"UPDATE tasks SET deleted_at = created_at, is_erased = {state}, title = '(erased)', tags = '{{}}',"
                " status = 'pending', priority = 'medium', due_date = NULL, completed_at = NULL"
                f" WHERE id IN ({old})".encode(),
                [OWNER],
            )
            connection.execute("ANALYZE tasks")
            found = explain(connection, kind.owners, plan, first=UUID(int=0), before=NOW, limit=1000)
            assert (found.indexes, found.returned, found.read) == ({"ix_tasks_trash"}, 1, 100), found.text
            found = explain(connection, kind.batch, plan, before=NOW, limit=10)
            assert "ix_tasks_trash" in found.indexes, found.text
            # Each is found, looked up and changed.
            assert (found.read <= 3 * 10, found.removed) == (True, 0), found.text
    plans.clean(connection)
