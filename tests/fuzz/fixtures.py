"""The users of a round of raw requests. Their ids and tasks follow from the seed of the round."""

import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_to_bytes
from uuid import UUID, uuid5

import psycopg

_SEEDS = UUID("5f2c0b1e-6d0a-4c51-9a5e-27b4e5f0c9d3")
_ACTORS = 3
_BYSTANDERS = 2
TASKS = 8
"""The number of ids of tasks of each user; half of them are live at first, and one each in the trash and erased."""
LIVE = TASKS // 2
TRASHED = 40
"""The number of further tasks of each actor in the trash, since each can be erased once only."""

_MARK = re.compile(rb"zqx-[0-9a-f]{6}")
_NAMED = re.compile(rb"/api/([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})")


def mark(user: UUID) -> str:
    """Text that is in this user's first tasks and in no request. It is just as long as a tag may be."""
    return f"zqx-{user.hex[:6]}"


def leaks(request: bytes, answer: bytes) -> set[bytes]:
    """The marks in an answer of users whose address the request does not have."""
    found = set(_MARK.findall(answer))
    if not found:
        return found
    named = _NAMED.findall(unquote_to_bytes(request).lower())
    return found - {mark(UUID(user.decode())).encode() for user in named}


def task_ids(user: UUID) -> list[UUID]:
    return [uuid5(user, f"task {number}") for number in range(TASKS)]


def trashed_ids(user: UUID) -> list[UUID]:
    return [uuid5(user, f"trashed {number}") for number in range(TRASHED)]


@dataclass(frozen=True)
class Fixtures:
    """Actors send anything about any id. Bystanders only read, and must find what they have."""

    actors: tuple[UUID, ...]
    bystanders: tuple[UUID, ...]

    @classmethod
    def of(cls, seed: int) -> "Fixtures":
        users = [uuid5(_SEEDS, f"{seed} {number}") for number in range(_ACTORS + _BYSTANDERS)]
        return cls(tuple(users[:_ACTORS]), tuple(users[_ACTORS:]))

    def insert(self, connection: psycopg.Connection[Any]) -> None:
        """Makes the users and the first half of their tasks, again if they exist already."""
        users = [*self.actors, *self.bystanders]
        connection.execute("DELETE FROM users WHERE id = ANY(%s)", [users])
        for user in users:
            connection.execute("INSERT INTO users (id, email) VALUES (%s, %s)", [user, f"{user}@example.com"])
            ids = task_ids(user)
            for number, task in enumerate(ids[: LIVE + 1], 1):
                connection.execute(
                    "INSERT INTO tasks (id, user_id, title, description, tags, priority, version, deleted_at)"
                    " VALUES (%s, %s, %s, %s, %s, 'high', %s, CASE WHEN %s THEN now() END)",
                    [task, user, f"{mark(user)} title", f"a {mark(user)}", [mark(user)], number, number > LIVE],
                )
            connection.execute(
                "INSERT INTO tasks (id, user_id, title, version, deleted_at, is_erased)"
                " VALUES (%s, %s, '(erased)', %s, now(), true)",
                [ids[LIVE + 1], user, LIVE + 2],
            )
        for user in self.actors:
            connection.execute(
                "INSERT INTO tasks (id, user_id, title, deleted_at) SELECT unnest(%s::uuid[]), %s, 'Trash', now()",
                [trashed_ids(user), user],
            )
        connection.commit()

    def belongings(self, connection: psycopg.Connection[Any]) -> list[tuple[Any, ...]]:
        """All tasks of the bystanders, which no request may change."""
        query = "SELECT * FROM tasks WHERE user_id = ANY(%s) ORDER BY user_id, id"
        return connection.execute(query, [list(self.bystanders)]).fetchall()
