"""What clients notice while `manage.py distribute` goes from step to step: nothing."""

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from persistence import batches, changes, distribution, task_lists, tasks, transfers, trash, users
from persistence.batches import Write
from persistence.distribution import DistributionError
from persistence.distribution_steps import STEPS
from persistence.postgres.connection import PREPARE_AFTER
from persistence.postgres.database import Database, open_database
from persistence.postgres.dsn import Dsn
from tests.citus.test_distribute import NAMES, fill, rows
from tests.database.helpers import TASK, eventually, options
from tests.support.databases import execute

TYING = NAMES.index("Tie tasks to users again")
UNTYING = NAMES.index("Untie tasks from users")
NOW = datetime.now(UTC)
IMPORTED = {**TASK, "created_at": NOW, "updated_at": NOW, "completed_at": None, "deleted_at": None}


@pytest.fixture
async def database(coordinator: Dsn) -> AsyncIterator[Database]:
    """One connection, which keeps its plans while the tables change."""
    async with open_database(coordinator, options(most=1)) as database:
        yield database


async def use_all(database: Database) -> None:
    """What a server and an operator do with users and tasks, from the first write of a user to its erasure."""
    user_id = uuid4()
    task = await tasks.create(database, user_id, TASK, makes_owner=True)
    assert task
    task_id: UUID = task["id"]
    assert await tasks.create(database, user_id, TASK, tasks_max=10)
    assert await tasks.patch(database, user_id, task_id, {"title": "Buy bread"})
    assert await tasks.patch(database, user_id, task_id, {"priority": "high"}, key="a key")
    assert await tasks.replace(database, user_id, task_id, TASK, key="another key")
    writes = [Write("create", uuid4(), TASK), Write("patch", task_id, {"title": "Buy tea"}), Write("delete", task_id)]
    assert len(await batches.run(database, user_id, writes)) == len(writes)
    assert await trash.page(database, user_id, 20)
    assert await tasks.restore(database, user_id, task_id)
    imported = {**IMPORTED, "id": uuid4()}
    assert await transfers.insert_tasks(database, user_id, [imported], makes_owner=True)
    assert await tasks.get(database, user_id, task_id)
    for sort in ("created_at", "title", "due_date"):
        assert len(await task_lists.page(database, user_id, 20, {"words": ["buy"]}, sort)) == 4
    assert await task_lists.summary(database, user_id)
    assert await changes.page(database, user_id, 20, changes.BEGINNING)
    assert (await users.account(database, user_id)).total == 4
    assert await transfers.owner_and_numbers(database, user_id, 10)
    assert sum([len(batch) async for batch in transfers.export(database, user_id, with_trash=True)]) == 4
    await tasks.remove(database, user_id, task_id)
    await trash.erase_all(database, user_id)
    assert await users.erase(database, user_id) == 3
    email = f"{user_id}@example.com"
    made = await users.create(database, email)
    assert made
    assert await users.create(database, email) is None
    assert await users.find(database, email) == made
    assert await users.erase(database, made) == 0


async def test_every_function_works_between_any_two_steps(
    coordinator: Dsn, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(PREPARE_AFTER + 1):
        await use_all(database)
    for number, name in enumerate(NAMES[1:], 1):
        monkeypatch.setattr(distribution, "STEPS", STEPS[: number + 1])
        [run] = await asyncio.to_thread(distribution.distribute, coordinator)
        assert run.step.description == name
        await use_all(database)
    assert rows(coordinator, "SELECT count(*) FROM tasks") == [(0,)]


async def test_no_call_fails_and_no_write_is_lost_while_it_runs(coordinator: Dsn) -> None:
    fill(coordinator)
    kept = dict[UUID, int]()
    is_moving = True

    async def repeat(call: Callable[[Database], Awaitable[Any]], database: Database) -> int:
        number = 0
        while is_moving:
            await call(database)
            number += 1
        return number

    async def write(database: Database) -> None:
        user_id = uuid4()
        made = await tasks.create(database, user_id, TASK, makes_owner=True)
        assert made
        changed = await tasks.patch(database, user_id, made["id"], {"title": "Buy bread"})
        assert changed
        kept[made["id"]] = changed["version"]

    async with open_database(coordinator, options(most=4)) as database:
        using = [asyncio.create_task(repeat(call, database)) for call in (write, write, use_all)]
        await asyncio.to_thread(distribution.distribute, coordinator)
        is_moving = False
        assert all(await asyncio.gather(*using))
    found = dict(rows(coordinator, "SELECT id, version FROM tasks WHERE title = 'Buy bread'"))
    assert found == kept
    assert rows(coordinator, "SELECT count(*) FROM tasks") == [(100 + len(kept),)]


def test_tasks_whose_users_go_while_they_are_not_tied_go_too(coordinator: Dsn, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(coordinator)
    monkeypatch.setattr(distribution, "STEPS", STEPS[:TYING])
    distribution.distribute(coordinator)
    # As a create leaves them that runs beside the erasure.
    execute(
        coordinator,
        "DELETE FROM users WHERE email = '7@example.com'",
        "UPDATE users SET is_erased = true, email = NULL WHERE email = '8@example.com'",
    )
    assert rows(coordinator, "SELECT count(*) FROM tasks") == [(100,)]
    monkeypatch.undo()
    distribution.distribute(coordinator)
    assert rows(coordinator, "SELECT count(*) FROM tasks") == [(90,)]
    assert distribution.status(coordinator).left == []


@pytest.mark.parametrize("number", [UNTYING, TYING], ids=["untying", "tying"])
async def test_a_step_that_waits_for_a_table_in_use_holds_up_nobody(
    coordinator: Dsn, nodes: list[Dsn], number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(coordinator)
    monkeypatch.setattr(distribution, "STEPS", STEPS[:number])
    distribution.distribute(coordinator)
    monkeypatch.undo()
    # Once the tables are spread, each node has locks of its own.
    node = nodes[1] if number == TYING else coordinator
    waits = "EXISTS (SELECT FROM pg_locks WHERE NOT granted AND relation = 'tasks'::regclass)"
    with psycopg.connect(node.conninfo) as writer:
        # Until the end of its transaction, as an export keeps the table.
        writer.execute("UPDATE tasks SET title = 'y'")
        moving = threading.Thread(target=distribution.distribute, args=(coordinator,))
        moving.start()
        await eventually(lambda: rows(node, f"SELECT {waits}") == [(True,)])
        execute(
            coordinator,
            "SET lock_timeout = '30s'",
            "INSERT INTO tasks (id, user_id, title) SELECT gen_random_uuid(), id, 'z' FROM users LIMIT 1",
        )
        assert moving.is_alive()
    moving.join()
    assert distribution.status(coordinator).left == []


def test_a_table_that_stays_in_use_is_an_error_and_it_may_be_run_again(
    coordinator: Dsn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(distribution, "PATIENCE", 0.0)
    with psycopg.connect(coordinator.conninfo) as reader:
        reader.execute("SELECT FROM tasks")
        with pytest.raises(DistributionError, match=r"^Untie tasks from users: .* lock timeout\. .* run it again"):
            distribution.distribute(coordinator)
    assert [step.description for step in distribution.status(coordinator).left] == NAMES[UNTYING:]
    distribution.distribute(coordinator)
    assert distribution.status(coordinator).left == []
