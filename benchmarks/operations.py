"""The operations: requests of each kind, spread over the users, the same for every contender."""

import json
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from benchmarks import data, postgres, state
from benchmarks.postgres import Postgres

USERS, TASKS = 1000, 100
LARGE_USERS, LARGE_TASKS = 50, 1000
"""Users with higher numbers, and enough tasks to fill a filtered page of 100."""

_TITLES = ("Order new chairs", "Write to the tenants", "Fix the gate before winter", "Prepare the quarterly numbers")
_PRIORITIES = ("low", "medium", "high")


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    body: Any = None
    token: str = ""
    """Says who sends it, in `Authorization`."""

    @property
    def headers(self) -> dict[str, str]:
        """Returns those that depend on the request alone."""
        return {"Authorization": f"Bearer {self.token}"} if self.token else {}

    def encode(self, port: int) -> bytes:
        """Returns the request as bytes of HTTP."""
        own = "".join(f"{name}: {value}\r\n" for name, value in self.headers.items())
        head = f"{self.method} {self.path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n{own}"
        if self.body is None:
            return f"{head}\r\n".encode()
        body = json.dumps(self.body).encode()
        return f"{head}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


type Make = Callable[[random.Random, Iterator[str]], Request]
"""Makes a request; the iterator yields the paths of tasks to delete."""


@dataclass(frozen=True)
class Operation:
    name: str
    title: str
    make: Make
    status: int = 200
    writes: bool = False
    deletes: bool = False

    def requests(self, number: int, seed: int) -> list[Request]:
        """Returns the same requests for the same seed. They delete the first of the spare tasks."""
        rng = random.Random(seed)  # noqa: S311 - requests are not secret
        spares = (_task(*state.spare(each, USERS)) for each in range(number))
        return [self.make(rng, spares) for _ in range(number)]


@contextmanager
def database() -> Iterator[Postgres]:
    """Runs a database with the users and tasks of the operations."""
    with postgres.temporary() as server:
        data.fill(server.dsn, USERS, TASKS)
        data.fill(server.dsn, LARGE_USERS, LARGE_TASKS, first_user=USERS + 1)
        yield server


def _tasks(user: int) -> str:
    return f"/api/{data.user_id(user)}/tasks"


def _task(user: int, task_id: object) -> str:
    return f"{_tasks(user)}/{task_id}"


def _some_user(rng: random.Random) -> int:
    return rng.randint(1, USERS)


def _some_task(rng: random.Random) -> str:
    user = _some_user(rng)
    return _task(user, data.task_id(user, rng.randint(1, TASKS)))


def _get(rng: random.Random, _: Iterator[str]) -> Request:
    return Request("GET", _some_task(rng))


def _list(rng: random.Random, _: Iterator[str]) -> Request:
    return Request("GET", f"{_tasks(_some_user(rng))}?limit=20")


def _list_filtered(rng: random.Random, _: Iterator[str]) -> Request:
    user = USERS + rng.randint(1, LARGE_USERS)
    return Request("GET", f"{_tasks(user)}?limit=100&status=pending&tag=work")


def _create(rng: random.Random, _: Iterator[str]) -> Request:
    body = {
        "title": f"{rng.choice(_TITLES)}, {rng.randint(1, 1000)}{state.MARK}",
        "description": "As it was agreed upon at the meeting in spring, see the minutes.",
        "priority": rng.choice(_PRIORITIES),
        "due_date": f"2099-{rng.randint(1, 12):02}-{rng.randint(1, 28):02}T17:00:00Z",
        "tags": rng.sample(["work", "home", "urgent", "garden"], 2),
    }
    return Request("POST", _tasks(_some_user(rng)), body)


def _patch(rng: random.Random, _: Iterator[str]) -> Request:
    body = {"priority": rng.choice(_PRIORITIES), "status": rng.choice(("pending", "completed"))}
    return Request("PATCH", _some_task(rng), body)


def _delete(_: random.Random, spares: Iterator[str]) -> Request:
    return Request("DELETE", next(spares))


_MIX = {_list: 60, _get: 20, _create: 8, _patch: 8, _delete: 4}


def _mixed(rng: random.Random, spares: Iterator[str]) -> Request:
    [make] = rng.choices(list(_MIX), list(_MIX.values()))
    return make(rng, spares)


GET = Operation("get", "get one", _get)
LIST = Operation("list", "list 20", _list)
FILTERED = Operation("filtered", "list 100 filtered by status and tag", _list_filtered)
CREATE = Operation("create", "create", _create, status=201, writes=True)
PATCH = Operation("patch", "patch", _patch, writes=True)
DELETE = Operation("delete", "delete", _delete, writes=True, deletes=True)
MIX = Operation("mix", "mix: 60 % list, 20 % get, 20 % writes", _mixed, writes=True, deletes=True)

OPERATIONS = (GET, LIST, FILTERED, CREATE, PATCH, DELETE, MIX)
