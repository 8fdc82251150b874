"""Changing: PATCH /api/{user_id}/tasks/{task_id}. `test_bodies.py` has what it has in common with the other writes."""

from typing import Any
from uuid import UUID

import pytest

from tests.api.test_bodies import VALUES
from tests.support.contract import NULLABLE
from tests.support.helpers import Client, Json, address, get_task, make_task


@pytest.mark.parametrize(
    "change",
    [
        {"title": "Buy bread"},
        {"description": "One loaf"},
        {"description": ""},
        {"priority": "low"},
        {"due_date": "2999-02-02T00:00:00Z"},
        {"tags": ["home", "food"]},
        {"tags": []},
        {"title": "Buy bread", "description": None, "tags": []},
        *({name: None} for name in NULLABLE),
    ],
    ids=str,
)
async def test_it_changes_only_what_was_sent(client: Client, alice: UUID, change: dict[str, Any]) -> None:
    task = await make_task(client, alice, **VALUES)
    response = await client.patch(address(task), json=change)

    assert response.status_code == 200
    changed = response.json()
    assert changed == task | change | {"updated_at": changed["updated_at"], "version": changed["version"]}
    assert changed["version"] > task["version"]
    assert changed["updated_at"] > task["updated_at"]
    assert await get_task(client, task) == changed


async def test_an_empty_patch_changes_nothing(client: Client, alice: UUID) -> None:
    task = await make_task(client, alice, **VALUES)
    response = await client.patch(address(task), json={})

    assert response.status_code == 200
    assert response.json() == task
    assert await get_task(client, task) == task


@pytest.mark.parametrize(
    ("complete", "reopen"),
    [({"status": "completed"}, {"status": "pending"}), ({"completed": True}, {"completed": False})],
)
async def test_completing_and_reopening(
    client: Client, task: Json, complete: dict[str, Any], reopen: dict[str, Any]
) -> None:
    async def patched(values: dict[str, Any]) -> Any:
        return (await client.patch(address(task), json=values)).json()

    done = await patched(complete)
    assert (done["status"], done["completed"]) == ("completed", True)
    assert done["completed_at"] == done["updated_at"] > task["updated_at"]
    assert (await patched(complete))["completed_at"] == done["completed_at"]

    renamed = await patched({"title": "Buy bread"})
    assert (renamed["status"], renamed["completed_at"]) == ("completed", done["completed_at"])

    reopened = await patched(reopen)
    assert (reopened["status"], reopened["completed"], reopened["completed_at"]) == ("pending", False, None)
    assert (await patched(complete))["completed_at"] > done["completed_at"]
