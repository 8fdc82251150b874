"""What belongs to one user does not exist for another (D26)."""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from itertools import product
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from persistence.postgres.dsn import Dsn
from tests.fuzz.conversation import Conversation, request
from tests.fuzz.site import web_server
from tests.support.contract import DOCUMENT
from tests.support.helpers import PROBLEM, Json, address, assert_problem, get_task, make_task

METHODS: list[tuple[str, Any]] = [
    ("GET", None),
    ("PUT", {"title": "Mine now"}),
    ("PATCH", {"title": "Mine now"}),
    ("PATCH", {"description": None, "completed": True}),
    ("PATCH", {}),
    ("DELETE", None),
]


def _visible(response: httpx.Response) -> tuple[int, bytes, list[tuple[str, str]]]:
    """All that a client can see, but for what differs between any two answers."""
    headers = [(name, value) for name, value in response.headers.items() if name not in ("x-request-id", "date")]
    return response.status_code, response.content, headers


@pytest.mark.parametrize(("method", "body"), METHODS)
async def test_somebody_elses_task_looks_like_none_to_the_byte(
    client: httpx.AsyncClient, alice: UUID, bob: UUID, method: str, body: Any
) -> None:
    bobs = await make_task(client, bob, tags=["secret"])
    foreign = await client.request(method, f"{alice}/tasks/{bobs['id']}", json=body)
    missing = await client.request(method, f"{alice}/tasks/{uuid4()}", json=body)

    assert_problem(foreign, 404, "task-not-found")
    assert _visible(foreign) == _visible(missing)
    assert await get_task(client, bobs) == bobs


@pytest.mark.parametrize(("method", "body"), METHODS)
async def test_a_wrong_body_tells_nothing_either(
    client: httpx.AsyncClient, alice: UUID, bob: UUID, method: str, body: Any
) -> None:
    bobs = await make_task(client, bob)
    wrong = {"title": 7} if body is not None else None
    foreign = await client.request(method, f"{alice}/tasks/{bobs['id']}", json=wrong)
    missing = await client.request(method, f"{alice}/tasks/{uuid4()}", json=wrong)

    assert _visible(foreign) == _visible(missing)


async def test_it_hides_bobs_tasks_from_alices_list(client: httpx.AsyncClient, alice: UUID, bob: UUID) -> None:
    hers = await make_task(client, alice)
    his = await make_task(client, bob)

    assert (await client.get(f"{alice}/tasks")).json()["items"] == [hers]
    assert (await client.get(f"{bob}/tasks")).json()["items"] == [his]


async def test_both_may_change_tasks_of_the_same_title(client: httpx.AsyncClient, alice: UUID, bob: UUID) -> None:
    hers, his = await make_task(client, alice), await make_task(client, bob)
    await client.patch(address(hers), json={"completed": True})
    await client.delete(address(hers))

    assert await get_task(client, his) == his


# Every operation of the contract, over HTTP -----------------------------------------------------------------------

OPERATIONS: dict[str, tuple[str, str, Json]] = {
    operation["operationId"]: (method.upper(), path.removeprefix("/api/"), operation)
    for path, methods in DOCUMENT["paths"].items()
    for method, operation in methods.items()
}
ABOUT_A_TASK = [name for name, (_, path, _) in OPERATIONS.items() if "{task_id}" in path]
ABOUT_A_USER = ["list_tasks", "get_task_summary"]
ABOUT_NOBODY = ["get_health", "get_liveness"]
CONDITIONS = ("*", '"1"', "the task's own", 'W/"1"', "wrong")


@pytest.fixture(scope="module")
def conversation(dsn: Dsn, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Conversation]:
    with web_server(tmp_path_factory.mktemp("web"), dsn) as web:
        conversation = Conversation(web.port)
        yield conversation
        conversation.close()


def _headers(task: Json) -> list[Mapping[str, str]]:
    conditions = [f'"{task["version"]}"' if said == "the task's own" else said for said in CONDITIONS]
    return [
        {},
        *({name: condition} for name in ("If-Match", "If-None-Match") for condition in conditions),
        {"Idempotency-Key": task["id"]},
        {"Idempotency-Key": "a key", "If-Match": "*", "If-None-Match": "*"},
    ]


def _bodies(operation: Json) -> list[str | None]:
    if "requestBody" not in operation:
        return [None]
    example = operation["requestBody"]["content"]["application/json"]["example"]
    return [json.dumps(example), json.dumps(example | {"title": 7}), "{}", "{"]


def _said(conversation: Conversation, *parts: Any) -> bytes:
    """The answer to the byte. Its X-Request-ID is the request's; only its Date is its own."""
    method, path, headers, body = parts
    answer = conversation.ask(request(method, path, {**headers, "X-Request-ID": "the-same"}, body))
    return re.sub(rb"\r\nDate: [^\r]+", b"", answer.raw, count=1)


def _spellings(task_id: str) -> list[tuple[str, str]]:
    """The id and one that nobody has, in every way to write them, most of which are wrong."""
    ways: list[Callable[[str], str]] = [str, str.upper, "{{{}}}".format, lambda text: text[:-1], _without_hyphens]
    missing = str(uuid4())
    return [(way(task_id), way(missing)) for way in ways]


def _without_hyphens(text: str) -> str:
    return text.replace("-", "")


def test_every_operation_is_among_those_that_are_tested_here() -> None:
    assert {*ABOUT_A_TASK, *ABOUT_A_USER, *ABOUT_NOBODY, "create_task"} == OPERATIONS.keys()
    assert {name for name in OPERATIONS if "{user_id}" in OPERATIONS[name][1]}.isdisjoint(ABOUT_NOBODY)


@pytest.mark.parametrize("name", ABOUT_A_TASK)
async def test_no_operation_tells_somebody_elses_task_from_none(
    name: str, conversation: Conversation, client: httpx.AsyncClient, alice: UUID, bob: UUID
) -> None:
    method, path, operation = OPERATIONS[name]
    tasks = {user: await make_task(client, user, title="Secret", tags=["secret"]) for user in (alice, bob)}
    first_body, *_ = bodies = _bodies(operation)
    statuses = set()
    for (user, owner), body in product([(alice, bob), (bob, alice), (uuid4(), bob)], bodies):
        task = tasks[owner]
        for headers, ids in product(_headers(task), _spellings(task["id"])):
            theirs, missing = (
                _said(conversation, method, path.format(user_id=user, task_id=task_id), headers, body)
                for task_id in ids
            )
            assert theirs == missing
            assert b"ecret" not in theirs
            statuses.add(theirs[9:12])
        usual = _said(conversation, method, path.format(user_id=user, task_id=task["id"]), {}, first_body)
        assert f"{PROBLEM}task-not-found".encode() in usual
    assert not statuses & {b"200", b"304", b"412"}
    assert {user: await get_task(client, task) for user, task in tasks.items()} == tasks


@pytest.mark.parametrize("name", ABOUT_A_USER)
async def test_what_others_have_makes_no_difference_to_what_a_user_has(
    name: str, conversation: Conversation, client: httpx.AsyncClient, alice: UUID, bob: UUID
) -> None:
    method, path, operation = OPERATIONS[name]
    for number in range(3):
        await make_task(client, bob, title=f"Secret {number}", tags=["secret"], priority="high")
    cursor = (await client.get(f"{bob}/tasks?limit=1")).json()["next_cursor"]
    queries = ["", "?limit=1", "?tag=secret", "?q=secret", "?priority=high", f"?limit=1&cursor={cursor}"]
    for query in queries if operation["parameters"][1:] else queries[:1]:
        answers = [
            _said(conversation, method, path.format(user_id=user) + query, {}, None) for user in (alice, uuid4())
        ]
        assert answers[0] == answers[1]
        assert b"ecret" not in answers[0]


async def test_an_id_that_is_taken_tells_nothing_about_the_task(
    conversation: Conversation, client: httpx.AsyncClient, alice: UUID, bob: UUID
) -> None:
    tasks = [await make_task(client, bob, title=title) for title in ("Secret", "Another")]
    await client.patch(address(tasks[1]), json={"completed": True})

    answers = {
        _said(conversation, "POST", f"{alice}/tasks", {}, json.dumps({"title": "Mine", "id": task["id"]}))
        for task in tasks
    }

    (answer,) = answers
    assert answer.startswith(b"HTTP/1.1 409 ")
    assert str(bob).encode() not in answer
