"""The rows of the database between two measurements, so that each contender finds the same ones."""

import time
from hashlib import md5
from uuid import UUID

import psycopg

MARK = " (benchmark)"
"""The end of the title of every temporary task."""


# The longest pause between two statements of a request is one round trip with the longest delay.
_BUSY = """
SELECT 1 FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
    AND (state <> 'idle' OR state_change > now() - interval '100 ms')
"""


def spare(number: int, users: int) -> tuple[int, UUID]:
    """Returns the user's number and the id of a spare task, which a request deletes."""
    return 1 + number % users, UUID(md5(f"spare {number}".encode(), usedforsecurity=False).hexdigest())


def settle(connection: psycopg.Connection) -> None:
    """Makes commits wait for the disk, because VACUUM marks only rows whose commit is on disk."""
    connection.execute("SET synchronous_commit = on")


def prepare(connection: psycopg.Connection, spares: int, users: int) -> None:
    """Removes all temporary tasks and makes this number of spare ones. VACUUM needs an autocommit connection."""
    # A server may still write or delete for requests whose answers wrk did not wait for.
    while connection.execute(_BUSY).fetchone():
        time.sleep(0.02)
    connection.execute(
        "DELETE FROM tasks WHERE right(title, %(length)s) = %(mark)s", {"length": len(MARK), "mark": MARK}
    )
    connection.execute("VACUUM tasks")
    connection.execute(
        "INSERT INTO tasks (id, user_id, title, tags)"
        " SELECT md5('spare ' || number)::uuid, md5('user ' || 1 + number %% %(users)s)::uuid,"
        " 'Return the books' || %(mark)s, ARRAY['home'] FROM generate_series(0, %(spares)s - 1) AS number",
        {"users": users, "mark": MARK, "spares": spares},
    )
