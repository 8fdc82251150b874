"""The tasks of one user do not exist for another (D26), whose own ids are independent of them (D38)."""

import json
from itertools import product
from typing import Any
from uuid import UUID, uuid4

import pytest

from persistence.postgres.database import Database
from tests.support.contract import OPERATIONS, Operation
from tests.support.helpers import Client, Json, Response, address, assert_problem, call, get_task, make_task

ABOUT_A_TASK = [name for name, operation in OPERATIONS.items() if "{task_id}" in operation.path]
ABOUT_A_USER = [
    name
    for name, operation in OPERATIONS.items()
    if operation.is_of_a_user and operation.method == "GET" and name not in ABOUT_A_TASK
]


def visible(response: Response) -> tuple[int, bytes, list[tuple[str, str]]]:
    """All that a client can see, but for the id of the request, which differs between any two answers."""
    headers = [(name, value) for name, value in response.headers.items() if name != "x-request-id"]
    return response.status_code, response.content, headers


def headers_about(task: Json) -> list[dict[str, str]]:
    conditions = ("*", '"1"', f'"{task["version"]}"', 'W/"1"', "wrong")
    headers = [
        {},
        *({name: condition} for name in ("If-Match", "If-None-Match") for condition in conditions),
        {"Idempotency-Key": task["id"]},
        {"Idempotency-Key": "a-key", "If-Match": "*", "If-None-Match": "*"},
    ]
    return [{"Content-Type": "application/json", **each} for each in headers]


def bodies_for(operation: Operation) -> list[bytes | None]:
    example = operation.body_example
    return [json.dumps(example | {"title": 7}).encode(), b"{}", b"{"] if example else [None]


def test_every_operation_is_among_those_that_are_tested_here() -> None:
    of_users = {name for name, operation in OPERATIONS.items() if operation.is_of_a_user}

    # `tests/api/test_batch.py` has the batch, whose tasks are in its body, and `tests/api/test_import.py` the import.
    assert {*ABOUT_A_TASK, *ABOUT_A_USER, "create_task", "write_batch", "empty_trash", "import_tasks"} == of_users


@pytest.mark.parametrize("name", ABOUT_A_TASK)
async def test_somebody_elses_task_looks_like_none_to_the_byte(
    name: str, client: Client, alice: UUID, bob: UUID
) -> None:
    operation, missing_id = OPERATIONS[name], str(uuid4())
    tasks = {user: await make_task(client, user, title="Secret", tags=["secret"]) for user in (alice, bob)}

    async def compare(user: UUID, task_id: str, missing_id: str, **sent: Any) -> Response:
        theirs = await call(client, operation, user, task_id, **sent)
        assert visible(theirs) == visible(await call(client, operation, user, missing_id, **sent))
        return theirs

    for user, owner in ((alice, bob), (bob, alice), (uuid4(), bob)):
        task_id = tasks[owner]["id"]
        assert_problem(await compare(user, task_id, missing_id), 404, "task-not-found")
        for headers, body in product(headers_about(tasks[owner]), bodies_for(operation)):
            answer = await compare(user, task_id, missing_id, headers=headers, content=body)
            assert answer.status_code in (400, 404)
        for spelled in (str.upper, "{{{}}}".format, lambda text: text[:-1], lambda text: text.replace("-", "")):
            await compare(user, spelled(task_id), spelled(missing_id))
    assert {user: await get_task(client, task) for user, task in tasks.items()} == tasks


async def test_it_hides_bobs_tasks_from_alices_list(client: Client, alice: UUID, bob: UUID) -> None:
    hers, his = await make_task(client, alice), await make_task(client, bob)

    assert (await client.get(f"{alice}/tasks")).json()["items"] == [hers]
    assert (await client.get(f"{bob}/tasks")).json()["items"] == [his]


@pytest.mark.parametrize("name", ABOUT_A_USER)
async def test_what_others_have_makes_no_difference_to_what_a_user_has(
    name: str, client: Client, alice: UUID, bob: UUID
) -> None:
    for number in range(3):
        await make_task(client, bob, title=f"Secret {number}", tags=["secret"], priority="high")
    cursor = (await client.get(f"{bob}/tasks?limit=1")).json()["next_cursor"]
    queries = ["", "?limit=1", "?tag=secret", "?q=secret", "?priority=high", f"?limit=1&cursor={cursor}"]
    for query in queries if name == "list_tasks" else queries[:1]:
        answers = [await call(client, OPERATIONS[name], user, query=query) for user in (alice, uuid4())]
        if name == "list_changes":
            # Its cursor is never null, and each user's own.
            assert [answer.json() | {"next_cursor": ""} for answer in answers] == [
                {"items": [], "next_cursor": "", "more": False}
            ] * 2
        else:
            assert visible(answers[0]) == visible(answers[1])
        assert b"ecret" not in answers[0].content


@pytest.fixture
async def same_id(client: Client, alice: UUID, bob: UUID) -> tuple[Json, Json]:
    """A task of Alice's and one of Bob's under the same id."""
    hers = await make_task(client, alice, title="Hers", tags=["hers"])
    return hers, await make_task(client, bob, title="His", tags=["his"], id=hers["id"])


@pytest.mark.parametrize("first", [0, 1])
async def test_two_users_may_have_a_task_with_the_same_id(
    client: Client, same_id: tuple[Json, Json], first: int
) -> None:
    mine, theirs = same_id[first], same_id[1 - first]
    assert await get_task(client, mine) == mine
    assert (await client.get(f"{mine['user_id']}/tasks")).json()["items"] == [mine]
    summary = (await client.get(f"{mine['user_id']}/tasks/summary")).json()
    assert (summary["total"], summary["tags"]) == (1, {mine["tags"][0]: 1})

    changed = (await client.patch(address(mine), json={"completed": True})).json()
    replaced = (await client.put(address(mine), json={"title": "Replaced"})).json()
    assert replaced["version"] > changed["version"] > mine["version"]
    assert await get_task(client, theirs) == theirs

    assert (await client.delete(address(mine))).json()["title"] == "Replaced"
    assert await get_task(client, theirs) == theirs
    assert_problem(await client.get(address(mine)), 404, "task-not-found")
    assert_problem(
        await client.post(f"{mine['user_id']}/tasks", json={"id": mine["id"], "title": "x"}), 409, "task-deleted"
    )


async def test_an_id_that_another_user_has_is_like_a_free_one(client: Client, alice: UUID, bob: UUID) -> None:
    taken, free = (await make_task(client, bob, title="Secret", tags=["secret"]))["id"], str(uuid4())
    seen = []
    for task_id in (taken, free):
        answers = [await client.post(f"{alice}/tasks", json={"title": "x", "id": task_id}) for _ in range(2)]
        assert [answer.status_code for answer in answers] == [201, 200]
        assert "ecret" not in answers[0].text
        seen.append([list(answer.headers) for answer in answers])

    assert seen[0] == seen[1]


async def test_no_user_has_to_wait_for_a_task_of_another_under_the_same_id(
    client: Client, database: Database, alice: UUID, bob: UUID
) -> None:
    ids = [str(uuid4()) for _ in range(2)]
    his = await make_task(client, bob, id=ids[1])
    async with database.connection() as connection:
        # Alice's transaction has made both tasks, and has yet to end.
        for task_id in ids:
            await connection.execute("INSERT INTO tasks (id, user_id, title) VALUES (%s, %s, 'Hers')", (task_id, alice))
        await make_task(client, bob, id=ids[0])
        assert (await client.patch(address(his), json={"title": "His"})).status_code == 200
        assert (await client.delete(address(his))).status_code == 200
    assert {item["title"] for item in (await client.get(f"{alice}/tasks")).json()["items"]} == {"Hers"}
