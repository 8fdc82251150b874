"""Entity tags: reading only what has changed, and writing only what has not (RFC 9110, section 13)."""

from typing import Any
from uuid import UUID, uuid4

import pytest

from persistence.postgres.database import Database
from tests.support.helpers import Client, Json, Response, address, assert_problem, get_task, make_task

BREAD = {"title": "Buy bread"}
WRITES: list[tuple[str, Any]] = [("PUT", BREAD), ("PATCH", BREAD), ("PATCH", {}), ("DELETE", None)]
MALFORMED = [
    "", " ", '" 1"', "x", "1", '"', '"1', '1"', '"1" "2"', '"1"; "2"', "W/1", 'w/"1"', '*, "1"', "**", ",", ", ,",
    '"a\tb"', " ," * 20_000,
]  # fmt: skip

every_write = pytest.mark.parametrize(("method", "body"), WRITES)


def tag(task: Json) -> str:
    return f'"{task["version"]}"'


async def get(client: Client, task: Json, if_none_match: str) -> Response:
    return await client.get(address(task), headers={"If-None-Match": if_none_match})


async def write_if(client: Client, task: Json, method: str, body: Any, if_match: str) -> Response:
    return await client.request(method, address(task), json=body, headers={"If-Match": if_match})


async def test_every_change_makes_a_new_entity_tag_and_reading_does_not(client: Client, task: Json) -> None:
    versions = [task["version"]]
    for method, body in [*WRITES[:2], ("PATCH", {"completed": True}), ("PATCH", {"title": "Buy bread"})]:
        change = await client.request(method, address(task), json=body)
        assert change.headers["ETag"] == tag(change.json()) == tag(await get_task(client, task))
        versions.append(change.json()["version"])

    assert versions == sorted(set(versions))
    # Numbers in JavaScript are exact up to 2 ** 53, which are microseconds until the year 2255.
    assert versions[-1] < 2**53


async def test_a_task_made_again_under_the_same_id_has_an_entity_tag_that_was_never_there_before(
    client: Client, owner: Database, alice: UUID
) -> None:
    first = await make_task(client, alice, id=str(uuid4()))
    async with owner.connection() as connection:
        await connection.execute("DELETE FROM tasks WHERE id = %s", [first["id"]])
    second = await make_task(client, alice, id=first["id"], title="Another one")

    assert second["version"] > first["version"]
    assert (await get(client, first, tag(first))).status_code == 200
    assert_problem(await write_if(client, first, "PUT", {"title": "x"}, tag(first)), 412, "precondition-failed")


async def test_what_the_client_has_already_is_not_sent_again(client: Client, task: Json) -> None:
    for form in ("{tag}", "W/{tag}", '"x", {tag}', '{tag},"x"', "*", " , {tag} ,", '"1","2",W/{tag}'):
        headers = {"If-None-Match": form.format(tag=tag(task)), "Origin": "http://localhost:3000"}
        for method in ("GET", "HEAD"):
            response = await client.request(method, address(task), headers=headers)

            assert (response.status_code, response.content) == (304, b"")
            assert response.headers["ETag"] == tag(task)
            assert response.headers["Cache-Control"] == "private, no-cache"
            assert "origin" in response.headers["Vary"].lower()
            assert not {"content-type", "content-length"} & response.headers.keys()


async def test_what_has_changed_is_sent(client: Client, task: Json) -> None:
    for form in ('"1"', '"x"', 'W/"x"', '"{version}0"', '"0{version}"', '""'):
        assert (await get(client, task, form.format(version=task["version"]))).json() == task


@every_write
async def test_a_write_meant_for_this_version_is_done(client: Client, alice: UUID, method: str, body: Any) -> None:
    many = ",".join(f'"{number}"' for number in range(99))
    for form in ("{tag}", '"x", {tag}', '{tag} , W/"1"', "*", " * ", f"{many}, {{tag}}"):
        task = await make_task(client, alice)
        assert (await write_if(client, task, method, body, form.format(tag=tag(task)))).status_code == 200, form


@every_write
async def test_a_write_meant_for_another_version_does_nothing_and_tells_the_current_one(
    client: Client, task: Json, method: str, body: Any
) -> None:
    for form in ('"1"', "W/{tag}", '"x"', '""', '"0{version}"', f'"{10**30}"', f'"{2**63}"', '"-1"'):
        response = await write_if(client, task, method, body, form.format(tag=tag(task), version=task["version"]))

        assert tag(task) in assert_problem(response, 412, "precondition-failed")["detail"]
        assert response.headers["ETag"] == tag(task)
    assert await get_task(client, task) == task


@every_write
async def test_an_entity_tag_that_a_proxy_has_altered_does_nothing_and_is_told_from_a_change(
    client: Client, task: Json, method: str, body: Any
) -> None:
    version = task["version"]
    for form in ('W/"{0}"', '"{0}-gzip"', '"{0}-br"', '"{0};gzip"', '"{0}--gzip"', '"1", W/"{0}"', 'W/"{0}-gzip"'):
        response = await write_if(client, task, method, body, form.format(version))
        document = assert_problem(response, 412, "precondition-failed")
        assert "has not changed" in document["detail"], form
        assert "proxy" in document["detail"]
        assert tag(task) in document["detail"]
    for form in ('W/"1{0}"', '"{0}0-gzip"', '"{0}-"', '"-gzip"', 'W/"1"'):
        response = await write_if(client, task, method, body, form.format(version))
        assert "proxy" not in assert_problem(response, 412, "precondition-failed")["detail"], form
    assert await get_task(client, task) == task


async def test_a_malformed_condition_is_refused_and_says_how_to_write_it(client: Client, task: Json) -> None:
    for value in MALFORMED:
        assert_problem(await get(client, task, value), 400, "invalid-input", "If-None-Match")
        for method, body in WRITES:
            response = await write_if(client, task, method, body, value)
            assert "double quotes" in assert_problem(response, 400, "invalid-input", "If-Match")["errors"][0]["detail"]
    assert await get_task(client, task) == task


async def test_a_condition_that_an_operation_does_not_know_is_refused_and_never_ignored(
    client: Client, alice: UUID, task: Json
) -> None:
    for condition in ("*", tag(task), '"1"'):
        refused: list[tuple[str, str, Any, str]] = [
            *((method, address(task), body, "If-None-Match") for method, body in WRITES),
            *(("GET", url, None, "If-Match") for url in (address(task), f"{alice}/tasks", f"{alice}/tasks/summary")),
            *(("POST", f"{alice}/tasks", {"title": "x"}, name) for name in ("If-Match", "If-None-Match")),
        ]
        for method, url, body, name in refused:
            response = await client.request(method, url, json=body, headers={name: condition})
            assert_problem(response, 400, "invalid-input", name)
    assert await get_task(client, task) == task
    # Where there is no entity tag, none can be the same.
    assert (await client.get(f"{alice}/tasks", headers={"If-None-Match": '"1"'})).status_code == 200
