"""Valid and invalid requests of all kinds, which can be repeated forever without making the data grow."""

import random
from collections.abc import Callable
from itertools import chain
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from benchmarks import data
from benchmarks.operations import CREATE, GET, PATCH, USERS, Request

NUMBER = 2500
SHAPES = 200
"""Distinct combinations of filters and sort."""
APART = 250
"""Requests between the creation and the deletion of a task; far fewer are in flight at the same time."""

_SORTS = ("created_at", "-created_at", "updated_at", "-updated_at", "due_date", "-due_date", "priority", "-title")
_FILTERS = (
    ("status", "pending"), ("completed", "true"), ("priority", "high"), ("priority", "low"), ("tag", "work"),
    ("tag", "urgent"), ("overdue", "true"), ("has_due_date", "false"), ("due_after", "2026-01-01T00:00:00Z"),
    ("created_before", "2040-01-01T00:00:00Z"), ("q", "report"),
)  # fmt: skip
_BAD_QUERIES = ("limit=0", "limit=many", "sort=colour", "status=lost", "cursor=x", "unknown=1", "due_before=soon")
_BAD_BODIES: tuple[Any, ...] = (
    {},
    {"title": ""},
    {"title": "x", "priority": "urgent"},
    {"title": "x", "tags": "none"},
    ["title"],
)

type _Make = Callable[[random.Random], Request]


def requests() -> list[Request]:
    """Returns the same requests every time; their statuses are 200, 201, 400 and 404."""
    rng = random.Random(1)  # noqa: S311 - requests are not secret
    shapes = [_shape(rng) for _ in range(SHAPES)]
    shares: dict[_Make, int] = {
        lambda rng: _list(rng, rng.choice(shapes)): 40,
        lambda rng: GET.make(rng, iter(())): 30,
        lambda rng: PATCH.make(rng, iter(())): 10,
        _missing: 10,
        _wrong_query: 5,
        _wrong_body: 5,
    }
    makes = rng.choices(list(shares), list(shares.values()), k=NUMBER * 4 // 5)
    others = [make(rng) for make in makes]
    pairs = [_pair(rng) for _ in range(NUMBER // 10)]
    # Each ten requests have one that creates a task, and one that deletes a task created `APART` requests ago.
    mixed = [
        [created, pairs[number - APART // 10][1], *others[number * 8 : number * 8 + 8]]
        for number, (created, _) in enumerate(pairs)
    ]
    return list(chain.from_iterable(mixed))


def _tasks(rng: random.Random) -> str:
    return f"/api/{data.user_id(rng.randint(1, USERS))}/tasks"


def _shape(rng: random.Random) -> str:
    chosen = rng.sample(_FILTERS, rng.randint(0, 3))
    return urlencode([("sort", rng.choice(_SORTS)), *chosen])


def _list(rng: random.Random, shape: str) -> Request:
    return Request("GET", f"{_tasks(rng)}?limit={rng.choice((5, 20, 50))}&{shape}")


def _missing(rng: random.Random) -> Request:
    path = f"{_tasks(rng)}/{_some_id(rng)}" if rng.random() < 0.7 else f"/api/{rng.randint(1, 10**9)}/nothing"
    return Request(rng.choice(("GET", "DELETE")), path)


def _wrong_query(rng: random.Random) -> Request:
    return Request("GET", f"{_tasks(rng)}?{rng.choice(_BAD_QUERIES)}")


def _wrong_body(rng: random.Random) -> Request:
    return Request("POST", _tasks(rng), rng.choice(_BAD_BODIES))


def _pair(rng: random.Random) -> tuple[Request, Request]:
    """Returns a request that creates a task, and one that deletes it."""
    task_id, created = _some_id(rng), CREATE.make(rng, iter(()))
    body = created.body | {"id": str(task_id)}
    return Request("POST", created.path, body), Request("DELETE", f"{created.path}/{task_id}")


def _some_id(rng: random.Random) -> UUID:
    return UUID(int=rng.getrandbits(128), version=4)
