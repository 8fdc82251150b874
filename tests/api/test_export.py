"""GET /api/{user_id}/export: all tasks of a user as a file."""

import asyncio
import csv
import json
from datetime import datetime
from io import StringIO
from uuid import UUID, uuid4

import pytest

from config.asgi import handler
from persistence.postgres.database import Database
from tests.support.helpers import Client, Json, address, assert_problem, make_task, make_tasks
from web import streaming
from web.handler import Message

DISPOSITIONS = {"jsonl": "tasks.jsonl", "csv": "tasks.csv", "todotxt": "todo.txt", "ics": "tasks.ics"}
LIVE_ONLY = ("todotxt", "ics")


async def exported(client: Client, user: UUID, form: str = "jsonl") -> str:
    response = await client.get(f"{user}/export", params={"format": form})
    assert response.status_code == 200, response.text
    return response.text


async def trash(client: Client, task: Json) -> Json:
    response = await client.delete(address(task))
    assert response.status_code == 200
    trashed: Json = response.json()
    return trashed


async def erase(owner: Database, task: Json) -> None:
    """Makes a tombstone of a task in the trash."""
    async with owner.connection() as connection:
        await connection.execute(
            "UPDATE tasks SET title = '(erased)', is_erased = true, applied_keys = NULL WHERE user_id = %s AND id = %s",
            (task["user_id"], task["id"]),
        )


async def test_it_has_live_tasks_and_the_trash_and_neither_tombstones_nor_bobs(
    client: Client, alice: UUID, bob: UUID, owner: Database
) -> None:
    live = await make_task(client, alice, tags=["home"], description="A\nB")
    trashed = await trash(client, await make_task(client, alice))
    await erase(owner, await trash(client, await make_task(client, alice)))
    await make_task(client, bob)

    lines = (await exported(client, alice)).splitlines()

    assert [json.loads(line) for line in lines] == [live | {"deleted_at": None}, trashed]


async def test_a_table_has_them_too_under_the_names_of_the_fields(client: Client, alice: UUID) -> None:
    live = await make_task(client, alice, title="=1+1", tags=["home", "later"], description='say "no"')
    trashed = await trash(client, await make_task(client, alice))

    content = await exported(client, alice, "csv")

    assert content.startswith("\ufeff")
    first, second = csv.DictReader(StringIO(content.removeprefix("\ufeff"), newline=""))
    assert first == {
        **{name: "" if value is None else str(value).lower() for name, value in live.items()},
        "title": "'=1+1",
        "description": 'say "no"',
        "tags": "home,later",
        "created_at": datetime.fromisoformat(live["created_at"]).isoformat().replace("+00:00", "Z"),
        "updated_at": datetime.fromisoformat(live["updated_at"]).isoformat().replace("+00:00", "Z"),
        "deleted_at": "",
    }
    assert datetime.fromisoformat(second["deleted_at"]) == datetime.fromisoformat(trashed["deleted_at"])


@pytest.mark.parametrize("form", LIVE_ONLY)
async def test_forms_that_cannot_tell_leave_the_trash_out(form: str, client: Client, alice: UUID) -> None:
    live = await make_task(client, alice)
    trashed = await trash(client, await make_task(client, alice))

    content = await exported(client, alice, form)

    assert live["id"] in content
    assert trashed["id"] not in content


@pytest.mark.parametrize(("form", "name"), DISPOSITIONS.items())
async def test_it_has_the_headers_of_a_file_of_unknown_length_also_for_head(
    form: str, name: str, client: Client, alice: UUID
) -> None:
    await make_task(client, alice)
    url = f"{alice}/export?format={form}"
    got, headed = await client.get(url), await client.head(url)

    for response in (got, headed):
        assert response.headers["Content-Disposition"] == f'attachment; filename="{name}"'
        assert response.headers["Cache-Control"] == "no-store"
        assert "Content-Length" not in response.headers
    assert got.headers.keys() == headed.headers.keys()
    assert headed.content == b""


@pytest.mark.parametrize(
    ("form", "nothing"),
    [("jsonl", ""), ("todotxt", ""), ("csv", "\ufeffid,"), ("ics", "BEGIN:VCALENDAR\r\nVERSION:2.0\r\n")],
)
async def test_an_unknown_user_has_a_file_without_tasks(form: str, nothing: str, client: Client) -> None:
    content = await exported(client, uuid4(), form)
    assert content.startswith(nothing)
    assert content.count("\n") <= 4


async def test_it_is_in_the_order_of_the_last_changes_beyond_one_batch(
    client: Client, alice: UUID, owner: Database
) -> None:
    await make_tasks(owner, alice, 1_001)
    async with owner.connection() as connection:
        await connection.execute("UPDATE tasks SET version = uuid_hash(id) & 1023 WHERE user_id = %s", (alice,))
    tasks = [json.loads(line) for line in (await exported(client, alice)).splitlines()]
    assert len({task["id"] for task in tasks}) == 1_001
    assert tasks == sorted(tasks, key=lambda task: (task["version"], task["id"]))


async def test_an_unknown_form_is_refused(client: Client, alice: UUID) -> None:
    assert_problem(await client.get(f"{alice}/export?format=xml"), 400, "invalid-input", "format")


async def test_a_browser_on_another_origin_may_read_it(client: Client, alice: UUID) -> None:
    response = await client.get(f"{alice}/export", headers={"Origin": "http://localhost:3000"})
    assert response.headers["Access-Control-Allow-Origin"] == "http://localhost:3000"
    assert "Content-Disposition" in response.headers["Access-Control-Expose-Headers"]


async def test_a_second_export_of_a_user_is_refused_while_one_is_made_and_not_later(
    client: Client, alice: UUID, bob: UUID, database: Database
) -> None:
    async def read(user: UUID) -> int:
        return (await client.get(f"{user}/export")).status_code

    held = database.stream_places
    with held.place(alice):
        response = await client.get(f"{alice}/export")
        assert_problem(response, 503, "service-unavailable")
        assert int(response.headers["Retry-After"]) == 5
        assert await read(bob) == 200
        with held.place(uuid4()):
            assert await read(bob) == 503
    assert await read(alice) == await read(alice) == 200


async def test_a_client_that_takes_too_long_is_cut_off_and_leaves_nothing_behind(
    database: Database, alice: UUID, owner: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    await make_tasks(owner, alice, 300)
    monkeypatch.setattr(streaming, "STREAM_TIMEOUT", 0.1)
    sent, aborted = list[Message](), list[bool]()

    async def send(message: Message) -> None:
        sent.append(message)
        if message["type"] == "http.response.body":
            await asyncio.Event().wait()

    async def receive() -> Message:
        await asyncio.Event().wait()
        raise AssertionError

    scope = {
        "type": "http", "method": "GET", "path": f"/api/{alice}/export", "query_string": b"", "headers": [],
        "state": {"database": database, "verifier": None}, "abort": lambda: aborted.append(True),
    }  # fmt: skip
    await handler(scope, receive, send)

    assert [message["type"] for message in sent] == ["http.response.start", "http.response.body"]
    assert sent[-1]["more_body"]
    assert aborted == [True]
    assert database.pool.stats.in_use == 0
