"""POST /api/{user_id}/import: tasks of a file into those of a user."""

import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given, settings

from persistence import transfers
from persistence.postgres.database import Database
from tests.api.test_export import erase, exported, trash
from tests.formats.rows import rows
from tests.support.helpers import Client, Json, address, assert_problem, get_task, make_task, signed_in
from tests.support.issuer import Issuer
from todos import import_lines, imports
from todos.errors import InvalidInput
from todos.formats import jsonl
from todos.imports import LINES_SHOWN, TASKS_MAX
from web import body_limits

FIXTURES = Path(__file__).parents[1] / "formats/fixtures"
FOREIGN = {"todoist-csv": "todoist.csv", "google-tasks": "Tasks.json", "todotxt": "todo.txt"}
ROUTE = "api/<segment:user_id>/import"
PLACES = body_limits.FILE.places
COUNTS = ("imported", "known", "deleted", "refused")


async def sent(client: Client, user: object, content: str | bytes, form: str = "jsonl", **query: str) -> Json:
    response = await client.post(f"{user}/import", params={"format": form, **query}, content=content)
    assert response.status_code == 200, response.text
    result: Json = response.json()
    assert sum(result[name] for name in COUNTS) >= result["lines_shown"] == len(result["lines"])
    return result


def counts(result: Json) -> list[int]:
    return [result[name] for name in COUNTS]


def lines(*tasks: Json) -> str:
    return "".join(json.dumps(task) + "\n" for task in tasks)


async def stored(client: Client, user: object) -> list[Json]:
    """All tasks of the user as an export has them, without what an import does not keep."""
    found = [json.loads(line) for line in (await exported(client, user)).splitlines()]  # type: ignore[arg-type] # any id
    return sorted(({k: v for k, v in each.items() if k not in ("user_id", "version")} for each in found), key=str)


@pytest.mark.usefixtures("hypothesis_home")
async def test_what_was_exported_comes_back_as_it_was_for_anybody(client: Client, alice: UUID, bob: UUID) -> None:
    made: dict[UUID, dict[str, Any]] = {}

    @settings(max_examples=150, deadline=None, database=None)
    @given(row=rows())
    def collect(row: dict[str, Any]) -> None:
        made.setdefault(row["id"], row)

    collect()
    content = b"".join(map(jsonl.line_of, made.values()))
    expected = sorted(
        (
            {k: v for k, v in json.loads(line).items() if k not in ("user_id", "version")}
            for line in content.splitlines()
        ),
        key=str,
    )

    assert counts(await sent(client, alice, content)) == [len(made), 0, 0, 0]
    assert await stored(client, alice) == expected
    exports = await exported(client, alice)
    assert counts(await sent(client, bob, exports)) == [len(made), 0, 0, 0]
    assert await stored(client, bob) == expected
    # A repeat doubles nothing, and changes nothing.
    assert counts(await sent(client, alice, exports)) == [0, len(made), 0, 0]
    assert await exported(client, alice) == exports


@pytest.mark.parametrize(("form", "name"), FOREIGN.items())
async def test_a_file_of_another_program_is_imported_once_for_each_user(
    form: str, name: str, client: Client, alice: UUID, bob: UUID
) -> None:
    content = (FIXTURES / name).read_bytes()
    tried = await sent(client, alice, content, form, dry_run="true")
    assert await stored(client, alice) == []
    done = await sent(client, alice, content, form)
    first = await stored(client, alice)
    repeated = await sent(client, alice, content, form)

    assert tried == done | {"dry_run": True}
    assert done["imported"] == len(first) >= 3
    assert counts(repeated) == [0, done["imported"], 0, done["refused"]]
    assert await stored(client, alice) == first
    assert counts(await sent(client, bob, content, form)) == counts(done)
    assert {task["id"] for task in first} & {task["id"] for task in await stored(client, bob)} == set()


async def test_each_line_stands_alone_and_says_why_it_is_refused(client: Client, alice: UUID) -> None:
    task_id = str(uuid4())
    content = lines(
        {"title": "Fine", "due_date": "2001-01-01T00:00:00Z"},
        {"title": "A" * 201, "colour": "red", "tags": ["too long a tag"]},
        {"id": task_id, "title": "First"},
        {"id": task_id, "title": "Second"},
        {"id": "5", "title": "Odd", "completed_at": "2001-01-01T00:00:00Z"},
        {"title": "Done?", "completed_at": "2001-01-01T00:00:00Z"},
    )

    result = await sent(client, alice, content + "nonsense\n")

    assert counts(result) == [2, 0, 0, 5]
    refused = {
        line["line"]: [(each["field"], each["detail"]) for each in line["errors"]] for line in result["lines"][:5]
    }
    assert refused == {
        2: [
            ("title", "A title has 1 to 200 characters, not counting space around it"),
            ("tags.0", "A tag has 1 to 10 characters, not counting space around it"),
            ("colour", "There is no such field; check its spelling"),
        ],
        4: [("line", "It has the same id as line 3")],
        5: [("id", "An id is a UUID with hyphens, such as 3fa85f64-5717-4562-b3fc-2c963f66afa6")],
        6: [("body", "A pending task has no `completed_at`")],
        7: [("line", "It is not JSON: invalid literal, expected 'null'")],
    }
    assert [(line["line"], line["status"]) for line in result["lines"][5:]] == [(1, "imported"), (3, "imported")]
    assert result["lines"][0]["title"] == "A" * 200
    assert {task["title"] for task in await stored(client, alice)} == {"Fine", "First"}


async def test_a_task_that_was_deleted_stays_so(client: Client, alice: UUID, owner: Database) -> None:
    trashed = await trash(client, await make_task(client, alice))
    erased = await trash(client, await make_task(client, alice))
    await erase(owner, erased)
    before = await stored(client, alice)
    live = [{"id": task["id"], "title": "Back"} for task in (trashed, erased)]

    result = await sent(client, alice, lines(*live))

    assert counts(result) == [0, 0, 2, 0]
    assert await stored(client, alice) == before
    # The file has it in the trash, too.
    own = {k: v for k, v in trashed.items() if k != "user_id"}
    assert counts(await sent(client, alice, lines(own))) == [0, 1, 0, 0]
    # What is erased has no content that could be the same.
    assert counts(await sent(client, alice, lines(own | {"id": erased["id"]}))) == [0, 0, 1, 0]


async def test_a_task_that_is_there_stays_as_it_is(client: Client, alice: UUID) -> None:
    task = await make_task(client, alice)
    assert counts(await sent(client, alice, lines({"id": task["id"], "title": "Other"}))) == [0, 1, 0, 0]
    assert await get_task(client, task) == task


async def test_imported_tasks_have_the_next_revision_of_their_owner(client: Client, alice: UUID) -> None:
    before = await make_task(client, alice)
    result = await sent(client, alice, lines({"title": "A"}, {"title": "B"}))
    versions = {(await get_task(client, {"user_id": alice, "id": line["id"]}))["version"] for line in result["lines"]}
    assert len(versions) == 1
    assert versions.pop() > before["version"]
    feed = (await client.get(f"{alice}/tasks/changes")).json()
    assert {task["title"] for task in feed["items"]} == {before["title"], "A", "B"}
    changed = await client.patch(address(before), json={"title": "Later"})
    assert changed.json()["version"] > before["version"]


async def test_the_list_has_them_in_the_order_of_the_file(client: Client, alice: UUID) -> None:
    await sent(client, alice, "\n".join(f"Task {n}" for n in range(300)), "todotxt")
    listed = (await client.get(f"{alice}/tasks?limit=300&sort=created_at")).json()["items"]
    assert [task["title"] for task in listed] == [f"Task {n}" for n in range(300)]
    assert datetime.fromisoformat(listed[-1]["created_at"]) <= datetime.now(UTC)


async def test_notes_tell_what_is_in_the_description(client: Client, alice: UUID) -> None:
    result = await sent(client, alice, "Call " + "A" * 200 + " @waiting-for-long due:soon", "todotxt")
    [line] = result["lines"]
    assert line["status"] == "imported"
    assert len(line["notes"]) == 3
    [task] = await stored(client, alice)
    assert task["description"].splitlines() == ["Call " + "A" * 200, "Tag: waiting-for-long", "Due: soon"]


async def test_no_more_lines_are_shown_than_an_answer_can_have(client: Client, alice: UUID) -> None:
    fine = lines(*({"title": f"Task {n}"} for n in range(LINES_SHOWN)))
    result = await sent(client, alice, fine + "nonsense\n" * 2)
    assert result["lines_shown"] == LINES_SHOWN
    assert counts(result) == [LINES_SHOWN, 0, 0, 2]
    assert [line["status"] for line in result["lines"][:3]] == ["refused", "refused", "imported"]


async def test_a_user_has_no_more_tasks_than_it_may_have(
    client: Client, alice: UUID, settings: Any, owner: Database
) -> None:
    settings.USER_TASKS_MAX = 3
    await make_task(client, alice)
    in_trash = {"title": "Gone", "deleted_at": "2001-01-01T00:00:00Z"}
    content = lines({"title": "A"}, in_trash, {"title": "B"}, {"title": "C"})

    tried, done = [await sent(client, alice, content, dry_run=dry_run) for dry_run in ("true", "false")]

    for result in (tried, done):
        assert counts(result) == [3, 0, 0, 1]
        assert result["lines"][0]["errors"] == [{"field": "line", "detail": "A user may have 3 tasks"}]
    assert tried["lines"] == done["lines"]
    assert len(await stored(client, alice)) == 4
    assert counts(await sent(client, alice, content)) == [0, 3, 0, 1]


@pytest.mark.parametrize("dry_run", ["true", "false"])
async def test_a_trash_is_filled_with_no_more_tasks_than_a_user_may_have(
    dry_run: str, client: Client, alice: UUID, settings: Any
) -> None:
    settings.USER_TASKS_MAX = 3
    await trash(client, await make_task(client, alice))
    gone = [{"title": f"Gone {n}", "deleted_at": "2001-01-01T00:00:00Z"} for n in range(3)]
    result = await sent(client, alice, lines(*gone, {"title": "A"}), dry_run=dry_run)
    assert counts(result) == [3, 0, 0, 1]
    assert result["lines"][0]["errors"] == [{"field": "line", "detail": "A file may fill the trash with 3 tasks"}]


async def test_nothing_is_in_the_trash_from_a_day_to_come_when_it_would_never_be_purged(
    client: Client, alice: UUID
) -> None:
    await sent(client, alice, lines({"title": "A", "deleted_at": "9999-12-31T00:00:00Z"}))
    [task] = (await client.get(f"{alice}/trash")).json()["items"]
    assert datetime.fromisoformat(task["deleted_at"]) <= datetime.now(UTC)


async def test_an_import_sees_what_others_create_meanwhile(
    client: Client, alice: UUID, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.USER_TASKS_MAX = 3
    monkeypatch.setattr(imports, "BATCH", 1)
    content = lines({"title": "A"}, {"title": "B"}, {"title": "C"})
    inserted = transfers.insert_tasks

    async def beside(*args: Any, **options: Any) -> Any:
        await make_task(client, alice)
        return await inserted(*args, **options)

    monkeypatch.setattr(transfers, "insert_tasks", beside)
    assert counts(await sent(client, alice, content)) == [2, 0, 0, 1]


@pytest.mark.parametrize("dry_run", ["true", "false"])
async def test_an_unknown_user_is_404_unless_it_has_signed_in(
    dry_run: str, client: Client, guarded: Client, issuer: Issuer
) -> None:
    response = await client.post(f"{uuid4()}/import?dry_run={dry_run}", content=lines({"title": "A"}))
    assert_problem(response, 404, "user-not-found")

    someone = signed_in(guarded, issuer.token(uuid4()))
    assert counts(await sent(someone, "me", lines({"title": "A"}), dry_run=dry_run)) == [1, 0, 0, 0]
    assert len(await stored(someone, "me")) == (dry_run == "false")


async def test_an_account_that_was_erased_gets_nothing(guarded: Client, issuer: Issuer) -> None:
    someone = signed_in(guarded, issuer.token(uuid4()))
    await sent(someone, "me", lines({"title": "A"}))
    assert (await someone.delete("v1/me")).status_code == 204
    assert_problem(await someone.post("me/import", content=lines({"title": "A"})), 403, "account-erased")


@pytest.mark.parametrize(
    ("form", "content"),
    [
        ("todoist-csv", "TYPE,CONTENT\n" + "section,A\n" * 300 + "task,A\n"),
        ("todoist-csv", "TYPE,CONTENT\ntask,A\n" + "note,A\n" * 300),
        ("google-tasks", '{"kind": "tasks#taskLists", "items": [%s{"items": [1]}]}' % ('{"items": []},' * 300)),
    ],
)
async def test_other_requests_go_on_beside_what_is_no_task(
    form: imports.ImportFormat, content: str, alice: UUID, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(imports, "SLICE", 0)
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    other = asyncio.create_task(others())
    # It is refused at its first task, before the database is asked.
    with pytest.raises(InvalidInput):
        await imports.import_file(database, alice, form, content.encode(), dry_run=True, tasks_max=0)
    other.cancel()
    assert turns >= 300


async def test_a_line_shows_few_of_its_faults(client: Client, alice: UUID) -> None:
    [line] = (await sent(client, alice, lines({"title": "A", "tags": [""] * 100})))["lines"]
    assert len(line["errors"]) == import_lines.ERRORS_SHOWN


async def test_equal_lines_with_an_id_of_null_are_known_by_their_text(client: Client, alice: UUID) -> None:
    assert counts(await sent(client, alice, lines({"id": None, "title": "A"}))) == [1, 0, 0, 0]
    assert counts(await sent(client, alice, lines({"id": None, "title": "B"}))) == [1, 0, 0, 0]


@pytest.mark.parametrize(
    ("form", "content", "reason"),
    [
        ("todoist-csv", "title\nBuy milk\n", "no column CONTENT and no column TYPE"),
        ("google-tasks", "{}", "not Tasks.json"),
        ("google-tasks", "{", "not JSON"),
        ("jsonl", b"\xff\xfeA", "cannot be decoded"),
        ("todotxt", "A\n" * (TASKS_MAX + 1), "more than 10,000 tasks"),
    ],
)
async def test_a_file_that_cannot_be_read_at_all_is_refused(
    form: str, content: str | bytes, reason: str, client: Client, alice: UUID
) -> None:
    response = await client.post(f"{alice}/import?format={form}", content=content)
    document = assert_problem(response, 400, "invalid-input", "body")
    assert reason in document["errors"][0]["detail"]
    assert await stored(client, alice) == []


async def test_it_takes_larger_bodies_than_others_up_to_a_limit(
    client: Client, alice: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = lines({"title": "A", "description": "B" * 900})
    assert counts(await sent(client, alice, task * 100))[0] == 100
    monkeypatch.setitem(body_limits._LARGER, ROUTE, body_limits.FILE._replace(size=len(task)))
    assert counts(await sent(client, alice, task)) == [0, 1, 0, 0]
    assert_problem(await client.post(f"{alice}/import", content=task + " "), 413, "content-too-large")


@pytest.mark.parametrize(
    ("header", "value"), [("Content-Type", "multipart/form-data; boundary=a"), ("Content-Encoding", "gzip")]
)
async def test_a_file_comes_as_it_is(header: str, value: str, client: Client, alice: UUID) -> None:
    response = await client.post(f"{alice}/import", content=lines({"title": "A"}), headers={header: value})
    assert_problem(response, 400, "invalid-input", header)


async def test_a_second_import_of_a_user_is_refused_before_it_is_read(client: Client, alice: UUID) -> None:
    assert PLACES
    with PLACES.place(str(alice)):
        response = await client.post(f"{alice}/import", content=lines({"title": "A"}))
    assert_problem(response, 503, "service-unavailable")
    assert response.headers["Retry-After"] == "5"
    assert counts(await sent(client, alice, lines({"title": "A"}))) == [1, 0, 0, 0]


async def test_a_user_has_one_place_however_it_is_spelt(client: Client, guarded: Client, issuer: Issuer) -> None:
    assert PLACES
    user = uuid4()
    someone = signed_in(guarded, issuer.token(user))
    with PLACES.place(str(user)):
        for sender, spelt in ((client, str(user).upper()), (someone, "no-id"), (someone, str(user).upper())):
            response = await sender.post(f"{spelt}/import", content=lines({"title": "A"}))
            assert_problem(response, 503, "service-unavailable")
