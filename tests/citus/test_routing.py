"""Each statement of the service goes to the one shard that has the rows of the owner, and the others are known."""

import re
from collections.abc import Iterator
from itertools import product
from typing import get_args

import psycopg
from psycopg import sql

from persistence import distribution, task_lists, transfers
from persistence.postgres.dsn import Dsn
from persistence.postgres.statement import Statement
from persistence.readiness import STATEMENTS
from tests.database.plans import AFTER, VALUES
from tests.database.test_statement import NAMED_STATEMENTS, OF_ALL_OWNERS
from tests.support.helpers import Json

ID = VALUES["id"]
BOUND: Json = VALUES | {
    "task_id": ID, "ids": [ID], "versions": [1], "others_max": 1, "seen": 1, "version": 1, "since": 1, "most": 1,
    "with_trash": True, "before": VALUES["due_date"], "first": ID, "seconds": 1.0, "name": "Alice",
    "password_hash": "!", "after": VALUES["due_date"], "days": 1, "table": "tasks", "role": "primary",
}  # fmt: skip
COLUMNS: Json = dict.fromkeys(transfers.IMPORTED, "{NULL}") | {"id": [ID], "title": "{New}"}
"""What an import binds: an array for each column."""
WHOLE: Json = COLUMNS | {
    "status": "{pending}", "priority": "{low}", "tags": "{home}",
    **dict.fromkeys(("created_at", "updated_at"), f"{{{VALUES['due_date']}}}"),
}  # fmt: skip
"""The same, with all that a task has to have."""
OF_ALL_SHARDS = OF_ALL_OWNERS | {"users.FIND", "users.PURGE"}
"""Statements of an operator's commands; docs/scaling.md tells what they cost."""
LOCAL = {"placement._SHARDS", "purge.MOMENT"}
"""Statements that read no rows of users."""
ELSEWHERE = {"users.CREATE"}
"""Statements that plain PostgreSQL alone can run, instead of which there is another."""


def shards_of(connection: psycopg.Connection, statement: Statement, **values: object) -> set[int]:
    """The numbers of shards that the parts of a statement go to.

    The values are in the text, because Citus cannot explain INSERT ... SELECT with parameters.
    """
    bound = BOUND | statement.constants | values

    def literal(place: re.Match[str]) -> str:
        return sql.Literal(bound[statement.parameters[int(place[1]) - 1]]).as_string(connection)

    query = f"EXPLAIN (COSTS OFF) {re.sub(r'\$(\d+)', literal, statement.text)}"
    lines = connection.execute(query.encode()).fetchall()
    return {int(number) for (line,) in lines for number in re.findall(r"Task Count: (\d+)", line)}


def shapes() -> Iterator[tuple[Statement, object]]:
    """The shapes of a list, each with the place to go on from. One that cannot match is not sent at all."""
    conditions = frozenset(task_lists.CONDITIONS) - {"nothing"}
    sorts, starts = get_args(task_lists.SortKey.__value__), get_args(task_lists.Start.__value__)
    for filters, sort, start in [
        *product((frozenset[str](), conditions), sorts, starts),
        *product((frozenset({condition}) for condition in conditions), ("created_at",), ("first",)),
    ]:
        yield task_lists.list_statement.__wrapped__(filters, sort, descending=True, start=start), AFTER[sort]


def test_each_statement_but_those_of_an_operator_goes_to_one_shard(coordinator: Dsn) -> None:
    distribution.distribute(coordinator)
    with psycopg.connect(coordinator.conninfo, autocommit=True) as connection:
        found = {
            name: shards_of(connection, statement, **(COLUMNS if statement is transfers.IMPORT else {}))
            for name, statement in NAMED_STATEMENTS.items()
            if name not in ELSEWHERE
        }
        of_lists = [shards_of(connection, statement, after=after) for statement, after in shapes()]
        query = "SELECT count(*) FROM pg_dist_shard WHERE logicalrelid = 'tasks'::regclass"
        [shards] = connection.execute(query).fetchone() or ()
    assert of_lists == [{1}] * len(of_lists)
    assert {name for name, numbers in found.items() if shards in numbers} == OF_ALL_SHARDS
    assert {name for name, numbers in found.items() if not numbers} == LOCAL
    assert {name for name, numbers in found.items() if numbers == {1}} == found.keys() - OF_ALL_SHARDS - LOCAL
    # Health explains the rules of tasks as well, for no row of the table.
    served = {statement for name, statement in STATEMENTS.items() if name not in {"list", "constraints"}}
    assert served <= {NAMED_STATEMENTS[name] for name in found.keys() - OF_ALL_SHARDS}


def test_each_statement_of_an_owner_talks_to_its_node_alone(coordinator: Dsn) -> None:
    """Citus may send what one part of a statement has found to all nodes, which EXPLAIN does not tell."""
    distribution.distribute(coordinator)
    heard = set[str]()

    def hear(notice: psycopg.errors.Diagnostic) -> None:
        heard.update(re.findall(r"on server (\S+) connectionId", notice.message_detail or ""))

    with psycopg.connect(coordinator.conninfo, autocommit=True) as connection:
        connection.execute("INSERT INTO users (id) VALUES (%s)", [BOUND["user_id"]])
        connection.execute("INSERT INTO tasks (id, user_id, title) VALUES (%s, %s, 'Old')", [ID, BOUND["user_id"]])
        connection.execute("SET citus.log_remote_commands = on; SET client_min_messages = log")
        connection.add_notice_handler(hear)
        nodes = dict[str, int]()
        for name, statement in NAMED_STATEMENTS.items():
            if name in OF_ALL_SHARDS | LOCAL | ELSEWHERE:
                continue
            bound = BOUND | statement.constants | (WHOLE if statement is transfers.IMPORT else {})
            heard.clear()
            with connection.transaction(force_rollback=True):
                values = [bound[parameter] for parameter in statement.parameters]
                psycopg.RawCursor(connection).execute(statement.query, values)
            nodes[name] = len(heard)
    assert nodes == dict.fromkeys(nodes, 1)
