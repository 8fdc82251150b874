"""Users and tasks by the million. Every run makes the same rows, with times that end at the present."""

from hashlib import md5
from uuid import UUID

import psycopg

from benchmarks import state
from persistence.postgres.dsn import Dsn

MANY = 100_000
"""Rows from which on it is faster to build the indexes afterwards."""

_USERS = """
INSERT INTO users (id, email)
SELECT md5('user ' || number)::uuid, 'user-' || number || '@example.com'
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
    extract(epoch FROM created_at)::bigint * 1000000
FROM (
    SELECT row, now() - interval '1 day' - interval '365 days' * (1 - row::float8 / (%(users)s * %(tasks)s))
               AS created_at,
           {choices}
    FROM generate_series(0::bigint, %(users)s::bigint * %(tasks)s - 1) AS row
) AS rows
""".replace("{choices}", _CHOICES)


def user_id(number: int) -> UUID:
    """Returns the id of the user with this number; numbers begin at 1."""
    return _id(f"user {number}")


def task_id(user: int, number: int) -> UUID:
    """Returns the id of a user's task; number 1 is the oldest task."""
    return _id(f"task {user} {number}")


def fill(dsn: Dsn, users: int, tasks: int, first_user: int = 1) -> None:
    """Inserts users, numbered from `first_user`, with this number of tasks each into a migrated database.

    A second call can insert further users. The table's statistics are up to date afterwards, and all rows are on disk.
    A million tasks take a quarter of a minute.
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
