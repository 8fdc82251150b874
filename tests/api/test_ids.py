"""Ids of users and tasks: UUIDs in the one form with hyphens, in every path that has one."""

from typing import Any
from uuid import UUID, uuid4

import pytest

from tests.support.contract import OPERATIONS
from tests.support.helpers import Client, Json, address, assert_problem, call, make_task, write

NOT_IDS = [
    "null", "undefined", "0", "1", "42", "%20", "%00", "%FF", "%F0%9F%98%80", "x" * 3000,
    "3fa85f6457174562b3fc2c963f66afa6", "3fa85f64-5717-4562-b3fc-2c963f66afa", "3fa85f64-5717-4562-b3fc-2c963f66afag",
    "3fa85f64-5717-4562-b3fc-2c963f66afa6%0A", "%203fa85f64-5717-4562-b3fc-2c963f66afa6",
    "urn:uuid:3fa85f64-5717-4562-b3fc-2c963f66afa6", "%7B3fa85f64-5717-4562-b3fc-2c963f66afa6%7D",
    "%EF%BC%933fa85f64-5717-4562-b3fc-2c963f66afa6",
]  # fmt: skip
"""Texts in a path that are not ids."""

OF_USERS = {name: operation for name, operation in OPERATIONS.items() if operation.is_of_a_user}
OF_TASKS = {name: operation for name, operation in OPERATIONS.items() if operation.is_of_a_task}


@pytest.mark.parametrize("name", OF_USERS)
async def test_it_refuses_a_user_id_that_is_not_one(client: Client, name: str) -> None:
    for user in ("", *NOT_IDS):
        assert_problem(await call(client, OF_USERS[name], user, uuid4()), 400, "invalid-input", "user_id")


@pytest.mark.parametrize("name", OF_USERS)
async def test_me_is_nobody_where_no_tokens_are_asked_for(client: Client, name: str) -> None:
    assert_problem(await call(client, OF_USERS[name], "me", uuid4()), 404, "sign-in-off")


@pytest.mark.parametrize("name", OF_TASKS)
async def test_it_refuses_a_task_id_that_is_not_one(client: Client, alice: UUID, name: str) -> None:
    for task in NOT_IDS:
        assert_problem(await call(client, OF_TASKS[name], alice, task), 400, "invalid-input", "task_id")
    assert_problem(await call(client, OF_TASKS[name], "x", "1"), 400, "invalid-input", "user_id", "task_id")


async def test_it_refuses_an_id_in_a_body_that_is_not_one(client: Client, task: Json) -> None:
    task_id: Any
    for task_id in (None, True, 0, 2**63, [], {}, "", "1", "3fa85f6457174562b3fc2c963f66afa6", "\ud800", "\0"):
        response = await write(client, "POST", task, {"title": "x", "id": task_id})
        assert_problem(response, 400, "invalid-input", "id")


async def test_an_id_is_a_uuid_of_any_kind_in_lower_or_upper_case(client: Client, alice: UUID) -> None:
    for task_id in ("3fa85f64-5717-1562-b3fc-2c963f66afa6", "00000000-0000-0000-0000-000000000000"):
        task = await make_task(client, alice, id=task_id.upper())
        assert task["id"] == task_id
        assert (await client.get(address(task).upper().replace("TASKS", "tasks"))).json() == task
