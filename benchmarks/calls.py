"""The functions behind the API, called for users picked at random, as they are when the server serves them."""

import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

from benchmarks import data
from benchmarks.samples import a_new_task
from persistence import batches, changes, task_lists, tasks, transfers
from persistence.batches import Write
from persistence.postgres.database import Database

USERS, TASKS = 1_000, 100
PAGE = 100


@dataclass
class Target:
    """The database that serves a user, and the owners and ids of tasks that may be deleted there."""

    database_for: Callable[[UUID], Database]
    spare: list[tuple[UUID, UUID]] = field(default_factory=list)


type Call = Callable[[Target, random.Random], Awaitable[object]]


def _user(dice: random.Random) -> tuple[int, UUID]:
    number = dice.randint(1, USERS)
    return number, data.user_id(number)


def _task(dice: random.Random) -> tuple[UUID, UUID]:
    number, user = _user(dice)
    return user, data.task_id(number, dice.randint(1, TASKS))


async def _get(target: Target, dice: random.Random) -> object:
    user, task = _task(dice)
    return await tasks.get(target.database_for(user), user, task)


async def _list(target: Target, dice: random.Random) -> object:
    _, user = _user(dice)
    return await task_lists.page(target.database_for(user), user, 20)


async def _changes(target: Target, dice: random.Random) -> object:
    _, user = _user(dice)
    return await changes.page(target.database_for(user), user, PAGE, changes.BEGINNING)


async def _create(target: Target, dice: random.Random) -> object:
    _, user = _user(dice)
    task = uuid4()
    target.spare.append((user, task))
    return await tasks.create(target.database_for(user), user, _values(dice, user), task)


async def _patch_title(target: Target, dice: random.Random) -> object:
    user, task = _task(dice)
    return await tasks.patch(target.database_for(user), user, task, {"title": f"Call Maria, {dice.randrange(1000)}"})


async def _patch_status(target: Target, dice: random.Random) -> object:
    user, task = _task(dice)
    return await tasks.patch(target.database_for(user), user, task, {"status": dice.choice(("pending", "completed"))})


async def _delete(target: Target, _: random.Random) -> object:
    user, task = target.spare.pop(0)
    return await tasks.remove(target.database_for(user), user, task)


async def _batch(target: Target, dice: random.Random) -> object:
    number, user = _user(dice)
    title = {"title": f"Title {dice.randrange(1000)}"}
    created = [Write("create", uuid4(), _values(dice, user)) for _ in range(5)]
    patched = [Write("patch", data.task_id(number, each), title) for each in dice.sample(range(1, TASKS + 1), 15)]
    return await batches.run(target.database_for(user), user, created + patched)


async def _export(target: Target, dice: random.Random) -> object:
    _, user = _user(dice)
    return [rows async for rows in transfers.export(target.database_for(user), user, with_trash=True)]


def _values(dice: random.Random, user: UUID) -> dict[str, Any]:
    values = a_new_task(dice, user)
    return {name: values[name] for name in tasks.VALUES} | {"tags": ["home", "urgent"]}


CALLS: dict[str, Call] = {
    "get": _get,
    "list of 20": _list,
    "page of 100 changes": _changes,
    "create": _create,
    "patch of a title": _patch_title,
    "patch of a status": _patch_status,
    "delete": _delete,
    "batch of 20": _batch,
    "export of all tasks": _export,
}
MIX = {"list of 20": 60, "get": 20, "create": 8, "patch of a status": 8, "delete": 4}
"""Percent of each operation in the mix, as in the other studies."""
