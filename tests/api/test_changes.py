"""The feed of changes: GET /api/{user_id}/tasks/changes. A client that polls has what there is, whatever happens."""

from typing import Any
from uuid import UUID, uuid4

import pytest

from persistence import users
from persistence.changes import Place
from persistence.postgres.database import Database
from tests.support.helpers import (
    Client,
    Json,
    Response,
    address,
    assert_problem,
    delete_task,
    get_task,
    in_trash,
    insert_task,
    make_task,
    make_tasks,
)
from todos.cursors import ChangeCursors


async def ask(client: Client, user: UUID, cursor: str | None = None, **query: Any) -> Response:
    return await client.get(f"{user}/tasks/changes", params=query | ({"cursor": cursor} if cursor else {}))


class Copy:
    """What a client has that keeps a copy, and does nothing but what the documentation says."""

    def __init__(self, client: Client, user: UUID) -> None:
        self._client, self._user = client, user
        self.tasks: dict[str, Json] = {}
        self.cursor: str | None = None

    async def poll(self, **query: Any) -> Json:
        """One request; returns its answer."""
        response = await ask(self._client, self._user, self.cursor, **query)
        assert response.status_code == 200, response.text
        page: Json = response.json()
        versions = [item["version"] for item in page["items"]]
        assert versions == sorted(versions)
        for item in page["items"]:
            if item["deleted_at"]:
                self.tasks.pop(item["id"], None)
            else:
                self.tasks[item["id"]] = item
        self.cursor = page["next_cursor"]
        return page

    async def catch_up(self, **query: Any) -> list[Json]:
        """Polls until there are no more; returns all items."""
        items: list[Json] = []
        for _ in range(100):
            page = await self.poll(**query)
            items += page["items"]
            if not page["more"]:
                return items
        raise AssertionError("there are always more")

    async def assert_complete(self) -> None:
        listed = (await self._client.get(f"{self._user}/tasks?limit=500")).json()["items"]
        assert self.tasks == {task["id"]: live(task) for task in listed}


@pytest.fixture
def copy(client: Client, alice: UUID) -> Copy:
    return Copy(client, alice)


def live(task: Json) -> Json:
    return task | {"deleted_at": None, "erased": False}


async def erase(client: Client, task: Json) -> None:
    response = await client.delete(in_trash(task))
    assert response.status_code == 204, response.text


async def restore(client: Client, task: Json) -> Json:
    response = await client.post(f"{in_trash(task)}/restore")
    assert response.status_code == 200, response.text
    restored: Json = response.json()
    return restored


async def run(owner: Database, query: str, **values: Any) -> None:
    """What happens to the database beside the service."""
    async with owner.connection() as connection:
        await connection.execute(query.encode(), values)


async def test_each_change_is_shown_once_with_the_task_as_it_is_now(client: Client, alice: UUID, copy: Copy) -> None:
    task, other = await make_task(client, alice), await make_task(client, alice)
    assert await copy.catch_up() == [live(task), live(other)]

    await client.patch(address(task), json={"title": "Changed"})
    replaced = (await client.put(address(task), json={"title": "Replaced", "completed": True})).json()
    assert await copy.catch_up() == [live(replaced)]
    deleted = await delete_task(client, task)
    assert await copy.catch_up() == [deleted | {"erased": False}]
    restored = await restore(client, task)
    assert await copy.catch_up() == [live(restored)]
    await delete_task(client, other)
    await erase(client, other)
    [tombstone] = await copy.catch_up()
    assert tombstone["deleted_at"]
    assert tombstone["erased"]
    assert tombstone["version"] > restored["version"]
    assert tombstone["title"] == "(erased)"
    assert await copy.catch_up() == []
    await copy.assert_complete()


async def test_a_poll_may_be_repeated_and_one_without_news_has_a_cursor_that_is_as_good(
    client: Client, alice: UUID, copy: Copy
) -> None:
    await make_task(client, alice)
    first = (await copy.poll())["next_cursor"]
    for _ in range(2):
        assert (await copy.poll()) == {"items": [], "next_cursor": copy.cursor, "more": False}
    task = await make_task(client, alice)

    for cursor in (first, first, copy.cursor):
        assert (await ask(client, alice, cursor)).json()["items"] == [live(task)]


async def test_a_client_may_begin_before_there_is_a_user(client: Client, owner: Database) -> None:
    user = uuid4()
    copy = Copy(client, user)
    for _ in range(2):
        page = await copy.poll()
        assert (page["items"], page["more"]) == ([], False)

    await run(owner, "INSERT INTO users (id) VALUES (%(user)s)", user=user)
    assert (await copy.poll())["items"] == []
    task = await make_task(client, user)
    assert (await copy.poll())["items"] == [live(task)]


async def test_thousands_of_tasks_with_one_version_are_each_shown_once(
    client: Client, owner: Database, alice: UUID, bob: UUID
) -> None:
    # Tasks from before there were revisions, and what one purge erases, may have one version in common.
    for user in (alice, bob):
        await make_tasks(owner, user, 2001)
    await run(owner, "UPDATE tasks SET version = 7 WHERE user_id IN (%(a)s, %(b)s)", a=alice, b=bob)
    for limit in (400, 500):
        items = await Copy(client, alice).catch_up(limit=limit)
        assert len(items) == len({item["id"] for item in items}) == 2001
        assert {item["user_id"] for item in items} == {str(alice)}


async def test_whatever_happens_between_the_pages_of_the_first_walk_the_copy_is_complete(
    client: Client, alice: UUID, copy: Copy
) -> None:
    tasks = [await make_task(client, alice, title=f"Task {number}") for number in range(16)]
    for task in tasks[8:10]:
        await delete_task(client, task)
    for page in range(3):
        await copy.poll(limit=3)
        # Of those that this walk has seen, and of those that it has not.
        for number in (page * 2, 15 - page * 2):
            await client.patch(address(tasks[number]), json={"completed": True})
        for number in (page * 2 + 1, 15 - page * 2 - 1):
            await delete_task(client, tasks[number])
        if page == 0:
            await restore(client, tasks[1])
            await restore(client, tasks[8])
            await erase(client, tasks[14])
        if page == 1:
            await erase(client, tasks[9])
            await restore(client, tasks[12])
        await make_task(client, alice)
    await copy.catch_up(limit=2)

    await copy.assert_complete()


async def test_what_was_deleted_before_the_walk_is_not_shown_and_what_is_deleted_after_its_beginning_is(
    client: Client, alice: UUID, copy: Copy
) -> None:
    before, erased, first, second, third = [await make_task(client, alice) for _ in range(5)]
    for task in (before, erased):
        await delete_task(client, task)
    await erase(client, erased)

    assert (await ask(client, alice)).json()["items"] == [live(task) for task in (first, second, third)]
    page = await copy.poll(limit=1)
    assert page["items"] == [live(first)]
    assert page["more"]
    for task in (first, second):
        await delete_task(client, task)
    items = await copy.catch_up(limit=1)
    assert [(item["id"], item["deleted_at"] is None) for item in items] == [
        (third["id"], True), (first["id"], False), (second["id"], False),
    ]  # fmt: skip
    # One that was left out shows as soon as it changes.
    await erase(client, before)
    assert [(item["id"], item["erased"]) for item in await copy.catch_up()] == [(before["id"], True)]


async def test_the_end_of_a_walk_is_behind_all_that_it_has_left_out(client: Client, alice: UUID, copy: Copy) -> None:
    task, gone = await make_task(client, alice), await make_task(client, alice)
    deleted = await delete_task(client, gone)
    assert await copy.catch_up() == [live(task)]

    # What a cursor holds is nobody else's business, but from any other place each poll would read tombstones again.
    assert copy.cursor
    assert ChangeCursors(alice).decode(copy.cursor).version == deleted["version"]


async def test_a_full_last_page_says_that_there_are_no_more(client: Client, alice: UUID, copy: Copy) -> None:
    for _ in range(4):
        await make_task(client, alice)

    assert [(await copy.poll(limit=2))["more"] for _ in range(2)] == [True, False]
    await copy.assert_complete()


async def test_a_task_that_was_inserted_by_hand_is_shown_and_does_no_harm(
    client: Client, owner: Database, alice: UUID, copy: Copy
) -> None:
    await copy.poll()
    await insert_task(owner, alice, "By hand")
    assert [item["title"] for item in (await copy.poll())["items"]] == ["By hand"]

    assert (await copy.poll())["items"] == []
    task = await make_task(client, alice)
    assert (await copy.poll())["items"] == [live(task)]
    await copy.assert_complete()


async def assert_gone(client: Client, user: UUID, cursor: str | None) -> None:
    """The cursor is refused, and the client can do what the answer says."""
    assert cursor
    document = assert_problem(await ask(client, user, cursor), 410, "changes-gone")
    assert "without a cursor" in document["detail"]
    anew = Copy(client, user)
    await anew.catch_up()
    await anew.assert_complete()
    assert (await ask(client, user, anew.cursor)).status_code == 200


async def test_a_cursor_from_before_the_horizon_is_gone_and_one_from_it_is_not(
    client: Client, owner: Database, alice: UUID, copy: Copy
) -> None:
    task = await make_task(client, alice)
    await copy.poll()
    old = copy.cursor
    deleted = await delete_task(client, task)
    await copy.poll()
    # As a purge does.
    await run(
        owner,
        "WITH gone AS (DELETE FROM tasks WHERE user_id = %(user)s)"
        " UPDATE users SET horizon = %(version)s WHERE id = %(user)s",
        user=alice, version=deleted["version"],
    )  # fmt: skip

    await assert_gone(client, alice, old)
    assert (await copy.poll())["items"] == []


async def test_a_walk_that_began_after_the_horizon_goes_on_among_versions_from_before_it(
    client: Client, owner: Database, alice: UUID, copy: Copy
) -> None:
    await make_tasks(owner, alice, 5)
    await run(owner, "UPDATE tasks SET version = 7 WHERE user_id = %(user)s", user=alice)

    await copy.catch_up(limit=2)

    await copy.assert_complete()


@pytest.mark.parametrize("walk_is_over", [True, False])
async def test_a_cursor_of_a_state_that_was_lost_with_a_restore_is_gone(
    client: Client, owner: Database, alice: UUID, copy: Copy, walk_is_over: bool
) -> None:
    tasks = [await make_task(client, alice) for _ in range(3)]
    await (copy.catch_up() if walk_is_over else copy.poll(limit=1))
    # The database as it was when there was one of them.
    await run(
        owner,
        "WITH later AS (DELETE FROM tasks WHERE user_id = %(user)s AND version > %(version)s)"
        " UPDATE users SET revision = %(version)s WHERE id = %(user)s",
        user=alice, version=tasks[0]["version"],
    )  # fmt: skip

    await assert_gone(client, alice, copy.cursor)


async def test_the_copy_of_an_account_that_was_erased_is_gone(
    client: Client, database: Database, alice: UUID, copy: Copy
) -> None:
    await make_task(client, alice)
    await copy.poll()
    await users.erase(database, alice)

    await assert_gone(client, alice, copy.cursor)
    # When the mark is purged, there is no such user.
    await database.rows(users.PURGE, {"seconds": -1.0})
    await assert_gone(client, alice, copy.cursor)


async def assert_refused(client: Client, user: UUID, cursor: str) -> None:
    document = assert_problem(await ask(client, user, cursor), 400, "invalid-input", "cursor")
    assert "begin anew" in document["errors"][0]["detail"]


async def test_a_change_of_any_character_of_a_cursor_is_noticed(client: Client, alice: UUID, copy: Copy) -> None:
    await make_task(client, alice)
    await copy.poll()
    cursor = copy.cursor
    assert cursor
    for place, character in enumerate(cursor):
        # The last character has bits that no byte needs.
        others = "Ag_9" if place + 1 == len(cursor) else "A" if character != "A" else "g"
        for other in others.replace(character, ""):
            await assert_refused(client, alice, cursor[:place] + other + cursor[place + 1 :])
    for other in (cursor[:-1], cursor + "A", cursor + "=", f"{cursor}\n", "x", "ä"):
        await assert_refused(client, alice, other)


async def test_a_cursor_is_good_for_the_changes_of_one_user_only(
    client: Client, alice: UUID, bob: UUID, copy: Copy
) -> None:
    for user in (alice, bob):
        for _ in range(2):
            await make_task(client, user)
    await copy.poll()
    of_a_list = (await client.get(f"{alice}/tasks?limit=1")).json()["next_cursor"]

    assert copy.cursor
    await assert_refused(client, bob, copy.cursor)
    await assert_refused(client, alice, of_a_list)
    for path in ("tasks", "trash"):
        answer = await client.get(f"{alice}/{path}", params={"cursor": copy.cursor})
        assert_problem(answer, 400, "invalid-input", "cursor")


@pytest.mark.parametrize("number", [-1, -(1 << 63), (1 << 63) - 1])
async def test_a_forged_cursor_does_no_harm(client: Client, alice: UUID, number: int) -> None:
    cursors = ChangeCursors(alice)
    for place in (Place(number, uuid4(), 0), Place(0, uuid4(), number), Place(number, uuid4(), number)):
        assert (await ask(client, alice, cursors.encode(place))).status_code in (200, 410)


@pytest.mark.parametrize("limit", ["0", "501", "-1", "1.5", "many", ""])
async def test_it_refuses_a_limit_that_is_none_or_beyond_500(client: Client, alice: UUID, limit: str) -> None:
    assert_problem(await ask(client, alice, limit=limit), 400, "invalid-input", "limit")


async def test_a_page_has_100_unless_told_otherwise(client: Client, owner: Database, alice: UUID) -> None:
    await make_tasks(owner, alice, 501)
    sizes: list[tuple[int, Json]] = [(100, {}), (500, {"limit": 500})]
    for size, query in sizes:
        page = (await ask(client, alice, **query)).json()
        assert len(page["items"]) == size
        assert page["more"]


async def test_it_shows_nothing_of_bobs_to_alice(client: Client, alice: UUID, bob: UUID, copy: Copy) -> None:
    his = await make_task(client, bob, title="Secret")
    assert await copy.catch_up() == []
    hers = await make_task(client, alice, id=his["id"])
    await client.patch(address(his), json={"title": "Changed"})
    await delete_task(client, his)

    assert await copy.catch_up() == [live(hers)]
    assert await get_task(client, hers) == hers
