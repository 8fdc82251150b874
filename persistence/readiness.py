"""Asks PostgreSQL if the service can work: if each of its statements can run on the database as it is.

EXPLAIN parses and plans a statement and checks all rights to what it uses, and neither runs it nor reads a row. So the
database is asked the question itself, in one round trip (docs/adr/0025-health-asks-postgresql.md).
"""

import re
from dataclasses import dataclass
from time import monotonic
from typing import Literal

import psycopg
import sqlalchemy as sa

from persistence import (
    batches,
    changes,
    history,
    migrator,
    placement,
    rights,
    task_lists,
    tasks,
    transfers,
    trash,
    users,
)
from persistence.postgres.database import Database
from persistence.postgres.diagnosis import diagnose
from persistence.postgres.errors import Unavailable, cause_of, explain
from persistence.postgres.statement import Statement

LOCK_TIMEOUT = "100ms"
"""The wait for a table that a migration holds. After it the database counts as usable: requests wait as well."""

type Usability = Literal["connected", "read-only", "unusable"]

# Writing calls functions that constraints and indexes name, and statements do not. They are asked of no row of the
# table, as for rows of a spread one the rights to functions are left to its nodes.
_RULES = sa.select(
    *(rule.sqltext for rule in tasks.TABLE.constraints if isinstance(rule, sa.CheckConstraint)),
    *(part for index in tasks.TABLE.indexes for part in index.expressions if isinstance(part, sa.TextClause)),
).select_from(sa.text("(SELECT (NULL::tasks).* OFFSET 0) AS nothing"))
# All conditions at once, and the order that calls functions.
_CONDITIONS = frozenset(task_lists.CONDITIONS) - {"nothing"}
STATEMENTS = {
    name.lower(): statement
    for module in (tasks, task_lists, batches, changes, transfers, trash)
    for name, statement in vars(module).items()
    if isinstance(statement, Statement)
} | {
    "list": task_lists.list_statement(_CONDITIONS, "title", descending=False, start="after"),
    "account": users.ACCOUNT,
    "erase": users.ERASE,
    "mark": users.MARK,
    "constraints": Statement("constraints", _RULES),
}
"""All that the server asks of the tables, by name."""

# The second is for a database that is spread over several servers: this one alone is asked.
_LIMIT = (
    f"SELECT set_config('lock_timeout', '{LOCK_TIMEOUT}', true),"
    " set_config('citus.explain_distributed_queries', 'off', true)"
)
# Read first, as Citus would ask a worker for it after an EXPLAIN; told at the end, as only the last rows come.
_REVISIONS = (
    "SELECT set_config('todo.revisions',"
    " coalesce((SELECT string_agg(version_num, ',') FROM alembic_version), ''), true)"
)
_TOLD: sa.ColumnElement[str] = sa.literal_column(
    "unnest(string_to_array(nullif(current_setting('todo.revisions', true), ''), ','))"
).label("version_num")
_REVISION = Statement("revision", sa.select(_TOLD, placement.IS_SPREAD))
_NOBODY = "'00000000-0000-0000-0000-000000000000'"


def _with_constants(statement: Statement) -> str:
    return re.sub(
        r"\$(\d+)", lambda at: _NOBODY if statement.parameters[int(at[1]) - 1] == "user_id" else "NULL", statement.text
    )


_PARTS = {
    "revision": _REVISIONS,
    # EXPLAIN does not tell if anything can be written. After it, Citus would refuse this while it copies the tasks.
    "write": "DELETE FROM tasks WHERE false",
    **{name: f"EXPLAIN {_with_constants(statement)}" for name, statement in STATEMENTS.items()},
}
_CHECK = Statement.script("readiness", _LIMIT, *_PARTS.values(), _REVISION.text, columns=_REVISION.columns)
# PostgreSQL names the table that a right is missing to, and not the right.
_RIGHTS = Statement.script("rights", f"{rights.missing().text} UNION ALL {migrator.HIDDEN.text}", columns=("missing",))


@dataclass(frozen=True)
class Readiness:
    """`fault` is PostgreSQL's reason why not every statement can run; nothing in it is secret."""

    database: Usability
    migration: history.State
    revision: str | None = None
    fault: str | None = None


async def check(database: Database, timeout: float) -> Readiness:
    """Asks the question, and counts the answer. One round trip when all is well, and two to a spread database.

    Raises `Unavailable` within `timeout` seconds, and `MigrationError` for a history that cannot be told.
    """
    try:
        found = await _check(database, timeout)
    except history.MigrationError:
        database.counts.schema_is_behind = True
        raise
    database.counts.schema_is_behind = found.migration == "behind" or found.database == "unusable"
    return found


async def _check(database: Database, timeout: float) -> Readiness:
    deadline = monotonic() + timeout
    usability: Usability
    try:
        rows = await database.rows(_CHECK, {}, timeout)
    except (Unavailable, psycopg.Error) as error:
        cause = cause_of(error)
        if cause is None:
            raise
        state = cause.sqlstate or ""
        if state == "55P03":
            usability, fault = "connected", None
        elif state == "25006":
            usability, fault = "read-only", explain(cause)
        elif state.startswith("42") or error is cause:
            usability, fault = "unusable", explain(cause)
        else:
            raise
    else:
        revision = migrator.the_one([row["version_num"] for row in rows])
        if any(row["is_spread"] for row in rows):
            await placement.read(database, max(0.0, deadline - monotonic()))
        return Readiness("connected", history.state(revision), revision)
    try:
        revision = await migrator.applied_revision(database, max(0.0, deadline - monotonic()))
    except (Unavailable, psycopg.Error):
        if fault is None:
            raise
        return Readiness(usability, "unknown", None, fault)
    return Readiness(usability, history.state(revision), revision, fault)


async def faults(database: Database, timeout: float) -> list[str]:
    """All that keeps statements from running, each with its hint. Costs a round trip for each statement."""
    found: dict[str, list[str]] = {}
    for name, part in _PARTS.items():
        try:
            await database.rows(Statement.script(name, _LIMIT, part), {}, timeout)
        except (Unavailable, psycopg.Error) as error:
            if (cause := cause_of(error)) is None:
                raise
            found.setdefault(str(diagnose(cause)), []).append(name)
    lacking = await database.rows(_RIGHTS, {}, timeout)
    missing = [f"Missing rights: {', '.join(row['missing'] for row in lacking)}."] if lacking else []
    return [f"{', '.join(names)}: {reason}" for reason, names in found.items()] + missing
