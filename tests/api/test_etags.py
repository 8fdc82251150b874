"""Entity tags: reading only what has changed, and writing only what has not (RFC 9110, section 13)."""

import re
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from tests.support.helpers import Json, address, assert_problem, get_task, make_task

WRITES: list[tuple[str, Any]] = [
    ("PUT", {"title": "Buy bread"}),
    ("PATCH", {"title": "Buy bread"}),
    ("PATCH", {}),
    ("DELETE", None),
]
MALFORMED = [
    "",
    " ",
    '" 1"',
    "x",
    "1",
    '"',
    '"1',
    '1"',
    '"1" "2"',
    '"1"; "2"',
    "W/1",
    'w/"1"',
    '*, "1"',
    "**",
    ",",
    ", ,",
    '"a\tb"',
]


def tag(task: Json) -> str:
    return f'"{task["version"]}"'


async def get(client: httpx.AsyncClient, task: Json, if_none_match: str) -> httpx.Response:
    return await client.get(address(task), headers={"If-None-Match": if_none_match})


async def write(client: httpx.AsyncClient, task: Json, method: str, body: Any, if_match: str) -> httpx.Response:
    return await client.request(method, address(task), json=body, headers={"If-Match": if_match})


async def test_every_answer_with_a_task_that_is_there_has_its_entity_tag(
    client: httpx.AsyncClient, alice: UUID
) -> None:
    created = await client.post(f"{alice}/tasks", json={"title": "Buy milk"})
    task = created.json()
    answers = [
        created,
        await client.get(address(task)),
        await client.head(address(task)),
        await client.patch(address(task), json={}),
    ]

    assert {answer.headers["ETag"] for answer in answers} == {tag(task)}
    for method in ("PATCH", "PUT"):
        change = await client.request(method, address(task), json={"title": "Buy bread"})
        assert change.headers["ETag"] == tag(change.json())
        assert (await client.get(address(task))).headers["ETag"] == change.headers["ETag"]
    assert "ETag" not in (await client.delete(address(task))).headers


async def test_every_change_makes_a_new_entity_tag_and_reading_does_not(client: httpx.AsyncClient, alice: UUID) -> None:
    task = await make_task(client, alice)
    versions = [task["version"]]
    for method, body in [*WRITES[:2], ("PATCH", {"completed": True}), ("PATCH", {"title": "Buy bread"})]:
        await get_task(client, task)
        versions.append((await client.request(method, address(task), json=body)).json()["version"])

    assert versions == sorted(set(versions))


async def test_a_task_made_again_under_the_same_id_has_an_entity_tag_that_was_never_there_before(
    client: httpx.AsyncClient, alice: UUID
) -> None:
    first = await make_task(client, alice, id=str(uuid4()))
    await client.delete(address(first))
    second = await make_task(client, alice, id=first["id"], title="Another one")

    assert second["version"] > first["version"]
    assert (await get(client, first, tag(first))).status_code == 200
    assert_problem(await write(client, first, "PUT", {"title": "x"}, tag(first)), 412, "precondition-failed")


@pytest.mark.parametrize("form", ["{tag}", "W/{tag}", '"x", {tag}', '{tag},"x"', "*", " , {tag} ,", '"1","2",W/{tag}'])
async def test_what_the_client_has_already_is_not_sent_again(client: httpx.AsyncClient, alice: UUID, form: str) -> None:
    task = await make_task(client, alice)
    for method in ("GET", "HEAD"):
        response = await client.request(
            method,
            address(task),
            headers={"If-None-Match": form.format(tag=tag(task)), "Origin": "http://localhost:3000"},
        )

        assert (response.status_code, response.content) == (304, b"")
        assert response.headers["ETag"] == tag(task)
        assert response.headers["Cache-Control"] == "private, no-cache"
        assert "origin" in response.headers["Vary"].lower()
        assert not {"Content-Type", "Content-Length"} & {name.title() for name in response.headers}


@pytest.mark.parametrize("form", ['"1"', '"x"', 'W/"x"', '"{version}0"', '"0{version}"', '""'])
async def test_what_has_changed_is_sent(client: httpx.AsyncClient, alice: UUID, form: str) -> None:
    task = await make_task(client, alice)

    assert (await get(client, task, form.format(version=task["version"]))).json() == task


async def test_a_task_that_is_not_there_has_no_entity_tag(client: httpx.AsyncClient, alice: UUID, bob: UUID) -> None:
    bobs = await make_task(client, bob)
    for condition in ({"If-None-Match": "*"}, {"If-None-Match": tag(bobs)}):
        response = await client.get(f"{alice}/tasks/{bobs['id']}", headers=condition)

        assert_problem(response, 404, "task-not-found")
        assert "ETag" not in response.headers


@pytest.mark.parametrize(("method", "body"), WRITES)
@pytest.mark.parametrize("form", ["{tag}", '"x", {tag}', '{tag} , W/"1"', "*", " * "])
async def test_a_write_meant_for_this_version_is_done(
    client: httpx.AsyncClient, alice: UUID, method: str, body: Any, form: str
) -> None:
    task = await make_task(client, alice)

    assert (await write(client, task, method, body, form.format(tag=tag(task)))).status_code == 200


@pytest.mark.parametrize(("method", "body"), WRITES)
@pytest.mark.parametrize("form", ['"1"', "W/{tag}", '"x"', '""', '"0{version}"', f'"{10**30}"', f'"{2**63}"', '"-1"'])
async def test_a_write_meant_for_another_version_does_nothing_and_tells_the_current_one(
    client: httpx.AsyncClient, alice: UUID, method: str, body: Any, form: str
) -> None:
    task = await make_task(client, alice)
    response = await write(client, task, method, body, form.format(tag=tag(task), version=task["version"]))

    document = assert_problem(response, 412, "precondition-failed")
    assert response.headers["ETag"] == tag(task)
    assert tag(task) in document["detail"]
    assert await get_task(client, task) == task


@pytest.mark.parametrize(("method", "body"), WRITES)
async def test_without_a_condition_the_last_write_wins(
    client: httpx.AsyncClient, alice: UUID, method: str, body: Any
) -> None:
    task = await make_task(client, alice)
    await client.patch(address(task), json={"title": "Somebody else's"})

    assert (await client.request(method, address(task), json=body)).status_code == 200


@pytest.mark.parametrize(("method", "body"), WRITES)
@pytest.mark.parametrize("condition", ["*", '"1"'])
async def test_a_condition_on_somebody_elses_task_tells_nothing(
    client: httpx.AsyncClient, alice: UUID, bob: UUID, method: str, body: Any, condition: str
) -> None:
    bobs = await make_task(client, bob)
    headers = {"If-Match": condition}
    foreign = await client.request(method, f"{alice}/tasks/{bobs['id']}", json=body, headers=headers)
    missing = await client.request(method, f"{alice}/tasks/{uuid4()}", json=body, headers=headers)

    assert_problem(foreign, 404, "task-not-found")
    assert foreign.content == missing.content
    assert await get_task(client, bobs) == bobs


@pytest.mark.parametrize("value", MALFORMED)
async def test_a_malformed_condition_is_refused_and_says_how_to_write_it(
    client: httpx.AsyncClient, alice: UUID, value: str
) -> None:
    task = await make_task(client, alice)

    assert_problem(await get(client, task, value), 400, "invalid-input", "If-None-Match")
    for method, body in WRITES:
        document = assert_problem(await write(client, task, method, body, value), 400, "invalid-input", "If-Match")
        assert "double quotes" in document["errors"][0]["detail"]
    assert await get_task(client, task) == task


async def test_a_condition_that_is_not_looked_at_is_refused_and_never_ignored(
    client: httpx.AsyncClient, alice: UUID
) -> None:
    task = await make_task(client, alice)
    for condition in ("*", tag(task), '"1"'):
        for method, body in WRITES:
            response = await client.request(
                method, address(task), json=body, headers={"If-None-Match": condition, "If-Match": "*"}
            )
            assert_problem(response, 400, "invalid-input", "If-None-Match")
        if_match = {"If-Match": condition}
        for url in (address(task), f"{alice}/tasks", f"{alice}/tasks/summary"):
            assert_problem(await client.get(url, headers=if_match), 400, "invalid-input", "If-Match")
        for name in ("If-Match", "If-None-Match"):
            created = await client.post(f"{alice}/tasks", json={"title": "x"}, headers={name: condition})
            assert_problem(created, 400, "invalid-input", name)
    assert await get_task(client, task) == task
    # Where there is no entity tag, none can be the same.
    assert (await client.get(f"{alice}/tasks", headers={"If-None-Match": '"1"'})).status_code == 200


async def test_a_condition_of_any_length_is_read_in_no_time(client: httpx.AsyncClient, alice: UUID) -> None:
    task = await make_task(client, alice)
    many = ",".join(f'"{number}"' for number in range(5000))

    assert (await write(client, task, "PATCH", {}, f"{many}, {tag(task)}")).status_code == 200
    assert (await write(client, task, "PATCH", {}, " ," * 20_000)).status_code == 400


def test_a_version_can_be_read_by_javascript() -> None:
    # Numbers in JavaScript are exact up to 2 ** 53, which are microseconds until the year 2255.
    assert re.fullmatch(r"\d{16}", str(int(2e15)))
    assert 2e15 < 2**53
