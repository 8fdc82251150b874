"""What is asked of the contenders: requests of each kind, spread over the users, the same for everybody."""

import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from benchmarks import data, state
from persistence.postgres.dsn import Dsn

USERS, TASKS = 1000, 100
LARGE_USERS, LARGE_TASKS = 50, 1000
"""Users numbered after the others, with so many tasks that a filtered page of 100 is full."""

_TITLES = ("Order new chairs", "Write to the tenants", "Fix the gate before winter", "Prepare the quarterly numbers")
_PRIORITIES = ("low", "medium", "high")


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    body: Any = None

    def encode(self, port: int) -> bytes:
        """As it goes over the wire."""
        head = f"{self.method} {self.path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
        if self.body is None:
            return f"{head}\r\n".encode()
        body = json.dumps(self.body).encode()
        return f"{head}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


type Make = Callable[[random.Random, Iterator[str]], Request]
"""Makes a request; the iterator has the paths of tasks that are there to be deleted."""


@dataclass(frozen=True)
class Operation:
    name: str
    title: str
    make: Make
    status: int = 200
    writes: bool = False
    deletes: bool = False

    def requests(self, number: int, seed: int) -> list[Request]:
        """So many, the same for the same seed. What they delete are the first spare tasks."""
        dice = random.Random(seed)  # noqa: S311 - what is asked for is no secret
        spares = (_task(*state.spare(turn, USERS)) for turn in range(number))
        return [self.make(dice, spares) for _ in range(number)]


def fill(dsn: Dsn) -> None:
    """Makes the users and tasks that the operations are about."""
    data.fill(dsn, USERS, TASKS)
    data.fill(dsn, LARGE_USERS, LARGE_TASKS, first_user=USERS + 1)


def _tasks(user: int) -> str:
    return f"/api/{data.user_id(user)}/tasks"


def _task(user: int, task_id: object) -> str:
    return f"{_tasks(user)}/{task_id}"


def _some_user(dice: random.Random) -> int:
    return dice.randint(1, USERS)


def _some_task(dice: random.Random) -> str:
    user = _some_user(dice)
    return _task(user, data.task_id(user, dice.randint(1, TASKS)))


def _get(dice: random.Random, _: Iterator[str]) -> Request:
    return Request("GET", _some_task(dice))


def _list(dice: random.Random, _: Iterator[str]) -> Request:
    return Request("GET", f"{_tasks(_some_user(dice))}?limit=20")


def _list_filtered(dice: random.Random, _: Iterator[str]) -> Request:
    user = USERS + dice.randint(1, LARGE_USERS)
    return Request("GET", f"{_tasks(user)}?limit=100&status=pending&tag=work")


def _create(dice: random.Random, _: Iterator[str]) -> Request:
    body = {
        "title": f"{dice.choice(_TITLES)}, {dice.randint(1, 1000)}{state.MARK}",
        "description": "As it was agreed upon at the meeting in spring, see the minutes.",
        "priority": dice.choice(_PRIORITIES),
        "due_date": f"2099-{dice.randint(1, 12):02}-{dice.randint(1, 28):02}T17:00:00Z",
        "tags": dice.sample(["work", "home", "urgent", "garden"], 2),
    }
    return Request("POST", _tasks(_some_user(dice)), body)


def _patch(dice: random.Random, _: Iterator[str]) -> Request:
    body = {"priority": dice.choice(_PRIORITIES), "status": dice.choice(("pending", "completed"))}
    return Request("PATCH", _some_task(dice), body)


def _delete(_: random.Random, spares: Iterator[str]) -> Request:
    return Request("DELETE", next(spares))


_MIX = {_list: 60, _get: 20, _create: 8, _patch: 8, _delete: 4}


def _mixed(dice: random.Random, spares: Iterator[str]) -> Request:
    [make] = dice.choices(list(_MIX), list(_MIX.values()))
    return make(dice, spares)


GET = Operation("get", "get one", _get)
LIST = Operation("list", "list 20", _list)
FILTERED = Operation("filtered", "list 100 filtered by status and tag", _list_filtered)
CREATE = Operation("create", "create", _create, status=201, writes=True)
PATCH = Operation("patch", "patch", _patch, writes=True)
DELETE = Operation("delete", "delete", _delete, writes=True, deletes=True)
MIX = Operation("mix", "mix: 60 % list, 20 % get, 20 % writes", _mixed, writes=True, deletes=True)

OPERATIONS = (GET, LIST, FILTERED, CREATE, PATCH, DELETE, MIX)
