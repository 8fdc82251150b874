"""Many changes in one request: each item stands for itself, and all are committed together (D42)."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.conf import settings

from persistence.postgres.database import Database, open_database
from persistence.postgres.dsn import Dsn
from persistence.postgres.options import DatabaseOptions
from tests.api.test_bodies import VALUES
from tests.api.test_limits import Clock, clock, three_a_minute
from tests.conftest import client_of
from tests.database.helpers import WAITING, new_user, value_of
from tests.support.contract import FIELDS
from tests.support.databases import as_owner, execute
from tests.support.helpers import (
    PROBLEM,
    Client,
    Json,
    Response,
    address,
    assert_problem,
    get_task,
    make_task,
    send,
    signed_in,
)
from tests.support.issuer import Issuer
from todos.batches import ITEMS_MAX

__all__ = ["clock", "three_a_minute"]

RAISE = "UPDATE users SET revision = revision + 1 WHERE id = %(alice)s"
OPS = ("create", "replace", "patch", "delete", "restore")
CHANGES = OPS[1:]


async def post(client: Client, user: object, *items: Any) -> Response:
    # In ASCII, as a lone surrogate cannot be sent otherwise.
    return await send(client, "POST", f"{user}/tasks/batch", json.dumps({"items": items}).encode())


async def batch(client: Client, user: object, *items: Any) -> list[Json]:
    """The results of a batch that is answered."""
    response = await post(client, user, *items)
    assert response.status_code == 200, response.text
    results: list[Json] = response.json()["results"]
    assert len(results) == len(items)
    return results


def item(op: str, task: Json | None = None, **values: Any) -> Json:
    """An item for this task, or for one that does not exist."""
    title = {"title": "Buy bread"} if op in ("create", "replace", "patch") else {}
    return {"op": op, "id": task["id"] if task else str(uuid4())} | title | values


def statuses(results: list[Json]) -> list[int]:
    return [result["status"] for result in results]


def kind(result: Json) -> str:
    """The kind of the problem of an item, which is a problem document like any other."""
    problem: Json = result["problem"]
    assert problem.keys() - {"errors"} == {"type", "title", "status", "detail"}
    assert problem["status"] == result["status"]
    return str(problem["type"]).removeprefix(PROBLEM)


async def tasks_of_each_op(client: Client, user: UUID) -> dict[str, Json]:
    """A task for each operation: none yet to create, and one in the trash to restore."""
    tasks = {op: await make_task(client, user) for op in CHANGES}
    tasks["create"] = {"id": str(uuid4()), "user_id": str(user)}
    tasks["restore"] = (await client.delete(address(tasks["restore"]))).json()
    return tasks


async def test_each_item_does_what_a_request_of_its_own_would_and_the_results_keep_their_order(
    client: Client, alice: UUID
) -> None:
    for ops in (OPS, OPS[::-1]):
        tasks = await tasks_of_each_op(client, alice)
        results = await batch(client, alice, *(item(op, tasks[op]) for op in ops))

        assert [result["id"] for result in results] == [tasks[op]["id"] for op in ops]
        for op, result in zip(ops, results, strict=True):
            assert result.keys() == {"id", "status", "task"}
            assert result["status"] == (201 if op == "create" else 200)
            assert (result["task"].pop("deleted_at") is not None) is (op == "delete")
            if op != "delete":
                assert await get_task(client, tasks[op]) == result["task"]
            assert result["task"]["title"] == ("Buy milk" if op in ("delete", "restore") else "Buy bread")
        versions = [result["task"]["version"] for result in results]
        assert versions == sorted(set(versions))
        assert (await client.get(address(tasks["delete"]))).status_code == 404


@pytest.mark.parametrize("op", ["create", "replace", "patch"])
async def test_every_field_of_an_item_is_stored(client: Client, alice: UUID, task: Json, op: str) -> None:
    sent = VALUES | {"due_date": "2001-01-01T00:00:00Z"}  # What was decided offline may be over.
    [result] = await batch(client, alice, item(op, None if op == "create" else task, **sent))

    assert result["task"] == result["task"] | sent


async def test_null_clears_what_an_item_says_and_what_it_does_not_say_stays(client: Client, alice: UUID) -> None:
    task = await make_task(client, alice, description="x", due_date="2999-01-01T00:00:00Z")
    [result] = await batch(client, alice, {"op": "patch", "id": task["id"], "due_date": None})

    assert result["task"] == task | {
        "due_date": None, "deleted_at": None, "version": result["task"]["version"],
        "updated_at": result["task"]["updated_at"],
    }  # fmt: skip


async def test_a_patch_without_changes_reads_the_task(client: Client, alice: UUID, task: Json) -> None:
    gone = (await tasks_of_each_op(client, alice))["restore"]
    patches = [{"op": "patch", "id": each} for each in (task["id"], gone["id"], str(uuid4()))]
    late = {"op": "patch", "id": (await make_task(client, alice))["id"], "if_version": 1}
    results = await batch(client, alice, *patches, late, item("create"))

    assert statuses(results) == [200, 404, 404, 412, 201]
    assert results[0]["task"] == task | {"deleted_at": None}
    assert await get_task(client, task) == task


FAULTS: list[Json] = [
    {"title": " "},
    {"title": None},
    {"title": "x", "tags": ["ok", "far too long a tag"], "due_date": "2030-12-31T18:00:00", "colour": 1},
    {"title": "x", "user_id": "x", "version": 1},
    {"title": "x", "status": "pending", "completed": True},
    {"title": "x", "description": "\ud800"},
]


@pytest.mark.parametrize("op", ["create", "replace", "patch"])
async def test_an_item_that_is_not_valid_fails_alone_in_the_words_of_a_request_of_its_own(
    client: Client, alice: UUID, task: Json, op: str
) -> None:
    results = await batch(
        client, alice, *({"op": op, "id": str(uuid4())} | faults for faults in FAULTS), item("patch", task)
    )

    method, url = {"create": "POST", "replace": "PUT", "patch": "PATCH"}[op], f"{alice}/tasks"
    for faults, result in zip(FAULTS, results, strict=False):
        alone = await send(client, method, url if op == "create" else address(task), json.dumps(faults).encode())
        assert result == {"id": result["id"], "status": 400, "problem": alone.json()}
    assert statuses(results[-1:]) == [200]
    assert (await get_task(client, task))["title"] == "Buy bread"


async def test_an_item_of_no_known_kind_or_without_a_proper_id_fails_alone(client: Client, alice: UUID) -> None:
    task_id = str(uuid4())
    odd: list[tuple[Any, str | None, list[str]]] = [
        ({"op": "create"}, None, ["id", "title"]),
        ({"op": "delete", "id": "x"}, None, ["id"]),
        ({"op": "delete", "id": 7}, None, ["id"]),
        ({"op": "delete", "id": None}, None, ["id"]),
        ({"op": "delete", "id": task_id.replace("-", "")}, None, ["id"]),
        ({"id": task_id.upper()}, task_id, ["op"]),
        ({"op": "upsert", "id": str(uuid4()), "title": 1}, "any", ["op"]),
        ({"op": ["create"], "id": str(uuid4())}, "any", ["op"]),
        (None, None, ["body"]),
        (["create"], None, ["body"]),
        ({"op": "create", "id": str(uuid4()), "title": "x", "if_version": 1}, "any", ["if_version"]),
        ({"op": "delete", "id": str(uuid4()), "title": "x"}, "any", ["title"]),
        *(
            ({"op": "restore", "id": str(uuid4()), "if_version": version}, "any", ["if_version"])
            for version in (0, -1, 1.5, "1", True, None, 2**63)
        ),
        *(
            ({"op": "patch", "id": str(uuid4()), "key": key}, "any", ["key"])
            for key in ("", "a b", "a,b", "é", "x" * 256, 7, None)
        ),
    ]
    results = await batch(client, alice, *(sent for sent, _, _ in odd), item("create"))

    for (sent, expected_id, fields), result in zip(odd, results, strict=False):
        assert result["id"] == (sent["id"] if expected_id == "any" else expected_id), sent
        assert (result["status"], kind(result)) == (400, "invalid-input"), sent
        assert [error["field"] for error in result["problem"]["errors"]] == fields, sent
    assert statuses(results[-1:]) == [201]


async def test_a_batch_that_is_not_one_is_refused_as_a_whole(client: Client, alice: UUID, task: Json) -> None:
    twice = [item("patch", task), item("delete"), {"op": "upsert", "id": task["id"].upper()}]
    for body, fields in (
        ({}, ["items"]),
        ({"items": None}, ["items"]),
        ({"items": []}, ["items"]),
        ({"items": [item("create") for _ in range(ITEMS_MAX + 1)]}, ["items"]),
        ({"items": [item("create")], "atomic": True}, ["atomic"]),
        ({"items": twice}, ["items.2.id"]),
        ([item("create")], ["body"]),
    ):
        assert_problem(await client.post(f"{alice}/tasks/batch", json=body), 400, "invalid-input", *fields)
    path, valid = f"{alice}/tasks/batch", json.dumps(item("patch", task))
    for text in (valid.replace("{", '{"op": "patch", ', 1), valid.replace('"Buy bread"', "NaN"), valid[:-1]):
        assert_problem(await send(client, "POST", path, b'{"items": [%s]}' % text.encode()), 400, "malformed-json")
    assert (await client.post(path, content=valid)).status_code == 415
    assert (await client.get(f"{alice}/tasks")).json()["items"] == [task]


async def test_a_path_that_names_a_batch_has_no_other_method(client: Client, alice: UUID) -> None:
    for method in ("GET", "PUT", "PATCH", "DELETE"):
        assert_problem(await client.request(method, f"{alice}/tasks/batch"), 405, "method-not-allowed")


async def test_an_item_for_another_version_gets_the_task_as_it_is_now(client: Client, alice: UUID) -> None:
    tasks = await tasks_of_each_op(client, alice)
    late = [item(op, tasks[op], if_version=1) for op in CHANGES]
    results = await batch(client, alice, *late, item("create"))

    assert statuses(results) == [412] * 4 + [201]
    for op, result in zip(CHANGES, results, strict=False):
        assert kind(result) == "precondition-failed"
        assert str(tasks[op]["version"]) in result["problem"]["detail"]
        assert result["task"] == {"deleted_at": None} | tasks[op]
    now = [item(op, tasks[op], if_version=tasks[op]["version"]) for op in CHANGES]
    assert statuses(await batch(client, alice, *now)) == [200] * 4


async def test_a_create_under_a_deleted_id_brings_nothing_back(client: Client, alice: UUID) -> None:
    trashed, erased = [(await client.delete(address(await make_task(client, alice)))).json() for _ in range(2)]
    await client.delete(f"{alice}/trash/{erased['id']}")
    results = await batch(client, alice, item("create", trashed), item("create", erased))

    assert [kind(result) for result in results] == ["task-deleted"] * 2
    assert results[0]["task"] == trashed
    assert "task" not in results[1]
    assert (await client.get(f"{alice}/tasks")).json()["items"] == []


async def test_a_batch_whose_answer_was_lost_may_be_sent_again(client: Client, alice: UUID) -> None:
    keyed, known = await tasks_of_each_op(client, alice), await tasks_of_each_op(client, alice)
    unkeyed = await make_task(client, alice)
    items = [
        *(item(op, keyed[op], key="k") for op in OPS),
        *(item(op, known[op], if_version=known[op]["version"]) for op in CHANGES),
        item("delete", unkeyed),
    ]
    first, again = await batch(client, alice, *items), await batch(client, alice, *items)

    assert statuses(first) == [201] + [200] * 9
    assert statuses(again) == [200] * 5 + [412, 412, 404, 404] + [404]
    assert [result.get("replayed") for result in again] == [True] * 5 + [None] * 5
    for before, after in list(zip(first, again, strict=True))[:7]:
        assert after["task"] == before["task"]
    # A key is the same in a request of its own, and one of an earlier change undoes nothing.
    single = await client.patch(address(keyed["patch"]), json={"title": "x"}, headers={"Idempotency-Key": "k"})
    assert single.headers["Idempotency-Replayed"] == "true"
    await client.patch(address(keyed["patch"]), json={"title": "Later"})
    [late] = await batch(client, alice, item("patch", keyed["patch"], key="k", if_version=keyed["patch"]["version"]))
    assert (late["status"], late["task"]["title"]) == (200, "Later")


async def test_the_tasks_of_others_do_not_exist_and_their_ids_are_free(client: Client, alice: UUID, bob: UUID) -> None:
    hers = await tasks_of_each_op(client, alice)
    [made] = await batch(client, alice, item("create", hers["create"], key="k"))
    theirs = [item(op, hers[op]) for op in CHANGES]
    for versions in ({}, {"if_version": 1}, {"key": "k"}):
        results = await batch(client, bob, *(each | versions for each in theirs))
        nobodys = await batch(client, bob, *(each | versions | {"id": str(uuid4())} for each in theirs))
        assert [result | {"id": ""} for result in results] == [result | {"id": ""} for result in nobodys]
        assert [kind(result) for result in results] == ["task-not-found"] * 4
    [own] = await batch(client, bob, item("create", hers["create"], title="Own"))

    assert (own["status"], own["task"]["user_id"]) == (201, str(bob))
    assert await get_task(client, made["task"]) == {
        name: value for name, value in made["task"].items() if name != "deleted_at"
    }
    assert await get_task(client, hers["patch"]) == hers["patch"]


async def test_nobody_writes_for_a_user_that_does_not_exist(client: Client) -> None:
    results = await batch(client, uuid4(), item("create"), item("patch"), {"op": "patch", "id": str(uuid4())})

    assert [kind(result) for result in results] == ["user-not-found", "task-not-found", "task-not-found"]


async def test_the_first_batch_of_a_user_who_signs_in_makes_the_user_and_an_erased_one_stays_so(
    guarded: Client, issuer: Issuer
) -> None:
    signed_in(guarded, issuer.token(uuid4()))
    items = [item("create"), item("patch"), item("create")]

    assert statuses(await batch(guarded, "me", items[1])) == [404]
    assert (await guarded.get("v1/me")).json()["created_at"] is None
    assert statuses(await batch(guarded, "me", *items)) == [201, 404, 201]
    await guarded.delete("v1/me")
    results = await batch(guarded, "me", *items)
    assert [kind(result) for result in results] == ["account-erased", "task-not-found", "account-erased"]


async def test_an_item_beyond_the_limit_of_tasks_fails_alone(
    client: Client, alice: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    trashed = (await tasks_of_each_op(client, alice))["restore"]
    monkeypatch.setattr(settings, "USER_TASKS_MAX", 5)
    items = [item("create"), item("create"), item("create"), item("restore", trashed), item("restore")]
    results = await batch(client, alice, *items)

    assert statuses(results) == [201, 201, 429, 429, 404]
    assert {kind(result) for result in results[2:4]} == {"too-many-tasks"}
    # A repeat is none too many.
    assert statuses(await batch(client, alice, *items)) == [200, 200, 429, 429, 404]


async def test_a_batch_counts_as_its_items_and_passes_if_one_request_would(
    client: Client, alice: UUID, three_a_minute: Clock
) -> None:
    for pause in (0, 80, 120):
        three_a_minute.now += pause * 1_000_000_000
        # Valid or not.
        assert (await post(client, alice, item("create"), item("patch"), None, None)).status_code == 200
        response = await post(client, alice, item("create"))
        assert_problem(response, 429, "too-many-requests")
        assert response.headers["Retry-After"] == "40"


async def test_a_hundred_of_the_largest_tasks_are_a_batch(client: Client, alice: UUID) -> None:
    wide, numbers = "\U0001f600", range(20)
    values: Json = {"title": wide * 200, "description": wide * 1_000, "tags": [f"{n:02}{wide * 8}" for n in numbers]}
    items = [item("create", **values) for _ in range(ITEMS_MAX)]
    body = json.dumps({"items": items}, ensure_ascii=False).encode()
    results = (await send(client, "POST", f"{alice}/tasks/batch", body)).json()["results"]

    assert statuses(results) == [201] * ITEMS_MAX
    assert results[-1]["task"] == results[-1]["task"] | values
    too_large = await send(client, "POST", f"{alice}/tasks/batch", body + b" " * (1024 * 1024))
    assert "1048576" in assert_problem(too_large, 413, "content-too-large")["detail"]
    too_many = await send(client, "POST", f"{alice}/tasks/batch", b'{"items": [%s]}' % (b"1," * 20_000))
    assert "20,000" in assert_problem(too_many, 400, "invalid-input", "body")["errors"][0]["detail"]


async def test_an_error_of_the_database_undoes_all_of_it_and_is_the_answer_to_all(migrated_dsn: Dsn) -> None:
    execute(as_owner(migrated_dsn), "ALTER TABLE tasks ADD CONSTRAINT ck_no_title CHECK (title <> 'Odd') NOT VALID")
    async with open_database(migrated_dsn, DatabaseOptions()) as database, client_of(database) as client:
        alice = await new_user(database)
        task = await make_task(client, alice)
        response = await post(client, alice, item("create"), item("patch", task), item("create", title="Odd"))

        assert_problem(response, 400, "invalid-input", "title")
        assert (await client.get(f"{alice}/tasks")).json()["items"] == [task]
        assert statuses(await batch(client, alice, item("patch", task), item("create"))) == [200, 201]


@pytest.fixture
async def elsewhere(dsn: Dsn) -> AsyncIterator[Client]:
    """A client of another server on the same database, whose writes no queue in this process holds back."""
    async with open_database(dsn, DatabaseOptions()) as database, client_of(database) as client:
        yield client


async def test_batches_with_crossed_ids_do_not_lock_each_other_out(
    client: Client, elsewhere: Client, database: Database, alice: UUID
) -> None:
    tasks = [await make_task(client, alice) for _ in range(6)]
    before = database.counts.retries
    for number in range(40):
        items = [item("patch", task, title=f"Round {number}") for task in tasks]
        answers = await asyncio.gather(batch(client, alice, *items), batch(elsewhere, alice, *items[::-1]))
        assert [statuses(results) for results in answers] == [[200] * 6] * 2
    # A deadlock would run again.
    assert database.counts.retries == before


async def test_equal_batches_at_once_apply_once(client: Client, elsewhere: Client, alice: UUID) -> None:
    for number in range(3):
        tasks = await tasks_of_each_op(client, alice)
        items = [item(op, tasks[op], key=f"k{number}") for op in OPS]
        answers = await asyncio.gather(*(batch(each, alice, *items) for each in (client, elsewhere) for _ in range(10)))

        for results in zip(*answers, strict=True):
            assert [result.get("replayed") for result in results].count(None) == 1
            assert len({json.dumps(result["task"]) for result in results}) == 1
            assert statuses(list(results)).count(201) == (results[0]["id"] == tasks["create"]["id"])


async def test_of_a_batch_and_a_single_request_for_one_version_one_wins(
    client: Client, elsewhere: Client, alice: UUID
) -> None:
    for _ in range(10):
        task, other = await make_task(client, alice), await make_task(client, alice)
        expected = {"If-Match": f'"{task["version"]}"'}
        [single, [result, beside]] = await asyncio.gather(
            client.patch(address(task), json={"title": "Single"}, headers=expected),
            batch(elsewhere, alice, item("patch", task, if_version=task["version"]), item("patch", other)),
        )
        assert sorted([single.status_code, result["status"]]) == [200, 412]
        assert beside["status"] == 200
        if result["status"] == 412:
            assert result["task"] == single.json() | {"deleted_at": None}


@pytest.mark.parametrize(("is_older", "expected"), [(False, [200, 200]), (True, [409, 200])])
async def test_an_item_is_not_told_that_a_task_is_missing_which_has_just_come_back(
    client: Client, database: Database, alice: UUID, *, is_older: bool, expected: list[int]
) -> None:
    tasks = await tasks_of_each_op(client, alice)
    # A server of before the revisions raises none, and what it has locked is found later.
    locks = ["UPDATE tasks SET priority = 'low' WHERE id = %(patch)s"] if is_older else [RAISE]
    ids = {"alice": alice, **{op: task["id"] for op, task in tasks.items()}}
    async with database.connection() as other:
        for query in (*locks, "UPDATE tasks SET deleted_at = NULL WHERE id = %(restore)s"):
            await other.execute(query.encode(), ids)
        items = item("patch", tasks["restore"], key="k"), item("patch", tasks["patch"])
        sent = asyncio.ensure_future(batch(client, alice, *items))
        while not await value_of(database, WAITING):
            pass

    results = await sent
    assert statuses(results) == expected
    if is_older:
        assert kind(results[0]) == "conflict"
        assert results[0]["task"] == await get_task(client, tasks["restore"]) | {"deleted_at": None}
        assert statuses(await batch(client, alice, items[0])) == [200]


async def test_nobody_sees_a_part_of_a_batch(client: Client, elsewhere: Client, alice: UUID) -> None:
    results = await batch(client, alice, *(item("create", title="-1") for _ in range(ITEMS_MAX)))
    feed: Json = {"limit": 500}
    seen = set[str]()

    async def write() -> None:
        for number in range(8):
            items = [item("patch", result, title=str(number)) for result in results]
            assert statuses(await batch(client, alice, *items)) == [200] * ITEMS_MAX

    writing = asyncio.ensure_future(write())
    while not writing.done():
        listed = (await elsewhere.get(f"{alice}/tasks")).json()["items"]
        page = (await elsewhere.get(f"{alice}/tasks/changes", params=feed)).json()
        feed["cursor"] = page["next_cursor"]
        for tasks in (listed, page["items"]):
            titles = {task["title"] for task in tasks}
            assert (len(tasks), len(titles)) in ((0, 0), (ITEMS_MAX, 1))
            seen |= titles
    await writing
    assert len(seen) > 2


def test_an_item_has_every_field_that_a_task_has() -> None:
    from tests.support.contract import SCHEMAS

    for name in ("BatchCreate", "BatchReplace"):
        assert SCHEMAS[name]["properties"].keys() >= FIELDS.keys()
