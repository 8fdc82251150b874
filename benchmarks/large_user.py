"""The lists of one user with 200,000 tasks: what each list reads, and how long PostgreSQL takes."""

from collections.abc import Mapping
from statistics import median
from typing import Any
from uuid import UUID

import psycopg

from benchmarks import data
from benchmarks.explain import Run, explainer
from benchmarks.samples import FILTERS, LIMIT, a_list
from persistence import task_lists
from persistence.postgres.dsn import Dsn
from persistence.postgres.statement import Statement
from persistence.task_lists import SortKey, Start

REPEATS = 5
LATE_PAGE = 2000
"""The number of a page of 100 tasks; a user with fewer pages has the last one measured."""
FIELDS: tuple[SortKey, ...] = ("created_at", "updated_at", "due_date", "priority", "title")
NEVER = {"tags": "{nobodys}", "words": "{nowhere}", "due_before": "0001-01-02", "updated_after": "9999-12-31"}
"""Values of filters that no task matches."""


def measure(dsn: Dsn, number: int, count: int) -> dict[str, Any]:
    """Returns what each list returned and read, and its microseconds, for a user with this many tasks."""
    user_id = data.user_id(number)
    with explainer(dsn) as runner:
        cases = _cases(runner.connection, user_id, count)
        return {name: _summary([runner.run(*case) for _ in range(REPEATS + 1)][1:]) for name, case in cases.items()}


def _cases(connection: psycopg.Connection, user_id: UUID, count: int) -> dict[str, tuple[Statement, Mapping[str, Any]]]:
    values = {"user_id": user_id, "limit": LIMIT, **FILTERS}
    page = LIMIT - 1
    offset = max(1, min((LATE_PAGE - 1) * page, count - page))
    cases: dict[str, tuple[Statement, Mapping[str, Any]]] = {}
    for sort in FIELDS:
        for descending in (True, False):
            name = f"sort={'-' if descending else ''}{sort}"
            cases[name] = a_list(sort=sort, descending=descending), values
            place = _place(connection, user_id, sort, offset, descending=descending)
            start: Start = "after-null" if place["after"] is None else "after"
            statement = a_list(sort=sort, descending=descending, start=start)
            cases[f"{name}, late page"] = statement, values | place
    for condition in task_lists.CONDITIONS:
        cases[condition] = a_list(condition), values
    for condition, never in NEVER.items():
        cases[f"{condition}, nothing found"] = a_list(condition), values | {condition: never}
    cases["status and tags"] = a_list("status", "tags"), values
    cases["summary"] = task_lists.SUMMARY, values
    return cases


def _place(
    connection: psycopg.Connection, user_id: UUID, sort: SortKey, offset: int, *, descending: bool
) -> dict[str, Any]:
    """Returns the values of the cursor of the page at this offset."""
    key = 'lower(title) COLLATE "C"' if sort == "title" else sort
    direction = "DESC" if descending else "ASC"
    row = connection.execute(
        f"SELECT {sort}, id FROM tasks WHERE user_id = %s"  # noqa: S608 - all are constants
        f" ORDER BY {key} {direction} NULLS LAST, id {direction} OFFSET %s LIMIT 1".encode(),
        [user_id, offset - 1],
    ).fetchone()
    assert row
    return {"after": row[0], "after_id": row[1]}


def _summary(runs: list[Run]) -> dict[str, Any]:
    last = runs[-1]
    return {
        "returned": last.returned,
        "read": last.read,
        "pages": last.pages,
        "indexes": last.indexes,
        "microseconds": median(run.microseconds for run in runs),
    }
