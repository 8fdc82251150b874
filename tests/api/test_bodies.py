"""Bodies: what POST, PUT and PATCH take and refuse alike."""

from typing import Any
from uuid import UUID

import pytest

from tests.support.contract import EXAMPLE, FIELDS, NULLABLE, READ_ONLY, Json
from tests.support.helpers import WRITES, Client, address, assert_problem, get_task, send, url_for, write

VALUES = {name: EXAMPLE[name] for name in FIELDS if name != "id"} | {"due_date": "2999-12-31T23:30:00Z"}
"""A value for each field that every write may send."""

every_write = pytest.mark.parametrize("method", WRITES)


@every_write
async def test_every_field_that_is_sent_is_stored(client: Client, task: Json, method: str) -> None:
    written = (await write(client, method, task, VALUES)).json()

    assert written == written | VALUES
    assert await get_task(client, written) == written


@every_write
async def test_texts_of_commas_and_tags_again_and_again_are_stored(client: Client, task: Json, method: str) -> None:
    values = {"title": "," * 200, "description": "[" * 1000, "tags": ["a", "b"] * 50}
    written = (await write(client, method, task, values)).json()

    assert written == written | values | {"tags": ["a", "b"]}


@every_write
async def test_null_is_taken_for_each_field_that_can_be_empty_and_no_other(
    client: Client, task: Json, method: str
) -> None:
    task = (await write(client, "PUT", task, VALUES)).json()
    for field in FIELDS.keys() - set(NULLABLE):
        response = await write(client, method, task, {"title": "x", field: None})
        assert_problem(response, 400, "invalid-input", field)
    assert await get_task(client, task) == task
    for field in NULLABLE:
        assert (await write(client, method, task, {"title": "x", field: None})).json()[field] is None


@every_write
@pytest.mark.parametrize(
    ("values", "completed"),
    [
        ({"completed": True}, True),
        ({"status": "completed"}, True),
        ({"status": "completed", "completed": True}, True),
        ({"completed": False}, False),
        ({"status": "pending"}, False),
        ({"status": "pending", "completed": False}, False),
    ],
    ids=str,
)
async def test_completed_is_another_way_to_say_status(
    client: Client, task: Json, method: str, values: Json, *, completed: bool
) -> None:
    await client.patch(address(task), json={"completed": not completed})
    written = (await write(client, method, task, {"title": "x"} | values)).json()

    assert written["completed"] is completed
    assert written["status"] == ("completed" if completed else "pending")
    assert (written["completed_at"] is not None) is completed


@every_write
async def test_status_and_completed_may_not_contradict_each_other(client: Client, task: Json, method: str) -> None:
    for status, completed in (("pending", True), ("completed", False)):
        response = await write(client, method, task, {"title": "x", "status": status, "completed": completed})
        assert "both" in assert_problem(response, 400, "invalid-input", "body")["errors"][0]["detail"]
    assert await get_task(client, task) == task


@every_write
async def test_a_field_that_the_server_decides_about_is_told_from_one_that_does_not_exist(
    client: Client, task: Json, method: str
) -> None:
    for field in (*READ_ONLY, *["id"] * (method != "POST")):
        for value in (task[field], None, ""):
            response = await write(client, method, task, {"title": "x", field: value, "titel": 1})
            document = assert_problem(response, 400, "invalid-input", field, "titel")
            assert [error["detail"][:10] for error in document["errors"]] == ["This canno", "There is n"]
    for field in ("", "a.b", "Title"):
        response = await write(client, method, task, {"title": "x", field: None})
        assert_problem(response, 400, "invalid-input", field or "body")
    assert await get_task(client, task) == task


@every_write
async def test_a_value_of_another_type_is_told_the_type_that_is_wanted(client: Client, task: Json, method: str) -> None:
    wanted: Json = {
        "title": "A JSON string in double quotes is expected",
        "description": "A JSON string in double quotes is expected",
        "status": "Input should be 'pending' or 'completed'",
        "completed": "true or false is expected, without quotes",
        "tags": "A JSON array in square brackets is expected",
    }

    values: tuple[object, ...] = (None, 1, {})
    for value in values:
        sent: Json = {name: value for name in wanted if value is not None or name != "description"}
        document = assert_problem(await write(client, method, task, sent), 400, "invalid-input", *sent)
        assert [error["detail"] for error in document["errors"]] == [wanted[name] for name in sent]


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
async def test_an_overdue_task_stays_editable(client: Client, task: Json, method: str) -> None:
    overdue = {"title": "Buy milk", "due_date": "2001-01-01T00:00:00Z"}

    assert (await write(client, method, task, overdue)).status_code == 200
    again = await write(client, method, task, overdue | {"title": "Buy more milk", "completed": True})
    assert again.status_code == 200
    assert again.json()["due_date"] == "2001-01-01T00:00:00Z"


@every_write
async def test_every_fault_is_named_at_once_and_one_stops_all(
    client: Client, alice: UUID, task: Json, method: str
) -> None:
    faults = {
        "title": " ",
        "description": "x" * 1001,
        "status": "done",
        "completed": 1,
        "priority": "urgent",
        "due_date": "tomorrow",
        "tags": ["ok", "x" * 11, "fine", 7],
        "colour": "red",
    }
    document = (await write(client, method, task, faults)).json()
    assert {error["field"] for error in document["errors"]} == faults.keys() - {"tags"} | {"tags.1", "tags.3"}
    assert document["detail"].startswith("9 values")

    response = await write(client, method, task, {"title": "Buy bread", "priority": "urgent"})
    assert_problem(response, 400, "invalid-input", "priority")
    assert (await client.get(f"{alice}/tasks")).json()["items"] == [task]


BODIES: list[tuple[bytes, str, tuple[str, ...]]] = [
    (b"", "invalid-input", ("body",)),
    (b"null", "invalid-input", ("body",)),
    (b"[]", "invalid-input", ("body",)),
    (b'"title"', "invalid-input", ("body",)),
    (b"1", "invalid-input", ("body",)),
    (b'{"title": 1}', "invalid-input", ("title",)),
    (b'{"title": "x", "tags": ["ok", ""]}', "invalid-input", ("tags.1",)),
    (b'{"title": "x", "\\ud800": 1}', "invalid-input", ("body",)),
    (b" ", "malformed-json", ()),
    (b"{", "malformed-json", ()),
    (b"title=x", "malformed-json", ()),
    (b"\xff", "malformed-json", ()),
    (b'{"title": NaN}', "malformed-json", ()),
    (b"[" * 60_000, "invalid-input", ("body",)),
    (b'{"title": "x", "tags": [%s]}' % b",".join([b'""'] * 101), "invalid-input", ("tags",)),
    (b'{"title": "x", "description": "%s"}' % (b"," * 1_001), "invalid-input", ("description",)),
]


@every_write
async def test_a_body_that_cannot_be_used_is_refused(client: Client, task: Json, method: str) -> None:
    for body, kind, fields in BODIES:
        assert_problem(await send(client, method, url_for(method, task), body), 400, kind, *fields)
    assert await get_task(client, task) == task


NUMBERS = ["9" * 19, "-" + "9" * 18, "18446744073709551616", "1e308", "1.5", "-0", "9" * 400, "1e400", "{}"]


@pytest.mark.parametrize("field", FIELDS)
async def test_an_odd_number_in_any_field_is_refused(client: Client, task: Json, field: str) -> None:
    for number in NUMBERS:
        response = await send(client, "PATCH", address(task), f'{{"{field}": {number}}}'.encode())
        assert response.status_code == 400, number


@every_write
@pytest.mark.parametrize(
    "content_type",
    [
        None, "", "text/plain", "application/xml", "application/problem+json", "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x", "application/json, text/plain", "text/html; x=application/json", "<script>",
        "application/json; charset=utf-16", "\xff", ";", "/",
    ],
)  # fmt: skip
async def test_another_media_type_than_json_is_refused(
    client: Client, task: Json, method: str, content_type: str | None
) -> None:
    headers = [] if content_type is None else [(b"Content-Type", content_type.encode("latin-1"))]
    response = await client.request(method, url_for(method, task), content=b'{"title": "x"}', headers=headers)

    assert "application/json" in assert_problem(response, 415, "unsupported-media-type")["detail"]
    assert await get_task(client, task) == task


@pytest.mark.parametrize(
    ("method", "content_type", "statuses"),
    [
        ("POST", "application/json; charset=utf-8", {201}),
        ("POST", "application/json; charset=US-ASCII", {201}),
        ("POST", "application/json;charset=UTF8", {201}),
        ("POST", 'application/json; charset="utf-8"', {201}),
        ("POST", 'Application/JSON;\t CHARSET="Utf8"; version=1', {201}),
        ("PATCH", "application/merge-patch+json; charset=utf8", {200}),
        ("PATCH", "application/merge-patch+json", {200}),
        *(
            ("POST", f"application/json;{odd}", {201, 400, 415})
            for odd in ("charset*=nonsense''x", "charset=odd", ";=;")
        ),
    ],
)
async def test_json_may_name_its_charset_and_a_patch_its_own_type(
    client: Client, task: Json, method: str, content_type: str, statuses: set[int]
) -> None:
    headers = {"Content-Type": content_type}
    response = await client.request(method, url_for(method, task), content='{"title": "x"}', headers=headers)

    assert response.status_code in statuses


async def test_too_many_tags_are_one_fault(client: Client, alice: UUID) -> None:
    for tags in (["a"] * 101, [""] * 4_000):
        response = await client.post(f"{alice}/tasks", json={"title": "x", "tags": tags})
        [error] = assert_problem(response, 400, "invalid-input", "tags")["errors"]
        assert "at most 100" in error["detail"]


async def test_the_refusal_of_another_charset_names_it(client: Client, alice: UUID) -> None:
    for charset in ("latin-1", "utf-16", "UTF-7"):
        headers = {"Content-Type": f"application/json; charset={charset}"}
        response = await client.post(f"{alice}/tasks", content='{"title": "x"}', headers=headers)
        detail = assert_problem(response, 415, "unsupported-media-type")["detail"]
        assert f"not in the charset {charset}: only UTF-8 is understood" in detail


async def test_a_body_that_is_encoded_is_refused(client: Client, alice: UUID) -> None:
    for coding in ("gzip", "br", "identity", "x"):
        response = await client.post(f"{alice}/tasks", json={"title": "x"}, headers={"Content-Encoding": coding})
        assert_problem(response, 415, "unsupported-media-type")


async def test_a_body_that_is_too_large_is_refused(client: Client, alice: UUID) -> None:
    response = await send(client, "POST", f"{alice}/tasks", b" " * 65_537)

    assert "65536" in assert_problem(response, 413, "content-too-large")["detail"]


async def test_a_hostile_body_gets_no_answer_many_times_its_size(client: Client, alice: UUID) -> None:
    bodies: list[Any] = [b'{"tags":[' + b"1," * 30_000 + b"1]}", b'{"%s": 1, "title": "x"}' % (b"x" * 60_000)]
    for body in bodies:
        response = await send(client, "POST", f"{alice}/tasks", body)
        assert response.status_code == 400
        assert len(response.content) < 65_536
