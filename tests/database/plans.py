"""A database with the tasks of Alice and others, and PostgreSQL's plans for our statements on it."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import psycopg
from psycopg.pq import TransactionStatus

from persistence.postgres.dsn import Dsn
from persistence.postgres.statement import Statement
from persistence.task_lists import SortKey
from tests.support.databases import as_owner, temporary_database
from tests.support.helpers import Json

PLANS = ("force_custom_plan", "force_generic_plan")
"""A plan for the values at hand, and one for all values."""
SLACK = 12
"""Pages that a statement may read beyond one for each row: the way down an index, twice, and its leaves."""
LIMIT = 21
OWN, RARE, USERS = 3000, 3, 100
OWNER = uuid4()
NOW = datetime.now(UTC)

# Every third row is Alice's, so that each of her tasks is on a page of its own with those of others; all but a few of
# hers are done and of little importance, as a list looks after some years.
FILL = f"""
INSERT INTO users (id, email) SELECT md5('user ' || number)::uuid, number || '@example.com'
    FROM generate_series(1, {USERS}) AS number;
INSERT INTO users (id, email) VALUES ('{OWNER}', 'alice@example.com');
INSERT INTO tasks (id, user_id, title, status, priority, due_date, tags, created_at, updated_at, completed_at)
SELECT md5('task ' || turn)::uuid,
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
    "user_id": OWNER, "limit": LIMIT, "email": "alice@example.com", "after_id": UUID(int=1 << 127),
    "priorities": "{low,medium}", "tags": "{work}", "words": "{task}", "due_before": NOW,
    "due_after": NOW - timedelta(days=99), "created_before": NOW - timedelta(days=100),
    "created_after": NOW - timedelta(days=100), "updated_before": NOW, "updated_after": NOW - timedelta(days=100),
    "id": uuid4(), "title": "New", "description": None, "status": "pending", "priority": "high", "due_date": NOW,
    "versions": None, "sends_description": False, "sends_due_date": True, "new_title": "New", "new_description": None,
    "key": "patch 1", "keys": [None],
    "new_status": "completed", "new_priority": "low", "new_due_date": NOW, "new_tags": "{new}",
}  # fmt: skip
AFTER: dict[SortKey, Any] = {
    "created_at": NOW - timedelta(days=100),
    "updated_at": NOW - timedelta(days=100),
    "due_date": NOW - timedelta(days=100),
    "priority": "medium",
    "title": "task 8",
}
"""The sort value of the last task of the page before."""


@contextmanager
def filled_database(server: Dsn, template: str) -> Iterator[psycopg.Connection]:
    with (
        temporary_database(server, template) as dsn,
        psycopg.connect(as_owner(dsn).conninfo, autocommit=True, cursor_factory=psycopg.ClientCursor) as connection,
    ):
        connection.execute(FILL.encode())
        connection.execute("VACUUM (ANALYZE) users, tasks")
        # The table is so small that reading all of it would often be best.
        connection.execute("SET enable_seqscan = off")
        connection.execute("SET max_parallel_workers_per_gather = 0")
        yield connection


class Plan:
    """The report of EXPLAIN ANALYZE on one run."""

    def __init__(self, plan: Json) -> None:
        self.nodes = list(nodes_of(plan))
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


def nodes_of(node: Json) -> Iterator[Json]:
    yield node
    for child in node.get("Plans", ()):
        yield from nodes_of(child)


def explain(connection: psycopg.Connection, statement: Statement, plan: str, **values: Any) -> Plan:
    """Runs a statement, and takes back what it wrote. Within a transaction the caller has to `clean` after it."""
    bound = dict.fromkeys(statement.parameters) | VALUES | statement.constants | values
    places = ", ".join(["%s"] * len(statement.parameters))
    query = f"EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, FORMAT JSON) EXECUTE statement ({places})"
    with connection.transaction(force_rollback=True):
        connection.execute(f"SET LOCAL plan_cache_mode = {plan}".encode())
        connection.execute(f"PREPARE statement AS {statement.text}".encode())
        try:
            row = connection.execute(query.encode(), [bound[name] for name in statement.parameters]).fetchone()
        finally:
            connection.execute("DEALLOCATE statement")
    assert row
    if not statement.reads and connection.info.transaction_status == TransactionStatus.IDLE:
        clean(connection)
    return Plan(row[0][0]["Plan"])


def clean(connection: psycopg.Connection) -> None:
    """Removes what writes that were taken back have left in the indexes, where other statements would read it."""
    connection.execute("VACUUM (INDEX_CLEANUP on) tasks")
