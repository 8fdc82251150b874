"""Statements in plain SQL, waits for a state, and an administrator's view of a database."""

import asyncio
from collections.abc import Callable
from time import monotonic
from typing import Any
from uuid import UUID, uuid4

import psycopg
from psycopg import sql
from sqlalchemy import column, text

from persistence import tasks
from persistence.postgres.database import PROBES_FROM, Database
from persistence.postgres.opening import APPLICATION_NAME
from persistence.postgres.options import DatabaseOptions, PoolLimits
from persistence.postgres.statement import Statement
from tests.support.nodes import IS_SPREAD

LONG = 60.0
"""Seconds after which a state that has not come is a failure, also on a busy machine."""
TASK: dict[str, Any] = dict.fromkeys(tasks.VALUES) | {
    "title": "Buy milk", "status": "pending", "priority": "low", "tags": [],
}  # fmt: skip
"""The values of a task, null where they may be."""


def statement(query: str, *columns: str) -> Statement:
    """Plain SQL that returns these columns, by default one that is called `value`. Only a SELECT counts as a read."""
    made = Statement("test", text(query).columns(*(column(name) for name in columns or ("value",))))
    made.reads = query.startswith("SELECT")
    return made


ACTIVITY = "citus_stat_activity" if IS_SPREAD else "pg_stat_activity"
"""All processes of a migrated database, those on other nodes as well."""
WAITING = f"SELECT count(*) AS value FROM {ACTIVITY} WHERE datname = current_database() AND wait_event_type = 'Lock'"
"""The number of processes that wait for a lock."""
PID = statement("SELECT pg_backend_pid() AS value")
SLEEP = statement("SELECT pg_backend_pid() AS value FROM pg_sleep(:seconds)")
FOREVER = {"seconds": 3600.0}


def options(
    least: int = 1,
    most: int = 2,
    *,
    timeout: float = LONG,
    lifetime: float = 3600.0,
    statement_timeout: float = LONG,
    connect_timeout: int = 60,
    log_sql: bool = False,
) -> DatabaseOptions:
    """Options for `most` connections, and for one more if so large a pool keeps one for probes."""
    limits = PoolLimits(least, most + (most >= PROBES_FROM), timeout, lifetime)
    return DatabaseOptions(limits, connect_timeout, statement_timeout, log_sql)


async def value_of(database: Database, query: str, **values: Any) -> Any:
    return (await database.row(statement(query), values) or {})["value"]


async def pid_of(database: Database) -> int:
    return int((await database.row(PID, {}, LONG) or {})["value"])


async def new_user(database: Database) -> UUID:
    """A user as the first write of one that signs in makes it."""
    user_id: UUID = await value_of(database, "INSERT INTO users (id) VALUES (:id) RETURNING id AS value", id=uuid4())
    return user_id


async def eventually(condition: Callable[[], bool], timeout: float = LONG) -> None:
    deadline = monotonic() + timeout
    while not condition():
        assert monotonic() < deadline, "it did not come true in time"
        await asyncio.sleep(0.01)


class Admin:
    """A connection to the application's database that sees the application's connections and can end them."""

    def __init__(self, connection: psycopg.Connection) -> None:
        self._connection = connection

    def execute(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        cursor = self._connection.execute(query.encode(), values or None)
        return cursor.fetchall() if cursor.description else []

    def value(self, query: str, *values: object) -> Any:
        ((value,),) = self.execute(query, *values)
        return value

    def alter(self, change: str) -> None:
        """Changes the database: a `SET` or a `RESET` counts for the connections that are made from now on."""
        name = sql.Identifier(self._connection.info.dbname)
        self._connection.execute(sql.SQL("ALTER DATABASE {} " + change).format(name))

    def load_citus(self) -> None:
        """Has the server seem to have loaded Citus, which gives it a setting, if it has not."""
        if self.value("SELECT current_setting('citus.version', true)") is None:
            self.alter("SET citus.version = '14.0'")

    def pids(self, condition: str = "true") -> set[int]:
        """The server processes of the application's connections."""
        query = (
            f"SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND application_name = %s"
            f" AND ({condition})"
        )
        return {pid for (pid,) in self.execute(query, APPLICATION_NAME)}

    def terminate(self, *pids: int) -> None:
        """Ends connections, and returns when the server has done so."""
        self.execute("SELECT pg_terminate_backend(pid, 60000) FROM unnest(%s::int[]) AS pid", list(pids))

    async def waiting(self) -> int:
        """The process of the application that waits for a lock or sleeps, on any node, as soon as there is one."""
        here = "wait_event_type = 'Lock' OR wait_event = 'PgSleep'"
        anywhere = f"pid IN (SELECT citus_pid_for_gpid(global_pid) FROM citus_stat_activity WHERE {here})"
        is_spread = self.value("SELECT to_regclass('citus_stat_activity') IS NOT NULL")
        found = set[int]()
        info = self._connection.info
        # A transaction that is open here would go on seeing the connections of its beginning on other nodes.
        with psycopg.connect(info.dsn, password=info.password, autocommit=True) as connection:
            admin = Admin(connection)

            def is_waiting() -> bool:
                found.update(admin.pids(here) or (admin.pids(anywhere) if is_spread else ()))
                return bool(found)

            await eventually(is_waiting)
        return found.pop()
