"""Users and tasks by the million, the same for every run but for the present moment that their times lead up to."""

from hashlib import md5
from uuid import UUID

import psycopg

from benchmarks import state
from persistence.postgres.dsn import Dsn

MANY = 100_000
"""Rows from which on it pays to build the indexes afterwards."""

_USERS = """
INSERT INTO users (id, email)
SELECT md5('user ' || number)::uuid, 'user-' || number || '@example.com'
FROM generate_series(%(first)s::bigint, %(first)s + %(users)s - 1) AS number
"""

# Numbers from 0 to 99 that look random, each of them as good for one decision.
_DICE = ", ".join(f"(hashint8extended(turn, {n}) & 1048575)::int %% 100 AS dice{n}" for n in range(1, 8))
# The rows of all users take turns, as they would in a table that has grown with all of them.
_TASKS = """
INSERT INTO tasks (id, user_id, title, description, status, priority, due_date, tags,
                   created_at, updated_at, completed_at, version)
SELECT
    md5('task ' || %(first)s + turn %% %(users)s || ' ' || 1 + turn / %(users)s)::uuid,
    md5('user ' || %(first)s + turn %% %(users)s)::uuid,
    (ARRAY['Write the report', 'Call the landlord about the heating', 'Buy milk', 'Review pull request 4711',
           'Book a table for Friday evening', 'Pay the electricity bill', 'Plan the trip to Lisbon in spring',
           'Answer Maria', 'Water the plants on the balcony', 'Renew the passport'])[1 + dice1 %% 10]
        || ', ' || 1 + turn / %(users)s,
    CASE WHEN dice2 < 40
         THEN repeat('Remember what was said about it last time. ', 1 + dice2 / 8) || 'Number ' || turn END,
    (CASE WHEN dice3 < 50 THEN 'pending' ELSE 'completed' END)::task_status,
    (ARRAY['low', 'medium', 'medium', 'high'])[1 + dice4 %% 4]::task_priority,
    CASE WHEN dice5 < 40 THEN created_at + (1 + dice5 * 2) * interval '1 day' END,
    CASE WHEN dice6 < 30 THEN ARRAY['work'] WHEN dice6 < 50 THEN ARRAY['home'] ELSE ARRAY[]::text[] END
        || CASE WHEN dice7 < 40
                THEN (ARRAY['errands', 'urgent', 'later', 'reading', 'travel', 'health', 'family', 'money'])
                     [1 + dice7 %% 8 : 1 + dice7 %% 8 + dice7 / 30] ELSE ARRAY[]::text[] END,
    created_at,
    CASE WHEN dice3 < 50 THEN created_at ELSE created_at + interval '1 hour' END,
    CASE WHEN dice3 < 50 THEN NULL ELSE created_at + interval '1 hour' END,
    extract(epoch FROM created_at)::bigint * 1000000
FROM (
    SELECT turn, now() - interval '1 day' - interval '365 days' * (1 - turn::float8 / (%(users)s * %(tasks)s))
               AS created_at,
           {dice}
    FROM generate_series(0::bigint, %(users)s::bigint * %(tasks)s - 1) AS turn
) AS rows
""".replace("{dice}", _DICE)


def user_id(number: int) -> UUID:
    """The id of the user with this number; `fill` says which there are."""
    return _id(f"user {number}")


def task_id(user: int, number: int) -> UUID:
    """The id of a user's task: number 1 is the oldest."""
    return _id(f"task {user} {number}")


def fill(dsn: Dsn, users: int, tasks: int, first_user: int = 1) -> None:
    """Makes so many users with so many tasks each, numbered from `first_user` and from 1, in a migrated database.

    It can be called again with users that are not there yet. The statistics are up to date afterwards, and everything
    is on disk. A million tasks take a quarter of a minute.
    """
    values = {"users": users, "tasks": tasks, "first": first_user}
    with psycopg.connect(dsn.conninfo, autocommit=True, cursor_factory=psycopg.ClientCursor) as connection:
        state.settle(connection)
        with connection.transaction():
            connection.execute("SET LOCAL maintenance_work_mem = '512MB'")
            connection.execute(_USERS, values)
            # Each row's owner is there, so that nothing needs to look for him.
            connection.execute("ALTER TABLE tasks DISABLE TRIGGER ALL")
            indexes = _drop_indexes(connection) if users * tasks >= MANY else []
            connection.execute(_TASKS, values)
            for definition in indexes:
                connection.execute(definition)
            connection.execute("ALTER TABLE tasks ENABLE TRIGGER ALL")
        connection.execute("VACUUM (ANALYZE) users, tasks")
        connection.execute("CHECKPOINT")


def _drop_indexes(connection: psycopg.Connection) -> list[str]:
    """Drops all but the primary key's and returns what makes them again."""
    rows = connection.execute(
        "SELECT indexrelid::regclass::text, pg_get_indexdef(indexrelid) FROM pg_index"
        " WHERE indrelid = 'tasks'::regclass AND NOT indisprimary"
    ).fetchall()
    for name, _ in rows:
        connection.execute(f"DROP INDEX {name}")
    return [definition for _, definition in rows]


def _id(text: str) -> UUID:
    return UUID(md5(text.encode(), usedforsecurity=False).hexdigest())
