"""The database between two turns, so that everybody finds the same one."""

import time
from hashlib import md5
from uuid import UUID

import psycopg

MARK = " (benchmark)"
"""What the title of every task ends with that is not there to stay."""


# The longest pause between two statements of a request is one round trip to a database that is far away.
_BUSY = """
SELECT 1 FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
    AND (state <> 'idle' OR state_change > now() - interval '100 ms')
"""


def spare(number: int, users: int) -> tuple[int, UUID]:
    """The user and the id of a task that is there to be deleted."""
    return 1 + number % users, UUID(md5(f"spare {number}".encode(), usedforsecurity=False).hexdigest())


def settle(connection: psycopg.Connection) -> None:
    """Makes VACUUM leave nothing to do to whoever reads first: it can mark only what is committed and on disk."""
    connection.execute("SET synchronous_commit = on")


def prepare(connection: psycopg.Connection, spares: int, users: int) -> None:
    """Makes so many spare tasks, and none beyond. The connection is in autocommit, as VACUUM needs it."""
    _wait_until_quiet(connection)
    _restore(connection)
    connection.execute(
        "INSERT INTO tasks (id, user_id, title, tags)"
        " SELECT md5('spare ' || number)::uuid, md5('user ' || 1 + number %% %(users)s)::uuid,"
        " 'Return the books' || %(mark)s, ARRAY['home'] FROM generate_series(0, %(spares)s - 1) AS number",
        {"users": users, "mark": MARK, "spares": spares},
    )


def _wait_until_quiet(connection: psycopg.Connection) -> None:
    """Until whoever had his turn has finished with what wrk no longer waits for; that may still write, or delete."""
    while connection.execute(_BUSY).fetchone():
        time.sleep(0.02)


def _restore(connection: psycopg.Connection) -> None:
    """Takes away what was made for a turn or in one, and what its changes have left behind."""
    connection.execute(
        "DELETE FROM tasks WHERE right(title, %(length)s) = %(mark)s", {"length": len(MARK), "mark": MARK}
    )
    connection.execute("VACUUM tasks")
