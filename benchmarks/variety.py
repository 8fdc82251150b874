"""Requests of all sorts, right and wrong, that can be sent over and over without the data growing."""

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
"""Different combinations of filters and sort."""
APART = 250
"""Requests between one that creates a task and the one that deletes it: those sent at the same time are far fewer."""

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
    """The same every time; their answers are 200, 201, 400 and 404."""
    dice = random.Random(1)  # noqa: S311 - what is asked for is no secret
    shapes = [_shape(dice) for _ in range(SHAPES)]
    shares: dict[_Make, int] = {
        lambda dice: _list(dice, dice.choice(shapes)): 40,
        lambda dice: GET.make(dice, iter(())): 30,
        lambda dice: PATCH.make(dice, iter(())): 10,
        _missing: 10,
        _wrong_query: 5,
        _wrong_body: 5,
    }
    makes = dice.choices(list(shares), list(shares.values()), k=NUMBER * 4 // 5)
    others = [make(dice) for make in makes]
    pairs = [_pair(dice) for _ in range(NUMBER // 10)]
    # Of ten requests in a row one creates a task and one deletes what another has created a while ago.
    mixed = [
        [created, pairs[turn - APART // 10][1], *others[turn * 8 : turn * 8 + 8]]
        for turn, (created, _) in enumerate(pairs)
    ]
    return list(chain.from_iterable(mixed))


def _tasks(dice: random.Random) -> str:
    return f"/api/{data.user_id(dice.randint(1, USERS))}/tasks"


def _shape(dice: random.Random) -> str:
    chosen = dice.sample(_FILTERS, dice.randint(0, 3))
    return urlencode([("sort", dice.choice(_SORTS)), *chosen])


def _list(dice: random.Random, shape: str) -> Request:
    return Request("GET", f"{_tasks(dice)}?limit={dice.choice((5, 20, 50))}&{shape}")


def _missing(dice: random.Random) -> Request:
    path = f"{_tasks(dice)}/{_some_id(dice)}" if dice.random() < 0.7 else f"/api/{dice.randint(1, 10**9)}/nothing"
    return Request(dice.choice(("GET", "DELETE")), path)


def _wrong_query(dice: random.Random) -> Request:
    return Request("GET", f"{_tasks(dice)}?{dice.choice(_BAD_QUERIES)}")


def _wrong_body(dice: random.Random) -> Request:
    return Request("POST", _tasks(dice), dice.choice(_BAD_BODIES))


def _pair(dice: random.Random) -> tuple[Request, Request]:
    """One that creates a task, and one that deletes it."""
    task_id, created = _some_id(dice), CREATE.make(dice, iter(()))
    body = created.body | {"id": str(task_id)}
    return Request("POST", created.path, body), Request("DELETE", f"{created.path}/{task_id}")


def _some_id(dice: random.Random) -> UUID:
    return UUID(int=dice.getrandbits(128), version=4)
