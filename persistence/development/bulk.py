"""Data by the million for load tests, through COPY."""

import random
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from itertools import batched
from typing import Any
from uuid import UUID, uuid4

from persistence import addresses
from persistence.models import UNUSABLE_PASSWORD
from persistence.postgres.connection import Connection
from persistence.postgres.database import Database

BATCH = 20_000
"""Tasks in one transaction."""
EMAIL = "load-{}@example.com"

_COLUMNS = (
    "id, user_id, title, description, status, priority, due_date, tags, created_at, updated_at, completed_at, version"
)
_TAGS = ("work", "home", "errands", "urgent", "later", "reading", "travel", "health", "family", "money")
_PRIORITIES = ("low", "medium", "high")


async def fill(database: Database, users: int, tasks: int) -> AsyncIterator[int]:
    """Makes up what is missing until `load-1@example.com` to `load-<users>` have `tasks` tasks in all, spread evenly.

    Yields how many tasks each batch has added. Titles, tags and dates differ but come from a fixed seed. When several
    run at once, one does it and the others wait. Takes two connections.
    """
    async with database.connection() as waiting:
        await waiting.execute(addresses.LOCK)
        async for count in _fill(database, users, tasks):
            yield count


async def _fill(database: Database, users: int, tasks: int) -> AsyncIterator[int]:
    counts = await _ensure_users(database, users)
    share, rest = divmod(tasks, users)
    missing = [(user_id, share + (number < rest) - counts[user_id]) for number, user_id in enumerate(counts)]
    rows = _rows((user_id, count) for user_id, count in missing if count > 0)
    for batch in batched(rows, BATCH, strict=False):
        async with database.connection() as connection, connection.cursor() as cursor:
            versions = await _raise_revisions(connection, Counter(row[1] for row in batch))
            async with cursor.copy(f"COPY tasks ({_COLUMNS}) FROM STDIN") as copy:
                for row in batch:
                    await copy.write_row((*row, next(versions[row[1]])))
        yield len(batch)


async def _raise_revisions(connection: Connection, numbers: Counter[UUID]) -> dict[UUID, Iterator[int]]:
    """As many revisions as each owner has new tasks, all newer than what a client can have seen (D39)."""
    cursor = await connection.execute(
        "UPDATE users SET revision = greatest(revision + number, (extract(epoch FROM now()) * 1000000)::bigint)"
        " FROM unnest(%s::uuid[], %s::int[]) AS new (owner, number) WHERE id = owner RETURNING id, revision",
        [list(numbers), list(numbers.values())],
    )
    return {owner: iter(range(last - numbers[owner] + 1, last + 1)) for owner, last in await cursor.fetchall()}


async def _ensure_users(database: Database, users: int) -> dict[UUID, int]:
    """The ids of the first so many load users, in order, with the number of tasks each has."""
    emails = [EMAIL.format(number) for number in range(1, users + 1)]
    async with database.connection() as connection:
        cursor = await connection.execute("SELECT email FROM users WHERE email = ANY (%s)", [emails])
        missing = list({*emails} - {email for (email,) in await cursor.fetchall()})
        await connection.execute(
            "INSERT INTO users (id, email, password_hash) SELECT id, email, %s FROM unnest(%s::uuid[], %s::text[])"
            " AS new (id, email) ON CONFLICT DO NOTHING",
            [UNUSABLE_PASSWORD, [uuid4() for _ in missing], missing],
        )
        cursor = await connection.execute(
            "SELECT users.id, count(tasks.id) FROM unnest(%s::text[]) WITH ORDINALITY AS wanted (email, number)"
            " JOIN users USING (email) LEFT JOIN tasks ON tasks.user_id = users.id AND deleted_at IS NULL"
            " GROUP BY users.id, wanted.number ORDER BY wanted.number",
            [emails],
        )
        return dict(await cursor.fetchall())


def _rows(missing: Iterator[tuple[UUID, int]]) -> Iterator[tuple[Any, ...]]:
    """One row for COPY for each missing task."""
    dice = random.Random(42)  # noqa: S311 - test data is not a secret
    now = datetime.now(UTC)
    for user_id, count in missing:
        for number in range(1, count + 1):
            created_at = now - timedelta(seconds=dice.randrange(1, 365 * 86400))
            completed_at = created_at + timedelta(hours=1) if dice.random() < 0.5 else None
            yield (
                uuid4(),
                user_id,
                f"Task {number} of {count}",
                "Made for a load test." if dice.random() < 0.3 else None,
                "completed" if completed_at else "pending",
                dice.choice(_PRIORITIES),
                created_at + timedelta(days=dice.randrange(1, 60)) if dice.random() < 0.4 else None,
                dice.sample(_TAGS, dice.randrange(4)),
                created_at,
                completed_at or created_at,
                completed_at,
            )
