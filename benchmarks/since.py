"""The study of what revisions, the feed and the trash cost: each statement beside that of the last commit before them.

Both run as they do in the product, prepared and each in a transaction of its own, on two servers in turns. Times are
those that PostgreSQL's process for the connection spends on a processor, so another program that wants it counts
little; one runs beside, as a processor that had slept is slow for a while, which hit one side more than the other.
"""

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any
from uuid import UUID, uuid4

from benchmarks import data, earlier, environment, postgres
from benchmarks.contenders import THIS_PROJECT
from benchmarks.operations import CREATE, DELETE, GET, LIST, PATCH
from benchmarks.options import Options
from benchmarks.postgres import Postgres
from benchmarks.processes import awake
from benchmarks.samples import a_list, a_new_task
from benchmarks.tables import Goal, geometric_mean, markdown
from persistence import tasks
from persistence.postgres.connection import Connection
from persistence.postgres.dsn import Dsn
from persistence.postgres.statement import Statement

USERS, TASKS = 1_000, 100
AT_ONCE = 20
"""Runs of one statement in a row, on one of the two servers."""
WARM_UP = 40
"""Batches that do not count; the rows of users move to pages that have room."""
LIMITS = {"get": 1.0, "list": 1.0, "create": 1.3, "patch of a title": 1.7, "patch of a status": 1.4}
SERVED = (GET, LIST, CREATE, PATCH, DELETE)
SERVER_WARM_UP = 0.5
SERVER_LIMIT = 1.03

EARLIER, NOW = "earlier", "now"

type Operation = Callable[[Side, random.Random], tuple[Statement, dict[str, Any]]]


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
    # Pages that are written for the first time after a checkpoint would count for the statement that meets them.
    settings = ("full_page_writes=off",)
    with earlier.checked_out() as folder, ExitStack() as stack:
        before = stack.enter_context(earlier.database(folder, USERS, TASKS, *settings))
        now = stack.enter_context(postgres.temporary(*settings))
        data.fill(now.dsn, USERS, TASKS)
        dsns, batches = {EARLIER: before.dsn, NOW: now.dsn}, 60 if options.quick else 200
        with awake():
            statements = asyncio.run(_measure(dsns, earlier.statements(folder), batches))
        return {"statements": statements, "server": _serve(options, {EARLIER: before, NOW: now}, folder)}


def _serve(options: Options, databases: Mapping[str, Postgres], folder: Path) -> dict[str, dict[str, list[float]]]:
    """Returns the milliseconds of server CPU of a request in each round, by operation and side."""
    chosen = {EARLIER: replace(THIS_PROJECT, name=EARLIER, folder=folder), NOW: replace(THIS_PROJECT, name=NOW)}
    taken: dict[str, dict[str, list[float]]] = {each.name: {EARLIER: [], NOW: []} for each in SERVED}
    with ExitStack() as stack:
        running = {
            name: stack.enter_context(
                environment.running(databases[name], databases[name].port, options.clients, SERVER_WARM_UP, [each])
            )
            for name, each in chosen.items()
        }
        # The difference is so small that many short rounds tell it better than a few long ones.
        for number in range(4 * options.rounds):
            for operation in SERVED:
                for name in (EARLIER, NOW)[:: 1 if number % 2 else -1]:
                    measured = running[name].measure(name, operation, options.seconds / 4, seed=2 * number)
                    taken[operation.name][name].append(measured.server_cpu)
    return taken


async def _measure(dsns: Mapping[str, Dsn], old: Mapping[str, Statement], batches: int) -> dict[str, Any]:
    new = {
        "get": tasks.GET,
        "list": a_list(),
        "create": tasks.CREATE,
        "patch of a title": tasks.PATCH,
        "patch of a status": tasks.PATCH_STATUS,
        "delete": tasks.DELETE,
    }
    # There was one for all patches.
    old = {**old, "patch of a title": old["patch"], "patch of a status": old["patch"]}
    sides = {}
    for name, statements in ((EARLIER, old), (NOW, new)):
        connection = await Connection.connect(dsns[name].conninfo, autocommit=True, prepare_threshold=None)
        sides[name] = Side(connection, statements)
    for operations in (_READS, _WRITES):
        await _take_turns(list(sides.values()), operations, batches)
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
        for operation in _READS | _WRITES
    }


async def _take_turns(sides: Sequence[Side], operations: Mapping[str, Operation], batches: int) -> None:
    rng = random.Random(0)  # noqa: S311 - users are not secret
    for number in range(WARM_UP + batches):
        if number == WARM_UP:
            for side in sides:
                for operation in operations:
                    del side.microseconds[operation], side.bytes[operation]
        for operation, make in operations.items():
            seed = rng.random()
            for side in sides[:: 1 if number % 2 else -1]:
                dice = random.Random(seed)  # noqa: S311 - users are not secret
                await side.measure(operation, [make(side, dice) for _ in range(AT_ONCE)])


def _get(side: Side, rng: random.Random) -> tuple[Statement, dict[str, Any]]:
    return side.statements["get"], _some_task(rng)


def _list(side: Side, rng: random.Random) -> tuple[Statement, dict[str, Any]]:
    return side.statements["list"], {"user_id": _some_task(rng)["user_id"], "limit": 21}


def _create(side: Side, rng: random.Random) -> tuple[Statement, dict[str, Any]]:
    user, task_id = rng.randint(1, USERS), uuid4()
    side.spare.append((user, task_id))
    return side.statements["create"], a_new_task(rng, data.user_id(user), task_id) | {"tags": ["home", "urgent"]}


def _patch_title(side: Side, rng: random.Random) -> tuple[Statement, dict[str, Any]]:
    return side.statements["patch of a title"], _patching(rng, title=f"Call the landlord, {rng.randrange(1000)}")


def _patch_status(side: Side, rng: random.Random) -> tuple[Statement, dict[str, Any]]:
    return side.statements["patch of a status"], _patching(rng, status=rng.choice(("pending", "completed")))


def _delete(side: Side, _: random.Random) -> tuple[Statement, dict[str, Any]]:
    user, task_id = side.spare.pop(0)
    return side.statements["delete"], {"user_id": data.user_id(user), "task_id": task_id, "versions": None}


_READS: dict[str, Operation] = {"get": _get, "list": _list}
# The reads here also clear away what the writes leave in pages and indexes.
_WRITES: dict[str, Operation] = {
    "get beside the writes": _get,
    "list beside the writes": _list,
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
    new = {f"new_{name}": each for name, each in changes.items()}
    return _some_task(rng) | {"versions": None} | nothing | sends | new


def table(result: dict[str, Any]) -> str:
    statements = [
        [
            name,
            *(f"{each[side][figure]:.0f}" for figure in ("microseconds", "bytes") for side in (EARLIER, NOW)),
            f"{each['ratio']:.2f}",
        ]
        for name, each in result["statements"].items()
    ]
    served = [
        [each.title, *(f"{median(result['server'][each.name][side]):.3f}" for side in (EARLIER, NOW)), f"{ratio:.3f}"]
        for each, ratio in zip(SERVED, _server_ratios(result), strict=True)
    ]
    served.append(["**geometric mean**", "", "", f"**{geometric_mean(_server_ratios(result)):.3f}**"])
    return "\n\n".join(
        (
            markdown(
                [
                    "A statement, µs of PostgreSQL's CPU",
                    "earlier",
                    "now",
                    "bytes of WAL earlier",
                    "now",
                    "ratio of CPU",
                ],
                statements,
            ),
            markdown(["A request, ms of server CPU", "earlier", "now", "ratio"], served),
        )
    )


def goals(result: dict[str, Any]) -> list[Goal]:
    found = [
        Goal(
            f"PostgreSQL's CPU over that of `{earlier.COMMIT}`, {name}: {limit} at most",
            f"{result['statements'][name]['ratio']:.2f}",
            round(result["statements"][name]["ratio"], 2) <= limit,
        )
        for name, limit in LIMITS.items()
    ]
    mean = geometric_mean(_server_ratios(result))
    text = f"server CPU over that of `{earlier.COMMIT}`, geometric mean: {SERVER_LIMIT} at most"
    return [*found, Goal(text, f"{mean:.3f}", mean <= SERVER_LIMIT)]


def _server_ratios(result: dict[str, Any]) -> list[float]:
    """Returns the median of the rounds' ratios of each operation."""
    rounds = (result["server"][each.name] for each in SERVED)
    return [median(now / before for now, before in zip(each[NOW], each[EARLIER], strict=True)) for each in rounds]
