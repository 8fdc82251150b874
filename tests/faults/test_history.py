"""The comparison of a history with the database finds a planted bug of each kind, and none where there is none."""

from typing import Any
from uuid import UUID, uuid4

import httpx
import psycopg
import pytest
from psycopg.rows import dict_row

from persistence.postgres.dsn import Dsn
from tests.faults.history import History, Kind, Operation, State
from tests.faults.http import Answer
from tests.faults.matrix import Result
from tests.faults.verdict import compare, judge
from tests.support.databases import as_owner

ANEW = "INSERT INTO tasks (id, user_id, title, description) VALUES (%(id)s, %(user)s, %(marker)s, %(marker)s)"


class Client:
    """Writes tasks as a client of the API does, and to the database as a bug does."""

    def __init__(self, http: httpx.AsyncClient, dsn: Dsn, user_id: UUID, history: History) -> None:
        self.http, self.dsn, self.user_id, self.history = http, dsn, user_id, history
        self.number = history.new_client()

    def invoke(self, kind: Kind, of: Operation | None = None, **more: Any) -> Operation:
        return self.history.invoke(self.number, self.user_id, kind, task_id=of.task_id if of else None, **more)

    async def send(self, operation: Operation) -> Answer:
        method, path, body, headers = operation.request
        headers = {name: value for name, value in headers.items() if name != "If-Match"}
        answer = await self.http.request(method, path.removeprefix("/api"), json=body, headers=headers)
        assert answer.is_success
        return Answer(answer.status_code, dict(answer.headers), answer.content, 0.0)

    async def do(self, kind: Kind, of: Operation | None = None, **more: Any) -> Operation:
        operation = self.invoke(kind, of, **more)
        self.history.record(operation, await self.send(operation))
        return operation

    def doubt(self, kind: Kind, of: Operation | None = None) -> Operation:
        operation = self.invoke(kind, of)
        self.history.mark_unknown(operation)
        return operation

    def plant(self, query: str, operation: Operation, **values: object) -> None:
        values = {"id": operation.task_id or uuid4(), "user": self.user_id, "marker": operation.marker, **values}
        with psycopg.connect(as_owner(self.dsn).conninfo) as connection:
            assert connection.execute(query.encode(), values).rowcount == 1

    def judge(self) -> Result:
        judge(self.history, self.dsn.conninfo, result := Result())
        return result


@pytest.fixture
def alices(client: httpx.AsyncClient, dsn: Dsn, alice: UUID) -> Client:
    return Client(client, dsn, alice, History())


@pytest.fixture
def bobs(alices: Client, bob: UUID) -> Client:
    return Client(alices.http, alices.dsn, bob, alices.history)


def assert_found(result: Result, text: str, lost: int = 0, doubled: int = 0) -> None:
    assert any(text in violation for violation in result.violations), result.violations
    assert (result.lost, result.doubled) == (lost, doubled), result.violations


async def test_a_correct_history_has_no_violation(alices: Client, bobs: Client) -> None:
    for client in (alices, bobs):
        first = await client.do("create", body={"priority": "high", "tags": ["home"]})
        replaced = await client.do("replace", first)
        await client.do("patch", first, expected=replaced.version)
        await client.do("get", first)
        gone = await client.do("create")
        await client.do("delete", gone)
        await client.do("list")

    assert alices.judge() == Result(acknowledged=10)


async def test_an_unknown_write_may_be_done_or_not(alices: Client) -> None:
    done, late, not_done, doubted = [await alices.do("create") for _ in range(4)]
    await alices.send(alices.doubt("patch", done))
    unknown = alices.doubt("patch", late)
    await alices.do("get", late)
    await alices.do("patch", late)
    await alices.send(unknown)
    alices.doubt("patch", not_done)
    alices.doubt("delete", not_done)
    await alices.send(alices.doubt("delete", doubted))
    alices.plant(ANEW, alices.doubt("create"))
    alices.doubt("create")

    assert alices.judge() == Result(acknowledged=5)


@pytest.mark.parametrize(
    ("bug", "text", "lost", "doubled"),
    [
        ("DELETE FROM tasks", "it is not in the database", 1, 0),
        ("UPDATE tasks SET title = %(first)s, description = %(first)s", "the title is", 1, 0),
        ("UPDATE tasks SET title = %(first)s, description = %(first)s, version = version - 1", "went back", 1, 0),
        ("UPDATE tasks SET priority = 'low'", "{'priority': 'low'}", 0, 0),
        ("UPDATE tasks SET version = version + 1", "by a write done before", 0, 1),
        ("UPDATE tasks SET user_id = %(other)s", "belongs to user", 0, 0),
        ("UPDATE tasks SET deleted_at = now()", "it is not in the database", 1, 0),
        ("UPDATE tasks SET title = 'A stranger'", "no client wrote the task", 1, 0),
    ],
)
async def test_a_planted_bug_is_found(alices: Client, bob: UUID, bug: str, text: str, lost: int, doubled: int) -> None:
    created = await alices.do("create")
    await alices.do("patch", created, body={"priority": "high"})
    alices.plant(f"{bug} WHERE id = %(id)s", created, first=created.marker, other=bob)

    assert_found(alices.judge(), text, lost, doubled)


@pytest.mark.parametrize("is_answered", [True, False])
async def test_a_create_that_was_done_twice_is_found_in_any_order(alices: Client, is_answered: bool) -> None:
    operation = await alices.do("create") if is_answered else alices.doubt("create")
    alices.plant(ANEW, operation, id=uuid4())
    if not is_answered:
        alices.plant(ANEW, operation)

    assert_found(alices.judge(), "has the values of" if is_answered else "there are 2 tasks of", doubled=1)
    with psycopg.connect(as_owner(alices.dsn).conninfo, row_factory=dict_row) as connection:
        rows = connection.execute("SELECT * FROM tasks WHERE user_id = %s", [alices.user_id]).fetchall()
    compare(alices.history, rows[::-1], result := Result())
    assert result.doubled == 1


async def test_an_unknown_change_explains_only_one_version(alices: Client) -> None:
    created = await alices.do("create")
    unknown = alices.doubt("patch", created)
    await alices.send(unknown)
    await alices.do("get", created)
    await alices.do("patch", created)
    await alices.send(unknown)

    assert_found(alices.judge(), "by a write done before", doubled=1)


async def test_a_deleted_task_that_is_there_again_is_found(alices: Client) -> None:
    created = await alices.do("create")
    deletion = alices.doubt("delete", created)
    await alices.send(deletion)
    # A 404 acknowledges a deletion after an attempt whose outcome was unknown.
    alices.history.record(deletion, Answer(404, {}, b"", 0.0))
    alices.plant("UPDATE tasks SET deleted_at = NULL WHERE id = %(id)s", created)

    assert_found(alices.judge(), "after an acknowledged deletion", lost=1)


@pytest.mark.parametrize("kind", ["create", "patch"])
async def test_a_refused_write_that_was_done_is_found(alices: Client, kind: Kind) -> None:
    created = await alices.do("create")
    refused = alices.invoke(kind, created if kind == "patch" else None)
    alices.history.refuse(refused)
    await alices.send(refused)

    assert any("a refused write is in the database" in each for each in alices.judge().violations)


@pytest.mark.parametrize("is_refused_first", [True, False])
async def test_a_refusal_and_an_unknown_attempt_are_unknown_in_any_order(
    alices: Client, is_refused_first: bool
) -> None:
    operation = alices.invoke("create")
    log = [alices.history.refuse, alices.history.mark_unknown]
    for record in log if is_refused_first else log[::-1]:
        record(operation)
    alices.plant(ANEW, operation)

    assert operation.state is State.UNKNOWN
    assert alices.judge() == Result()


@pytest.mark.parametrize("kind", ["list", "get"])
async def test_a_task_of_another_user_in_a_response_is_found(alices: Client, bobs: Client, kind: Kind) -> None:
    created = await bobs.do("create")
    theirs = await bobs.send(bobs.invoke(kind, created if kind == "get" else None))
    alices.history.record(alices.invoke(kind), theirs)

    assert_found(alices.judge(), f"the response has a task of user {bobs.user_id}")


async def test_values_of_another_user_or_of_no_client_in_a_response_are_found(alices: Client, bobs: Client) -> None:
    mine, theirs = await alices.do("create"), await bobs.do("create")
    for title, text in ((theirs.marker, f"values that user {bobs.user_id} wrote"), ("A stranger", "that no client")):
        alices.plant("UPDATE tasks SET title = %(title)s WHERE id = %(id)s", mine, title=title)
        await alices.do("list")
        assert any(text in each for each in alices.judge().violations), text


async def test_a_response_from_the_past_is_found(alices: Client) -> None:
    created = await alices.do("create")
    old = await alices.send(alices.invoke("get", created))
    await alices.do("patch", created)
    alices.history.record(alices.invoke("get", created), old)
    assert_found(alices.judge(), "went back", lost=1)

    alices.history.record(alices.invoke("patch", created), old)
    for text in ("the response has the title", "the version went from"):
        assert any(text in violation for violation in alices.judge().violations), text


async def test_a_write_to_another_version_and_a_404_for_an_existing_task_are_found(
    alices: Client,
) -> None:
    created = await alices.do("create")
    await alices.do("patch", created)
    await alices.do("patch", created, expected=created.version)
    alices.history.record(alices.invoke("get", created), Answer(404, {}, b"", 0.0))

    for text in (f"a write to version {created.version} changed version", "the task was not found"):
        assert_found(alices.judge(), text)
