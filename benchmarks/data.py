"""Users and tasks by the million. Every run makes the same rows, with times that end at the present."""

from hashlib import md5
from uuid import UUID

import psycopg

from benchmarks import state
from persistence.postgres.dsn import Dsn

DELETED_EVERY = 10
"""Tasks that live for each one in the trash and for each tombstone."""
MANY = 100_000
"""Rows from which on it is faster to build the indexes afterwards."""

_USERS = """
INSERT INTO users (id, email, horizon)
SELECT md5('user ' || number)::uuid, 'user-' || number || '@example.com', 1
FROM generate_series(%(first)s::bigint, %(first)s + %(users)s - 1) AS number
"""

# Numbers from 0 to 99 that look random, one for each choice.
_CHOICES = ", ".join(f"(hashint8extended(row, {n}) & 1048575)::int %% 100 AS choice{n}" for n in range(1, 8))
# The rows of all users alternate, as they would in a table that all users have filled over time.
_TASKS = """
INSERT INTO tasks (id, user_id, title, description, status, priority, due_date, tags,
                   created_at, updated_at, completed_at, version)
SELECT
    md5('task ' || %(first)s + row %% %(users)s || ' ' || 1 + row / %(users)s)::uuid,
    md5('user ' || %(first)s + row %% %(users)s)::uuid,
    (ARRAY['Write the report', 'Call the landlord about the heating', 'Buy milk', 'Review pull request 4711',
           'Book a table for Friday evening', 'Pay the electricity bill', 'Plan the trip to Lisbon in spring',
           'Answer Maria', 'Water the plants on the balcony', 'Renew the passport'])[1 + choice1 %% 10]
        || ', ' || 1 + row / %(users)s,
    CASE WHEN choice2 < 40
         THEN repeat('Remember what was said about it last time. ', 1 + choice2 / 8) || 'Number ' || row END,
    (CASE WHEN choice3 < 50 THEN 'pending' ELSE 'completed' END)::task_status,
    (ARRAY['low', 'medium', 'medium', 'high'])[1 + choice4 %% 4]::task_priority,
    CASE WHEN choice5 < 40 THEN created_at + (1 + choice5 * 2) * interval '1 day' END,
    CASE WHEN choice6 < 30 THEN ARRAY['work'] WHEN choice6 < 50 THEN ARRAY['home'] ELSE ARRAY[]::text[] END
        || CASE WHEN choice7 < 40
                THEN (ARRAY['errands', 'urgent', 'later', 'reading', 'travel', 'health', 'family', 'money'])
                     [1 + choice7 %% 8 : 1 + choice7 %% 8 + choice7 / 30] ELSE ARRAY[]::text[] END,
    created_at,
    CASE WHEN choice3 < 50 THEN created_at ELSE created_at + interval '1 hour' END,
    CASE WHEN choice3 < 50 THEN NULL ELSE created_at + interval '1 hour' END,
    extract(epoch FROM CASE WHEN choice3 < 50 THEN created_at ELSE created_at + interval '1 hour' END)::bigint * 1000000
FROM (
    SELECT row, now() - interval '1 day' - interval '365 days' * (1 - row::float8 / (%(users)s * %(tasks)s))
               AS created_at,
           {choices}
    FROM generate_series(0::bigint, %(users)s::bigint * %(tasks)s - 1) AS row
) AS rows
""".replace("{choices}", _CHOICES)

# A trashed task and a tombstone for every so many that live, in the order in which they would have been deleted.
_TRASH = """
INSERT INTO tasks (id, user_id, title, created_at, updated_at, deleted_at, version, is_erased)
SELECT
    md5('deleted task ' || number || ' ' || row)::uuid, md5('user ' || number)::uuid,
    CASE WHEN row % 2 = 0 THEN 'Return the books' ELSE '(erased)' END,
    at - interval '1 day', at, at, (extract(epoch FROM at) * 1000000)::bigint, row % 2 = 1
FROM generate_series(1, 2 * (%(tasks)s / {every})) AS row,
    generate_series(%(first)s::bigint, %(first)s + %(users)s - 1) AS number,
    LATERAL (SELECT now() - interval '1 day' * (1 + row + number::float8 / (%(first)s + %(users)s)) AS at) AS times
""".replace("{every}", str(DELETED_EVERY)).replace("row % 2", "row %% 2")


def user_id(number: int) -> UUID:
    """Returns the id of the user with this number; numbers begin at 1."""
    return _id(f"user {number}")


def task_id(user: int, number: int) -> UUID:
    """Returns the id of a user's task; number 1 is the oldest task."""
    return _id(f"task {user} {number}")


def fill(dsn: Dsn, users: int, tasks: int, first_user: int = 1, *, has_trash: bool = False) -> None:
    """Inserts users, numbered from `first_user`, with this number of tasks each into a migrated database.

    With `has_trash` there are a tenth as many in the trash on top, and as many tombstones. A second call can insert
    further users. The table's statistics are up to date afterwards, and all rows are on disk. A million tasks take a
    quarter of a minute.
    """
    values = {"users": users, "tasks": tasks, "first": first_user}
    with psycopg.connect(dsn.conninfo, autocommit=True, cursor_factory=psycopg.ClientCursor) as connection:
        state.settle(connection)
        with connection.transaction():
            connection.execute("SET LOCAL maintenance_work_mem = '512MB'")
            connection.execute(_USERS, values)
            # Every task's owner exists, so that no foreign key needs a check.
            connection.execute("ALTER TABLE tasks DISABLE TRIGGER ALL")
            indexes = _drop_indexes(connection) if users * tasks >= MANY else []
            connection.execute(_TASKS, values)
            if has_trash:
                connection.execute(_TRASH, values)
            for definition in indexes:
                connection.execute(definition)
            connection.execute("ALTER TABLE tasks ENABLE TRIGGER ALL")
        connection.execute("VACUUM (ANALYZE) users, tasks")
        connection.execute("CHECKPOINT")


def _drop_indexes(connection: psycopg.Connection) -> list[str]:
    """Drops all indexes but the primary key's and returns the statements that make them again."""
    rows = connection.execute(
        "SELECT indexrelid::regclass::text, pg_get_indexdef(indexrelid) FROM pg_index"
        " WHERE indrelid = 'tasks'::regclass AND NOT indisprimary"
    ).fetchall()
    for name, _ in rows:
        connection.execute(f"DROP INDEX {name}")
    return [definition for _, definition in rows]


def _id(text: str) -> UUID:
    return UUID(md5(text.encode(), usedforsecurity=False).hexdigest())
