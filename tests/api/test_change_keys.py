"""Changing once, however often it is sent: `Idempotency-Key` on PUT, PATCH, DELETE and the restore (D43)."""

from typing import Any
from uuid import UUID

import pytest

from persistence.tasks import KEYS_KEPT
from tests.support.helpers import Client, Json, Response, address, assert_problem, get_task, make_task

CHANGES: list[tuple[str, Any]] = [("PUT", {"title": "Once"}), ("PATCH", {"title": "Once"}), ("DELETE", None)]

every_change = pytest.mark.parametrize(("method", "body"), CHANGES)


async def change(client: Client, task: Json, method: str, body: Any, key: str, **headers: str) -> Response:
    headers = {name.replace("_", "-"): value for name, value in headers.items()} | {"Idempotency-Key": key}
    return await client.request(method, address(task), json=body, headers=headers)


@every_change
async def test_a_repeat_changes_nothing_and_answers_with_the_task(
    client: Client, task: Json, method: str, body: Any
) -> None:
    first = await change(client, task, method, body, "1")
    again = await change(client, task, method, body, "1")

    assert (first.status_code, again.status_code) == (200, 200)
    assert again.json() == first.json()
    assert again.headers["ETag"] == first.headers["ETag"]
    assert again.headers["Idempotency-Replayed"] == "true"
    assert "Idempotency-Replayed" not in first.headers


@every_change
async def test_a_repeat_is_a_repeat_whatever_if_match_says(client: Client, task: Json, method: str, body: Any) -> None:
    known = f'"{task["version"]}"'
    first = await change(client, task, method, body, "1", If_Match=known)
    for condition in (known, '"1"'):
        again = await change(client, task, method, body, "1", If_Match=condition)
        assert (again.status_code, again.json()) == (200, first.json())


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
async def test_a_late_repeat_does_not_undo_what_others_did(client: Client, task: Json, method: str) -> None:
    await change(client, task, method, {"title": "First"}, "1")
    theirs = (await client.patch(address(task), json={"title": "Theirs"})).json()
    again = await change(client, task, method, {"title": "First"}, "1")

    assert (again.status_code, again.json()) == (200, theirs)
    assert await get_task(client, task) == theirs


async def test_a_new_key_does_not_free_a_change_from_its_condition(client: Client, task: Json) -> None:
    await change(client, task, "PATCH", {"title": "First"}, "1")
    refused = await change(client, task, "PATCH", {"title": "Second"}, "2", If_Match=f'"{task["version"]}"')
    assert_problem(refused, 412, "precondition-failed")
    # One that was refused was not made, so it can be sent again with what is current.
    current = f'"{(await get_task(client, task))["version"]}"'
    made = await change(client, task, "PATCH", {"title": "Second"}, "2", If_Match=current)
    assert (made.status_code, made.json()["title"]) == (200, "Second")
    assert "Idempotency-Replayed" not in made.headers


async def test_a_key_counts_for_one_kind_of_change_of_one_task(client: Client, alice: UUID) -> None:
    one, other = await make_task(client, alice), await make_task(client, alice)
    answers = [
        await change(client, task, method, body, "1")
        for task in (one, other)
        for method, body in [("PATCH", {"priority": "low"}), *CHANGES[:1], *CHANGES[2:]]
    ]
    assert [answer.status_code for answer in answers] == [200] * 6
    assert not any("Idempotency-Replayed" in answer.headers for answer in answers)


async def test_a_deletion_is_repeated_in_the_trash_and_after_a_restore_and_undoes_neither(
    client: Client, alice: UUID, task: Json
) -> None:
    deleted = (await change(client, task, "DELETE", None, "1")).json()
    assert deleted["deleted_at"]
    assert_problem(await change(client, task, "DELETE", None, "2"), 404, "task-not-found")
    assert_problem(await change(client, task, "PATCH", {"title": "x"}, "1"), 404, "task-not-found")
    restored = (await client.post(f"{alice}/trash/{task['id']}/restore")).json()
    again = await change(client, task, "DELETE", None, "1")

    assert again.json() == restored | {"deleted_at": None}
    assert await get_task(client, task) == restored


async def test_a_restore_is_repeated_while_the_task_is_live_and_does_not_undo_a_later_deletion(
    client: Client, alice: UUID, task: Json
) -> None:
    async def restore() -> Response:
        return await client.post(f"{alice}/trash/{task['id']}/restore", headers={"Idempotency-Key": "1"})

    await client.delete(address(task))
    first = await restore()
    again = await restore()
    assert (again.status_code, again.headers["Idempotency-Replayed"], again.json()) == (200, "true", first.json())
    await client.delete(address(task))

    assert_problem(await restore(), 404, "task-not-found")
    assert_problem(await client.get(address(task)), 404, "task-not-found")


async def test_a_task_remembers_the_last_keys(client: Client, task: Json) -> None:
    for number in range(KEYS_KEPT + 1):
        await change(client, task, "PATCH", {"title": f"Title {number}"}, str(number))
    for number in range(1, KEYS_KEPT + 1):
        again = await change(client, task, "PATCH", {"title": f"Title {number}"}, str(number))
        assert again.json()["title"] == f"Title {KEYS_KEPT}"
    forgotten = await change(client, task, "PATCH", {"title": "Title 0"}, "0")
    assert forgotten.json()["title"] == "Title 0"


async def test_a_patch_of_nothing_takes_a_key_and_needs_none(client: Client, task: Json) -> None:
    for _ in range(2):
        assert (await change(client, task, "PATCH", {}, "1")).json() == task


@every_change
async def test_it_refuses_what_is_not_a_key(client: Client, task: Json, method: str, body: Any) -> None:
    for key in ("", "a b", "a,b", "x" * 256):
        assert_problem(await change(client, task, method, body, key), 400, "invalid-input", "Idempotency-Key")
    assert await get_task(client, task) == task
