"""No operation touches a row of another user, not even to lock it or to write what it says already.

PostgreSQL tells it: each row has the transactions that wrote and that locked it last. All operations of the contract
are tried, so a new one needs no line here unless the example of its body is about no task.
"""

from typing import Any
from uuid import UUID, uuid4

import pytest

from persistence.postgres.database import Database
from tests.support.contract import OPERATIONS
from tests.support.helpers import Client, call, make_task

OF_USERS = [name for name, operation in OPERATIONS.items() if operation.is_of_a_user]
STATES = ("live", "trashed", "erased", "none")
ROWS = b"""
    SELECT 'task', xmin::text, xmax::text, tasks::text FROM tasks WHERE user_id = %(user)s
    UNION ALL SELECT 'user', xmin::text, xmax::text, users::text FROM users WHERE id = %(user)s ORDER BY 4
"""


async def rows_of(owner: Database, user: UUID) -> list[tuple[Any, ...]]:
    async with owner.connection() as connection:
        return await (await connection.execute(ROWS, {"user": user})).fetchall()


async def make_one_of_each(client: Client, user: UUID, ids: dict[str, str]) -> None:
    for state in ("live", "trashed", "erased"):
        await make_task(client, user, id=ids[state])
    for state in ("trashed", "erased"):
        assert (await client.delete(f"{user}/tasks/{ids[state]}")).is_success
    assert (await client.delete(f"{user}/trash/{ids['erased']}")).is_success


def batch(ids: dict[str, str]) -> dict[str, Any]:
    ops = {"live": "patch", "trashed": "restore", "erased": "create", "none": "create"}
    return {
        "items": [
            {"op": op, "id": ids[state]} | ({"title": "x"} if op != "restore" else {}) for state, op in ops.items()
        ]
    }


@pytest.mark.parametrize("name", OF_USERS)
async def test_it_touches_no_row_of_another_user(
    name: str, client: Client, owner: Database, alice: UUID, bob: UUID
) -> None:
    operation, ids = OPERATIONS[name], {state: str(uuid4()) for state in STATES}
    for user in (alice, bob):
        await make_one_of_each(client, user, ids)
    his, hers = await rows_of(owner, bob), await rows_of(owner, alice)
    sent: dict[str, Any] = {"json": batch(ids)} if name == "write_batch" else {}
    answers = [await call(client, operation, alice, task_id, **sent) for task_id in ids.values()]

    assert any(answer.is_success for answer in answers)
    assert await rows_of(owner, bob) == his
    assert (await rows_of(owner, alice) == hers) == (operation.method == "GET")
