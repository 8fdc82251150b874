"""The study of the database alone: statements as the data grows, lists of one large user, the cost of indexes.

Times are PostgreSQL's own, for prepared statements, without network and commit. Each statement runs once before its
measured runs, so that the pages that it needs are in memory, as they are for active users. Reserve huge pages for the
four servers first (`sysctl vm.nr_hugepages=8700`), or the processor's lookups of addresses are measured as well.
"""

import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from itertools import chain
from statistics import median
from typing import Any
from uuid import UUID, uuid4

from benchmarks import data, index_cost, large_user, postgres
from benchmarks.explain import Explainer, explainer
from benchmarks.options import Options
from benchmarks.samples import FILTERS, LIMIT, a_list, a_new_task
from benchmarks.tables import Goal, markdown
from persistence import batches, changes, task_lists, tasks, trash
from persistence.postgres.statement import Statement

TASKS = 100
"""Tasks of each user."""
SIZES, QUICK_SIZES = (10_000, 100_000, 1_000_000, 10_000_000), (10_000, 100_000)
BIG, QUICK_BIG = (100, 10_000, 200_000), (100, 20_000)
"""Tasks of one user among `OTHERS`."""
OTHERS, QUICK_OTHERS = 10_000, 1_000
FEW = 1_000
"""Users for the cost of indexes; the inserts soon touch all of their pages, as on a server that has run for a while."""
ROUNDS, QUICK_ROUNDS = 25, 3
SAMPLE, AT_ONCE, REPEATS = 300, 20, 3
"""Users for whom each statement runs, users in a row, and runs for each; the fastest run counts."""
MEMORY = "shared_buffers=4GB"
"""Enough for all pages of the sample; reads from the system's cache would be measured otherwise."""
FLAT, DEARER = 1.3, 1.6

BATCH = 20
"""Items of a batch."""
LAST_ID = UUID(int=(1 << 128) - 1)

LISTS = {
    "list 100": a_list(),
    "list 20": a_list(),
    "list, next page": a_list(start="after"),
    "list by status": a_list("status"),
    "list by priority": a_list("priority"),
    "list by tag": a_list("tags"),
    "list by status and tag": a_list("status", "tags"),
    "list overdue": a_list("overdue"),
    "list by word": a_list("words"),
    "sort by due date": a_list(sort="due_date", descending=False),
    "sort by title": a_list(sort="title", descending=False),
    "summary": task_lists.SUMMARY,
}


def run(options: Options) -> dict[str, Any]:
    sizes, big, others, rounds = (
        (QUICK_SIZES, QUICK_BIG, QUICK_OTHERS, QUICK_ROUNDS) if options.quick else (SIZES, BIG, OTHERS, ROUNDS)
    )
    with ExitStack() as stack:
        servers = {size: stack.enter_context(postgres.temporary(MEMORY)) for size in sizes}
        for size, server in servers.items():
            data.fill(server.dsn, size // TASKS, TASKS, has_trash=True)
        growth = _medians({size: stack.enter_context(explainer(server.dsn)) for size, server in servers.items()})
    with postgres.temporary(MEMORY) as server:
        data.fill(server.dsn, FEW, TASKS)
        cost = index_cost.measure(server.dsn, FEW, rounds)
    with postgres.temporary(MEMORY) as server:
        data.fill(server.dsn, others, TASKS)
        for number, count in enumerate(big[1:], others + 1):
            data.fill(server.dsn, 1, count, first_user=number)
        user = {str(count): large_user.measure(server.dsn, number, count) for number, count in enumerate(big, others)}
    return {"growth": growth, "large user": user, "create": cost}


def _medians(runners: Mapping[int, Explainer]) -> dict[str, dict[str, float]]:
    """Returns the median microseconds of each statement for random users, by the number of tasks.

    The databases alternate after a few users, so that all of them see the same changes of the machine.
    """
    rng = random.Random(0)  # noqa: S311 - users are not secret
    best: dict[int, dict[str, list[float]]] = {size: {} for size in runners}
    chosen = {size: rng.choices(range(1, size // TASKS + 1), k=SAMPLE) for size in runners}
    for begin in range(0, SAMPLE, AT_ONCE):
        for size, runner in runners.items():
            for number in chosen[size][begin : begin + AT_ONCE]:
                task = rng.randint(1, TASKS)
                # The first run reads the pages into memory.
                times = [_all(runner, rng, number, task) for _ in range(REPEATS + 1)][1:]
                for name in times[0]:
                    best[size].setdefault(name, []).append(min(taken[name] for taken in times))
    return {str(size): {name: median(taken) for name, taken in statements.items()} for size, statements in best.items()}


def _all(runner: Explainer, rng: random.Random, number: int, task: int) -> dict[str, float]:
    taken: dict[str, float] = {}
    user_id, made = data.user_id(number), [uuid4() for _ in range(1 + BATCH // 4)]
    revision = _revision(runner, user_id)
    for name, statement, values in chain(_work(rng, number, task, revision, made[0]), _batch(rng, number, made[1:])):
        taken[name] = taken.get(name, 0.0) + runner.run(statement, values).microseconds
    # Another run for the same user finds as many tasks.
    runner.connection.execute("DELETE FROM tasks WHERE user_id = %s AND id = ANY(%s)", [user_id, made])
    return taken


def _revision(runner: Explainer, user_id: UUID) -> int:
    [revision] = runner.connection.execute("SELECT revision FROM users WHERE id = %s", [user_id]).fetchone() or [0]
    return int(revision)


def _work(
    rng: random.Random, number: int, task: int, revision: int, new_id: UUID
) -> Iterator[tuple[str, Statement, Mapping[str, Any]]]:
    user_id, task_id = data.user_id(number), data.task_id(number, task)
    new = a_new_task(rng, user_id)
    this = {"user_id": user_id, "task_id": task_id, "versions": None}
    values = {f"new_{name}": value for name, value in new.items()} | this
    nothing = dict.fromkeys(values) | this | {"sends_description": False, "sends_due_date": False}
    middle = int(FILTERS["updated_after"].timestamp() * 1_000_000)
    feed = {"user_id": user_id, "limit": LIMIT, "id": LAST_ID}
    yield "feed, idle poll", changes.CHANGES, feed | dict.fromkeys(("version", "since", "seen"), revision)
    yield "feed, first page", changes.CHANGES, feed | {"version": 0, "since": None, "seen": 0}
    yield "feed, next page", changes.CHANGES, feed | {"version": middle, "since": revision, "seen": revision}
    yield "trash", trash.PAGE, {"user_id": user_id, "limit": LIMIT}
    yield "get", tasks.GET, this
    listed = {"user_id": user_id, "after": FILTERS["created_before"], "after_id": task_id, **FILTERS}
    for name, statement in LISTS.items():
        yield name, statement, listed | {"limit": 21 if name == "list 20" else LIMIT}
    yield "create", tasks.CREATE, {**new, "id": new_id}
    yield "patch", tasks.PATCH, nothing | {"new_title": new["title"]}
    yield "replace", tasks.REPLACE, values
    yield "delete", tasks.DELETE, this | {"task_id": new_id}
    yield "restore", tasks.RESTORE, this | {"task_id": new_id, "others_max": None}
    yield "delete again", tasks.DELETE, this | {"task_id": new_id}
    yield "erase", trash.ERASE, this | {"task_id": new_id}


def _batch(rng: random.Random, number: int, made: Sequence[UUID]) -> Iterator[tuple[str, Statement, Mapping[str, Any]]]:
    """Yields the statements of one batch: a quarter creates what another quarter deletes, the rest patches titles."""
    name, user_id = f"batch of {BATCH}", data.user_id(number)
    this = {"user_id": user_id, "versions": None}
    nothing = dict.fromkeys((f"new_{each}" for each in tasks.VALUES), None)
    nothing |= {f"sends_{each}": False for each in tasks.NULLABLE}
    patched = [data.task_id(number, each) for each in rng.sample(range(1, TASKS + 1), BATCH - 2 * len(made))]
    yield name, batches.LOCK_OWNER, this
    for task_id in made:
        yield name, tasks.CREATE, a_new_task(rng, user_id, task_id)
    for task_id in patched:
        yield name, tasks.PATCH, nothing | this | {"task_id": task_id, "new_title": f"Title {rng.randrange(1000)}"}
    for task_id in made:
        yield name, tasks.DELETE, this | {"task_id": task_id}
    asked = f"{{{','.join(map(str, patched))}}}"
    yield name, tasks.STATES, {"user_id": user_id, "ids": asked, "keys": f"{{{','.join(['NULL'] * len(patched))}}}"}


def table(result: dict[str, Any]) -> str:
    return "\n\n".join(
        [_growth_table(result["growth"]), _user_table(result["large user"]), _create_table(result["create"])]
    )


def _growth_table(growth: Mapping[str, Mapping[str, float]]) -> str:
    sizes = list(growth)
    rows = [
        [name, *(f"{growth[size][name]:.0f}" for size in sizes), f"{_rise(growth, name):.2f}"]
        for name in growth[sizes[0]]
    ]
    return markdown(["PostgreSQL, µs", *(f"{int(size):,} tasks" for size in sizes), "last / first"], rows)


def _user_table(user: Mapping[str, Mapping[str, Any]]) -> str:
    *smaller, biggest = user
    rows = []
    for name, case in user[biggest].items():
        others = [f"{user[size][name]['microseconds']:,.0f}" if name in user[size] else "" for size in smaller]
        read = [f"{case[key]:,}" for key in ("returned", "read", "pages")]
        rows.append([name, *others, f"{case['microseconds']:,.0f}", *read])
    times = [f"µs of {int(size):,}" for size in user]
    return markdown(["One user's list", *times, "returned", "read", "pages"], rows)


def _create_table(cost: Mapping[str, Any]) -> str:
    times = cost["microseconds"]
    base = times["pk_tasks"]
    rows = [["the table", "", "", f"{cost['bytes']['tasks']:.0f}"]]
    rows += [
        [
            f"{'' if name == 'pk_tasks' else '+ '}`{name}`",
            f"{taken:.0f}",
            f"{taken / base:.2f}",
            f"{cost['bytes'][name]:.0f}",
        ]
        for name, taken in times.items()
    ]
    return markdown(["Create with", "µs", "to the first", "bytes a task"], rows)


def goals(result: dict[str, Any]) -> list[Goal]:
    growth = result["growth"]
    rises = {name: _rise(growth, name) for name in next(iter(growth.values()))}
    worst = max(rises, key=lambda name: rises[name])
    times = list(result["create"]["microseconds"].values())
    ratio = times[-1] / times[0]
    first, last = (f"{int(size):,}" for size in (min(growth, key=int), max(growth, key=int)))
    return [
        Goal(
            f"database time from {first} to {last} tasks: within {FLAT} times",
            f"{rises[worst]:.2f} at most ({worst})",
            rises[worst] <= FLAT,
        ),
        Goal(
            f"create with all indexes against the primary key only: at most {DEARER} times",
            f"{ratio:.2f}",
            ratio <= DEARER,
        ),
    ]


def _rise(growth: Mapping[str, Mapping[str, float]], name: str) -> float:
    sizes = list(growth)
    return growth[sizes[-1]][name] / growth[sizes[0]][name]
