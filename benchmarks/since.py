"""The study of what revisions, the feed and the trash cost: each statement beside that of the last commit before them.

Both run as they do in the product, prepared and each in a transaction of its own, on two servers in turns. Times are
those that PostgreSQL's process for the connection spends on a processor, so another program that wants it counts
little.
"""

import asyncio
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any
from uuid import UUID, uuid4

from benchmarks import data, earlier, postgres
from benchmarks.options import Options
from benchmarks.samples import a_list, a_new_task
from benchmarks.tables import Goal, markdown
from persistence import tasks
from persistence.postgres.connection import Connection
from persistence.postgres.dsn import Dsn
from persistence.postgres.statement import Statement

USERS, TASKS = 1_000, 100
AT_ONCE = 20
"""Runs of one statement in a row, on one of the two servers."""
WARM_UP = 40
"""Batches that do not count; the rows of users move to pages that have room."""
LIMITS = {"get": 1.0, "list": 1.0, "create": 1.3, "patch of a title": 1.7, "patch of a status": 1.4, "delete": None}
NOISE = 0.03

EARLIER, NOW = "earlier", "now"


class Side:
    """One of the two: a connection, and what its server has written and spent."""

    def __init__(self, connection: Connection, statements: Mapping[str, Statement]) -> None:
        self.connection = connection
        self.statements = statements
        self._schedule = Path(f"/proc/{connection.info.backend_pid}/schedstat")
        self.spare: list[tuple[int, UUID]] = []
        self.microseconds: dict[str, list[float]] = {}
        self.bytes: dict[str, list[float]] = {}

    async def wal(self) -> int:
        cursor = await self.connection.execute("SELECT pg_current_wal_insert_lsn() - '0/0'")
        [position] = await cursor.fetchone() or [0]
        return int(position)

    def cpu(self) -> int:
        return int(self._schedule.read_text().split()[0])

    async def measure(self, name: str, runs: list[tuple[Statement, dict[str, Any]]]) -> None:
        written, spent = await self.wal(), self.cpu()
        for statement, values in runs:
            await self.connection.fetch(statement, values)
        spent = self.cpu() - spent
        self.microseconds.setdefault(name, []).append(spent / len(runs) / 1000)
        self.bytes.setdefault(name, []).append((await self.wal() - written) / len(runs))


def run(options: Options) -> dict[str, Any]:
    batches = 60 if options.quick else 400
    with earlier.checked_out() as folder, ExitStack() as stack:
        # Pages that are written for the first time after a checkpoint would count for whom they meet.
        settings = ("full_page_writes=off",)
        before = stack.enter_context(earlier.database(folder, USERS, TASKS, *settings))
        now = stack.enter_context(postgres.temporary(*settings))
        data.fill(now.dsn, USERS, TASKS)
        return asyncio.run(_measure({EARLIER: before.dsn, NOW: now.dsn}, earlier.statements(folder), batches))


async def _measure(dsns: Mapping[str, Dsn], old: Mapping[str, Statement], batches: int) -> dict[str, Any]:
    new = {"get": tasks.GET, "create": tasks.CREATE, "patch": tasks.PATCH, "delete": tasks.DELETE, "list": a_list()}
    sides = {}
    for name, statements in ((EARLIER, old), (NOW, new)):
        connection = await Connection.connect(dsns[name].conninfo, autocommit=True, prepare_threshold=None)
        sides[name] = Side(connection, statements)
    rng = random.Random(0)  # noqa: S311 - users are not secret
    for number in range(WARM_UP + batches):
        order = list(sides.values())[:: 1 if number % 2 else -1]
        if number == WARM_UP:
            for side in order:
                side.microseconds.clear()
                side.bytes.clear()
        for operation, make in _OPERATIONS.items():
            seed = rng.random()
            for side in order:
                dice = random.Random(seed)  # noqa: S311 - users are not secret
                await side.measure(operation, [make(side, dice) for _ in range(AT_ONCE)])
    for side in sides.values():
        await side.connection.close()
    return {
        operation: {
            "ratio": median(
                one / other
                for one, other in zip(
                    sides[NOW].microseconds[operation], sides[EARLIER].microseconds[operation], strict=True
                )
            )
        }
        | {
            name: {"microseconds": median(side.microseconds[operation]), "bytes": median(side.bytes[operation])}
            for name, side in sides.items()
        }
        for operation in _OPERATIONS
    }


def _get(side: Side, rng: random.Random) -> tuple[Statement, dict[str, Any]]:
    return side.statements["get"], _some_task(rng)


def _list(side: Side, rng: random.Random) -> tuple[Statement, dict[str, Any]]:
    return side.statements["list"], {"user_id": _some_task(rng)["user_id"], "limit": 21}


def _create(side: Side, rng: random.Random) -> tuple[Statement, dict[str, Any]]:
    user, task_id = rng.randint(1, USERS), uuid4()
    side.spare.append((user, task_id))
    values = a_new_task(rng, data.user_id(user), task_id)
    return side.statements["create"], values | {"tags": values["tags"].strip("{}").split(",") if values["tags"] != "{}" else []}


def _patch_title(side: Side, rng: random.Random) -> tuple[Statement, dict[str, Any]]:
    return side.statements["patch"], _patching(rng, title=f"Call the landlord, {rng.randrange(1000)}")


def _patch_status(side: Side, rng: random.Random) -> tuple[Statement, dict[str, Any]]:
    return side.statements["patch"], _patching(rng, status=rng.choice(("pending", "completed")))


def _delete(side: Side, _: random.Random) -> tuple[Statement, dict[str, Any]]:
    user, task_id = side.spare.pop(0)
    return side.statements["delete"], {"user_id": data.user_id(user), "task_id": task_id, "versions": None}


_OPERATIONS: dict[str, Callable[[Side, random.Random], tuple[Statement, dict[str, Any]]]] = {
    "get": _get,
    "list": _list,
    "create": _create,
    "patch of a title": _patch_title,
    "patch of a status": _patch_status,
    "delete": _delete,
}


def _some_task(rng: random.Random) -> dict[str, Any]:
    user = rng.randint(1, USERS)
    return {"user_id": data.user_id(user), "task_id": data.task_id(user, rng.randint(1, TASKS))}


def _patching(rng: random.Random, **changes: Any) -> dict[str, Any]:
    nothing: dict[str, Any] = {f"new_{name}": None for name in tasks.VALUES}
    sends = {f"sends_{name}": False for name in tasks.NULLABLE}
    return _some_task(rng) | {"versions": None} | nothing | sends | {f"new_{name}": each for name, each in changes.items()}


def table(result: dict[str, Any]) -> str:
    rows = [
        [
            name,
            *(f"{each[side][figure]:.0f}" for figure in ("microseconds", "bytes") for side in (EARLIER, NOW)),
            f"{each['ratio']:.2f}",
        ]
        for name, each in result.items()
    ]
    return markdown(["PostgreSQL's CPU of a statement", "µs earlier", "now", "bytes of WAL earlier", "now", "ratio of CPU"], rows)


def goals(result: dict[str, Any]) -> list[Goal]:
    return [
        Goal(f"PostgreSQL's CPU of {name} over that of {earlier.COMMIT}: {limit} at most", f"{result[name]['ratio']:.2f}", result[name]["ratio"] <= limit + NOISE)
        for name, limit in LIMITS.items()
        if limit
    ]
