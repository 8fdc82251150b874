"""The trash: /api/{user_id}/trash. What is deleted is nowhere else, and can be restored until it is erased."""

import asyncio
import re
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.conf import settings

from persistence import trash
from persistence.models import ERASED_TITLE
from persistence.postgres.database import Database, open_database
from persistence.postgres.dsn import Dsn
from persistence.postgres.options import DatabaseOptions
from tests.conftest import client_of
from tests.database.helpers import WAITING, value_of
from tests.support.contract import EXAMPLE, FIELDS, OPERATIONS
from tests.support.helpers import (
    Client,
    Json,
    address,
    assert_problem,
    delete_task,
    get_task,
    in_trash,
    make_task,
    make_tasks,
    signed_in,
)
from tests.support.issuer import Issuer

SHOWS_IT: dict[str, Json] = {
    "limit": {"limit": 1}, "cursor": {}, "sort": {"sort": "title"}, "status": {"status": "pending"},
    "completed": {"completed": "false"}, "priority": {"priority": ["low", "high"]}, "tag": {"tag": "errands"},
    "due_before": {"due_before": "2999-01-01T00:00:00Z"}, "due_after": {"due_after": "2000-01-01T00:00:00Z"},
    "overdue": {"overdue": "false"}, "has_due_date": {"has_due_date": "true"},
    "created_before": {"created_before": "2999-01-01T00:00:00Z"},
    "created_after": {"created_after": "2000-01-01T00:00:00Z"},
    "updated_before": {"updated_before": "2999-01-01T00:00:00Z"},
    "updated_after": {"updated_after": "2000-01-01T00:00:00Z"}, "q": {"q": "milk litres"},
}  # fmt: skip
"""For each parameter of a list, a query that finds the task of the contract's example."""
SORTS = [
    {"sort": f"{sign}{key}"}
    for key in ("created_at", "updated_at", "due_date", "priority", "title")
    for sign in ("", "-")
]


async def restore(client: Client, task: Json, **headers: str) -> Any:
    return await client.post(f"{in_trash(task)}/restore", headers=headers)


async def listed(client: Client, user: UUID, **query: Any) -> list[Json]:
    response = await client.get(f"{user}/trash", params=query)
    assert response.status_code == 200, response.text
    items: list[Json] = response.json()["items"]
    return items


async def trash_all(owner: Database, user: UUID) -> None:
    async with owner.connection() as connection:
        await connection.execute("UPDATE tasks SET deleted_at = created_at WHERE user_id = %s", (user,))


async def test_it_is_listed_with_the_last_deletion_first(client: Client, alice: UUID) -> None:
    assert await listed(client, alice) == await listed(client, uuid4()) == []
    tasks = [await make_task(client, alice) for _ in range(3)]
    deleted = [await delete_task(client, tasks[number]) for number in (1, 0)]

    assert await listed(client, alice) == deleted[::-1]
    assert {name: value for name, value in deleted[0].items() if name in FIELDS} == {
        name: value for name, value in tasks[1].items() if name in FIELDS
    }


async def test_the_link_leads_through_all_pages(client: Client, owner: Database, alice: UUID) -> None:
    # Every three of them have one time of deletion.
    await make_tasks(owner, alice, 20)
    await trash_all(owner, alice)
    response = await client.get(f"{alice}/trash?limit=4")
    items = response.json()["items"]
    while "Link" in response.headers:
        link = re.fullmatch(r'<(/api/[^<>\s]+)>; rel="next"', response.headers["Link"])
        assert link
        response = await client.get(f"http://test{link[1]}")
        items += response.json()["items"]

    assert response.json()["next_cursor"] is None
    assert len(items) == 20
    assert items == await listed(client, alice, limit=500)
    assert items == sorted(items, key=lambda item: (item["deleted_at"], item["id"]), reverse=True)


async def test_a_cursor_is_good_for_the_trash_of_one_user_only(
    client: Client, owner: Database, alice: UUID, bob: UUID
) -> None:
    for user in (alice, bob):
        await make_tasks(owner, user, 2)
    of_a_list = (await client.get(f"{alice}/tasks?limit=1")).json()["next_cursor"]
    await trash_all(owner, alice)
    cursor = (await client.get(f"{alice}/trash?limit=1")).json()["next_cursor"]

    for user, path, sent in ((bob, "trash", cursor), (alice, "tasks", cursor), (alice, "trash", of_a_list)):
        answer = await client.get(f"{user}/{path}", params={"cursor": sent})
        assert_problem(answer, 400, "invalid-input", "cursor")
    for place, character in enumerate(cursor):
        altered = cursor[:place] + ("A" if character != "A" else "g") + cursor[place + 1 :]
        answer = await client.get(f"{alice}/trash", params={"cursor": altered})
        assert_problem(answer, 400, "invalid-input", "cursor")


def test_every_parameter_of_a_list_is_among_those_that_are_tested_here() -> None:
    assert SHOWS_IT.keys() == OPERATIONS["list_tasks"].parameters.keys() - {"user_id"}


async def test_no_list_search_filter_or_order_shows_what_is_in_the_trash(client: Client, alice: UUID) -> None:
    task = await make_task(client, alice, **{name: EXAMPLE[name] for name in FIELDS if name != "id"})
    queries = [*SHOWS_IT.values(), *SORTS]
    for query in queries:
        assert (await client.get(f"{alice}/tasks", params=query)).json()["items"] == [task], query
    await delete_task(client, task)
    for query in queries:
        page = (await client.get(f"{alice}/tasks", params=query)).json()
        assert page == {"items": [], "next_cursor": None}, query
    restored = (await restore(client, task)).json()
    for query in queries:
        assert (await client.get(f"{alice}/tasks", params=query)).json()["items"] == [restored], query


@pytest.mark.parametrize("sort", SORTS, ids=str)
async def test_no_page_has_or_leads_to_what_is_in_the_trash(client: Client, alice: UUID, sort: Json) -> None:
    due = "2999-01-01T00:00:00Z"
    tasks = [await make_task(client, alice, title=f"Task {number}", due_date=due) for number in range(6)]
    for number in (0, 2, 5):
        await delete_task(client, tasks[number])
    seen: list[str] = []
    query = {**sort, "limit": 1}
    for _ in range(4):
        page = (await client.get(f"{alice}/tasks", params=query)).json()
        seen += [item["id"] for item in page["items"]]
        if page["next_cursor"] is None:
            break
        query["cursor"] = page["next_cursor"]

    assert sorted(seen) == sorted(tasks[number]["id"] for number in (1, 3, 4))


async def test_no_count_has_what_is_in_the_trash(guarded: Client, issuer: Issuer) -> None:
    user = uuid4()
    client = signed_in(guarded, issuer.token(str(user)))
    kept = await make_task(client, user, tags=["kept"], priority="low")
    for number in range(3):
        gone = await make_task(client, user, tags=["gone"], priority="high", completed=number == 0)
        await delete_task(client, gone)
    await client.delete(in_trash(gone))

    assert (await client.get(f"{user}/tasks/summary")).json() == {
        "total": 1,
        "status": {"pending": 1, "completed": 0},
        "priority": {"low": 1, "medium": 0, "high": 0},
        "tags": {"kept": 1},
        "overdue": 0,
    }
    assert (await client.get("v1/me")).json()["tasks"] == {"total": 1, "pending": 1, "completed": 0}
    assert await get_task(client, kept) == kept


@pytest.mark.parametrize("is_erased", [False, True])
async def test_what_is_deleted_can_neither_be_read_nor_changed_nor_made_again(
    client: Client, alice: UUID, is_erased: bool
) -> None:
    task = await make_task(client, alice)
    deleted = await delete_task(client, task)
    if is_erased:
        assert (await client.delete(in_trash(task))).status_code == 204

    tag = {"If-Match": f'"{deleted["version"]}"'}
    for headers in ({}, tag, {"If-Match": "*"}):
        assert_problem(await client.patch(address(task), json={"title": "x"}, headers=headers), 404, "task-not-found")
        assert_problem(await client.put(address(task), json={"title": "x"}, headers=headers), 404, "task-not-found")
        assert_problem(await client.delete(address(task), headers=headers), 404, "task-not-found")
    assert_problem(await client.get(address(task)), 404, "task-not-found")
    assert_problem(await client.post(f"{alice}/tasks", json={"title": "x", "id": task["id"]}), 409, "task-deleted")
    assert await listed(client, alice) == ([] if is_erased else [deleted])


async def test_a_restored_task_is_as_it_was_in_a_new_version(client: Client, alice: UUID) -> None:
    task = await make_task(client, alice, **{name: EXAMPLE[name] for name in FIELDS if name != "id"})
    deleted = await delete_task(client, task)
    response = await restore(client, task)

    assert response.status_code == 200
    restored = response.json()
    assert restored["version"] > deleted["version"] > task["version"]
    assert restored == task | {name: restored[name] for name in ("version", "updated_at")}
    assert response.headers["ETag"] == f'"{restored["version"]}"'
    assert await get_task(client, task) == restored
    assert await listed(client, alice) == []


async def test_it_is_restored_in_the_version_that_if_match_names_only(client: Client, alice: UUID) -> None:
    task = await make_task(client, alice)
    deleted = await delete_task(client, task)

    refused = await restore(client, task, **{"If-Match": f'"{task["version"]}"'})
    assert_problem(refused, 412, "precondition-failed")
    assert refused.headers["ETag"] == f'"{deleted["version"]}"'
    restored = await restore(client, task, **{"If-Match": refused.headers["ETag"]})
    assert restored.status_code == 200


async def test_a_restore_is_done_once_for_each_key(client: Client, alice: UUID) -> None:
    task = await make_task(client, alice)
    await delete_task(client, task)
    key = {"Idempotency-Key": "restore-1"}
    restored = (await restore(client, task, **key)).json()
    repeat = await restore(client, task, **key)
    assert (repeat.status_code, repeat.json()) == (200, restored)
    assert repeat.headers["Idempotency-Replayed"] == "true"

    # A repeat that comes late does not undo a deletion after it.
    await delete_task(client, task)
    assert_problem(await restore(client, task, **key), 404, "task-not-found")


async def test_only_what_is_in_the_trash_can_be_restored_or_erased_and_the_answer_says_why(
    client: Client, alice: UUID
) -> None:
    live, erased = await make_task(client, alice), await make_task(client, alice)
    await delete_task(client, erased)
    await client.delete(in_trash(erased))
    seen = set()
    for task in (live, erased, live | {"id": uuid4()}, live | {"user_id": uuid4()}):
        for answer in (await restore(client, task), await client.delete(in_trash(task))):
            document = assert_problem(answer, 404, "task-not-found")
            seen.add(document["detail"])

    [detail] = seen
    assert "trash" in detail
    assert await get_task(client, live) == live


async def test_nothing_of_an_erased_task_is_left_but_its_id_and_times(
    client: Client, owner: Database, alice: UUID
) -> None:
    values = {name: EXAMPLE[name] for name in FIELDS if name != "id"} | {"completed": True, "status": "completed"}
    task = await make_task(client, alice, **values)
    await client.patch(address(task), json={"priority": "low"}, headers={"Idempotency-Key": "a-key"})
    await delete_task(client, task)

    assert (await client.delete(in_trash(task))).content == b""

    async with owner.connection() as connection:
        cursor = await connection.execute("SELECT to_jsonb(tasks) FROM tasks WHERE user_id = %s", (alice,))
        [(row,)] = await cursor.fetchall()
    data = {name: value for name, value in row.items() if not name.endswith(("_at", "id", "version", "erased"))}
    assert {name: value for name, value in data.items() if value is not None} == {
        "title": ERASED_TITLE,
        "status": "pending",
        "priority": "medium",
        "tags": [],
    }
    assert row["completed_at"] is None
    assert row["is_erased"]


async def test_emptying_erases_all_of_the_trash_and_nothing_else(
    client: Client, owner: Database, alice: UUID, bob: UUID
) -> None:
    for user in (alice, bob):
        await make_tasks(owner, user, 2 * trash.ERASED_AT_ONCE + 1)
        await trash_all(owner, user)
    kept = await make_task(client, alice)

    for _ in range(2):
        assert (await client.delete(f"{alice}/trash")).status_code == 204
    assert await listed(client, alice) == []
    assert await get_task(client, kept) == kept
    assert len(await listed(client, bob, limit=500)) == 500
    assert (await client.delete(f"{uuid4()}/trash")).status_code == 204


@pytest.mark.slow
async def test_emptying_that_takes_too_long_says_that_there_is_more_and_can_be_repeated(
    dsn: Dsn, owner: Database, alice: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trash, "ERASED_AT_ONCE", 1)
    await make_tasks(owner, alice, 2)
    await trash_all(owner, alice)
    async with (
        open_database(dsn, DatabaseOptions(statement_timeout=2.0)) as database,
        client_of(database) as client,
    ):
        _, locked = await listed(client, alice)
        async with owner.connection() as connection:
            query = "SELECT FROM tasks WHERE user_id = %s AND id = %s FOR UPDATE"
            await connection.execute(query, (alice, locked["id"]))
            assert_problem(await client.delete(f"{alice}/trash"), 503, "outcome-unknown")
        assert await listed(client, alice) == [locked]
        assert (await client.delete(f"{alice}/trash")).status_code == 204
        assert await listed(client, alice) == []


@pytest.mark.parametrize("all_of_it", [True, False])
async def test_what_is_restored_while_erasing_waits_for_the_user_stays(
    client: Client, owner: Database, alice: UUID, all_of_it: bool
) -> None:
    tasks = [await make_task(client, alice) for _ in range(3)]
    for task in tasks:
        await delete_task(client, task)
    async with owner.connection() as connection:
        await connection.execute("SELECT FROM users WHERE id = %s FOR UPDATE", (alice,))
        erasing = asyncio.create_task(client.delete(f"{alice}/trash" if all_of_it else in_trash(tasks[1])))
        while not await value_of(owner, WAITING):
            pass
        query = "UPDATE tasks SET deleted_at = NULL, version = version + 1 WHERE user_id = %s AND id = %s"
        await connection.execute(query, (alice, tasks[1]["id"]))

    assert (await erasing).status_code == (204 if all_of_it else 404)
    assert len(await listed(client, alice)) == (0 if all_of_it else 2)
    assert [task["id"] for task in (await client.get(f"{alice}/tasks")).json()["items"]] == [tasks[1]["id"]]


async def test_a_user_with_as_many_tasks_as_it_may_have_can_restore_none(
    client: Client, alice: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = await make_task(client, alice)
    await delete_task(client, gone)
    monkeypatch.setattr(settings, "USER_TASKS_MAX", 1)
    kept = await make_task(client, alice)

    assert_problem(await restore(client, gone), 429, "too-many-tasks")
    await delete_task(client, kept)
    assert (await restore(client, gone)).status_code == 200
