"""The history checker finds a planted bug of each kind, and none where there is none."""

import asyncio
from collections.abc import Iterator
from typing import Any
from uuid import UUID, uuid4

import httpx
import psycopg
import pytest
from psycopg.rows import dict_row

from persistence.postgres.dsn import Dsn
from tests.faults.clients import load
from tests.faults.history import History, Kind, Operation, State
from tests.faults.http import Answer, Cut, Http, Unsent
from tests.faults.matrix import Result
from tests.faults.verdict import SHOWN, Verdict, compare, judge
from tests.support.processes import free_port
from tests.support.servers import WebServer, url_of

COPY = """
    INSERT INTO tasks (id, user_id, title, description, priority, version)
    SELECT gen_random_uuid(), user_id, title, description, priority, version FROM tasks WHERE id = %s
"""
ANEW = "INSERT INTO tasks (id, user_id, title, description) VALUES (%s, %s, %s, %s)"


class Clerk:
    """Writes tasks as a client does, and to the database as a bug does."""

    def __init__(self, client: httpx.AsyncClient, dsn: Dsn, user_id: UUID, history: History) -> None:
        self.client, self.dsn, self.user_id, self.history = client, dsn, user_id, history
        self.number = history.new_client()

    def invoke(self, kind: Kind, of: Operation | None = None, **more: Any) -> Operation:
        if kind in {"create", "replace", "patch"}:
            more.setdefault("body", {})
        return self.history.invoke(self.number, self.user_id, kind, task_id=of.task_id if of else None, **more)

    async def send(self, operation: Operation) -> Answer:
        path = f"/{operation.user_id}/tasks" + (f"/{operation.task_id}" if operation.task_id else "")
        methods = {"create": "POST", "replace": "PUT", "list": "GET"}
        method = methods.get(operation.kind, operation.kind.upper())
        answer = await self.client.request(method, path, json=operation.body)
        assert answer.is_success
        return Answer(answer.status_code, dict(answer.headers), answer.content, 0.0)

    async def do(self, kind: Kind, of: Operation | None = None, **more: Any) -> Operation:
        operation = self.invoke(kind, of, **more)
        self.history.acknowledge(operation, await self.send(operation))
        return operation

    def doubt(self, operation: Operation) -> Operation:
        self.history.doubt(operation, None)
        return operation

    def refuse(self, operation: Operation, status: int = 503) -> Operation:
        self.history.refuse(operation, Answer(status, {}, b"", 0.0))
        return operation

    def plant(self, query: str, *values: object) -> None:
        with psycopg.connect(self.dsn.conninfo) as connection:
            assert connection.execute(query.encode(), values).rowcount == 1

    def plant_task(self, operation: Operation, task_id: UUID | None = None) -> None:
        self.plant(ANEW, task_id or operation.task_id or uuid4(), self.user_id, operation.marker, operation.marker)

    def judge(self) -> Verdict:
        return judge(self.history, self.dsn.conninfo)


@pytest.fixture
def clerk(client: httpx.AsyncClient, dsn: Dsn, alice: UUID) -> Clerk:
    return Clerk(client, dsn, alice, History())


@pytest.fixture
def other(clerk: Clerk, bob: UUID) -> Clerk:
    return Clerk(clerk.client, clerk.dsn, bob, clerk.history)


def assert_found(verdict: Verdict, text: str, lost: int = 0, doubled: int = 0) -> None:
    assert any(text in violation for violation in verdict.violations), verdict.violations
    assert (verdict.lost, verdict.doubled) == (lost, doubled), verdict.violations


async def test_a_history_that_is_as_it_should_be_has_no_violation(clerk: Clerk, other: Clerk) -> None:
    for each in (clerk, other):
        first = await each.do("create", body={"priority": "high", "tags": ["home"]})
        await each.do("replace", first)
        await each.do("patch", first, expected=each.history.operations[-1].version)
        await each.do("get", first)
        gone = await each.do("create")
        await each.do("delete", gone)
        await each.do("list")

    assert clerk.judge() == Verdict(acknowledged=10)


async def test_what_is_unknown_may_be_done_or_not(clerk: Clerk) -> None:
    done, late, not_done, doubted = [await clerk.do("create") for _ in range(4)]
    await clerk.send(clerk.doubt(clerk.invoke("patch", done)))
    unknown = clerk.doubt(clerk.invoke("patch", late))
    await clerk.do("get", late)
    await clerk.do("patch", late)
    await clerk.send(unknown)
    clerk.doubt(clerk.invoke("patch", not_done))
    clerk.doubt(clerk.invoke("delete", not_done))
    await clerk.send(clerk.doubt(clerk.invoke("delete", doubted)))
    clerk.plant_task(clerk.doubt(clerk.invoke("create")))
    clerk.doubt(clerk.invoke("create"))

    assert clerk.judge() == Verdict(acknowledged=5)


async def test_a_lost_create_is_found(clerk: Clerk) -> None:
    created = await clerk.do("create")
    clerk.plant("DELETE FROM tasks WHERE id = %s", created.task_id)

    assert_found(clerk.judge(), "it is not in the database", lost=1)


async def test_a_stale_value_is_found(clerk: Clerk) -> None:
    created = await clerk.do("create")
    await clerk.do("patch", created)
    change = "UPDATE tasks SET title = %s, description = %s WHERE id = %s"
    clerk.plant(change, created.marker, created.marker, created.task_id)

    assert_found(clerk.judge(), f"the title is {created.marker!r} in the database", lost=1)


async def test_a_lost_update_is_found_by_its_version(clerk: Clerk) -> None:
    created = await clerk.do("create")
    await clerk.do("patch", created)
    change = "UPDATE tasks SET title = %s, description = %s, version = version - 1 WHERE id = %s"
    clerk.plant(change, created.marker, created.marker, created.task_id)

    assert_found(clerk.judge(), "went back", lost=1)


async def test_a_write_that_was_done_by_half_is_found(clerk: Clerk) -> None:
    created = await clerk.do("create", body={"priority": "high"})
    clerk.plant("UPDATE tasks SET priority = 'low' WHERE id = %s", created.task_id)

    assert_found(clerk.judge(), "priority is 'low'")


async def test_a_deleted_task_that_is_there_again_is_found(clerk: Clerk) -> None:
    created = await clerk.do("create")
    await clerk.do("delete", created)
    clerk.plant_task(created)

    assert_found(clerk.judge(), "although its deletion was acknowledged", lost=1)


async def test_a_create_that_arrives_after_the_deletion_may_make_the_task_anew(clerk: Clerk) -> None:
    created = clerk.doubt(clerk.invoke("create"))
    clerk.history.acknowledge(created, await clerk.send(created))
    await clerk.do("delete", created)
    clerk.plant_task(created)

    assert clerk.judge() == Verdict(acknowledged=2)


async def test_a_create_that_was_done_twice_is_found(clerk: Clerk) -> None:
    created = await clerk.do("create")
    clerk.plant(COPY, created.task_id)

    assert_found(clerk.judge(), "has the values of", doubled=1)


async def test_in_which_order_doubled_tasks_are_read_does_not_matter(clerk: Clerk) -> None:
    await clerk.do("create")
    clerk.plant_task(clerk.history.operations[-1], uuid4())
    with psycopg.connect(clerk.dsn.conninfo, row_factory=dict_row) as connection:
        rows = connection.execute("SELECT * FROM tasks WHERE user_id = %s", [clerk.user_id]).fetchall()

    assert [compare(clerk.history, order).doubled for order in (rows, rows[::-1])] == [1, 1]


async def test_a_create_without_an_answer_that_was_done_twice_is_found(clerk: Clerk) -> None:
    unknown = clerk.doubt(clerk.invoke("create"))
    clerk.plant_task(unknown)
    clerk.plant_task(unknown)

    assert_found(clerk.judge(), "there are 2 tasks of", doubled=1)


async def test_a_change_that_was_done_twice_is_found_whether_or_not_another_came_after_it(clerk: Clerk) -> None:
    first, second = [await clerk.do("create") for _ in range(2)]
    for created in (first, second):
        await clerk.do("patch", created)
        clerk.plant("UPDATE tasks SET version = version + 1 WHERE id = %s", created.task_id)
    await clerk.do("patch", second)

    assert_found(clerk.judge(), "1 writes too many", doubled=2)


async def test_an_unknown_change_excuses_only_one_step_of_the_version(clerk: Clerk) -> None:
    created = await clerk.do("create")
    await clerk.send(clerk.doubt(clerk.invoke("patch", created)))
    await clerk.do("get", created)
    await clerk.do("patch", created)
    clerk.plant("UPDATE tasks SET version = version + 1 WHERE id = %s", created.task_id)

    verdict = clerk.judge()
    assert verdict.doubled == 1, verdict


@pytest.mark.parametrize("kind", ["create", "patch"])
async def test_a_refused_write_that_was_done_is_found(clerk: Clerk, kind: Kind) -> None:
    created = await clerk.do("create")
    refused = clerk.refuse(clerk.invoke(kind, created if kind == "patch" else None))
    await clerk.send(refused)

    verdict = clerk.judge()
    assert any("it was refused, and yet it is there" in violation for violation in verdict.violations), verdict


async def test_a_refusal_after_an_attempt_that_nobody_knows_of_is_no_promise(clerk: Clerk) -> None:
    operation = clerk.refuse(clerk.doubt(clerk.invoke("create")))
    clerk.plant_task(operation)

    assert operation.state is State.UNKNOWN
    assert clerk.judge() == Verdict()


async def test_an_attempt_that_nobody_knows_of_after_a_refusal_is_none(clerk: Clerk) -> None:
    operation = clerk.doubt(clerk.refuse(clerk.invoke("create")))
    clerk.plant_task(operation)

    assert clerk.judge() == Verdict()


async def test_a_deletion_is_acknowledged_by_a_404_after_an_attempt_that_nobody_knows_of(clerk: Clerk) -> None:
    created = await clerk.do("create")
    deletion = clerk.doubt(clerk.invoke("delete", created))
    clerk.history.find_gone(deletion, Answer(404, {}, b"", 0.0))

    assert_found(clerk.judge(), "although its deletion was acknowledged", lost=1)


async def test_a_row_that_nobody_wrote_is_found(clerk: Clerk) -> None:
    await clerk.do("create")
    clerk.plant(ANEW, uuid4(), clerk.user_id, "A stranger", None)

    assert_found(clerk.judge(), "nobody wrote the task")
    await clerk.do("list")
    assert_found(clerk.judge(), "the answer has a title that nobody wrote")


async def test_a_task_that_went_over_to_another_user_is_found(clerk: Clerk, other: Clerk) -> None:
    created = await clerk.do("create")
    clerk.plant("UPDATE tasks SET user_id = %s WHERE id = %s", other.user_id, created.task_id)

    assert_found(clerk.judge(), f"belongs to user {other.user_id}")


@pytest.mark.parametrize("kind", ["list", "get"])
async def test_another_users_task_in_an_answer_is_found(clerk: Clerk, other: Clerk, kind: Kind) -> None:
    created = await other.do("create")
    theirs = await other.send(other.invoke(kind, created if kind == "get" else None))
    clerk.history.acknowledge(clerk.invoke(kind), theirs)

    assert_found(clerk.judge(), f"the answer has a task of user {other.user_id}")


async def test_what_another_user_wrote_in_a_users_own_task_is_found(clerk: Clerk, other: Clerk) -> None:
    created, theirs = await clerk.do("create"), await other.do("create")
    clerk.plant("UPDATE tasks SET title = %s WHERE id = %s", theirs.marker, created.task_id)
    await clerk.do("list")

    verdict = clerk.judge()
    assert any(f"the answer has what user {other.user_id} wrote" in each for each in verdict.violations), verdict


async def test_an_answer_from_the_past_is_found(clerk: Clerk) -> None:
    created = await clerk.do("create")
    old = await clerk.send(clerk.invoke("get", created))
    await clerk.do("patch", created)
    clerk.history.acknowledge(clerk.invoke("get", created), old)

    assert_found(clerk.judge(), "went back", lost=1)


async def test_an_answer_with_values_that_were_not_sent_is_found(clerk: Clerk) -> None:
    created = await clerk.do("create")
    old = await clerk.send(clerk.invoke("get", created))
    clerk.history.acknowledge(clerk.invoke("patch", created), old)

    verdict = clerk.judge()
    assert any("the answer has the title" in violation for violation in verdict.violations), verdict
    assert any("the version did not grow" in violation for violation in verdict.violations), verdict


async def test_a_conditional_write_that_was_done_to_another_version_is_found(clerk: Clerk) -> None:
    created = await clerk.do("create")
    await clerk.do("patch", created)
    await clerk.do("patch", created, expected=created.version)

    assert_found(clerk.judge(), "it was meant for version")


async def test_a_404_for_a_task_that_is_there_is_found(clerk: Clerk) -> None:
    created = await clerk.do("create")
    clerk.refuse(clerk.invoke("get", created), 404)

    assert_found(clerk.judge(), "the task was not found")


def test_a_row_counts_all_violations_and_tells_the_first() -> None:
    result = Result(acknowledged=1)

    Verdict(2, 30, 1, [f"violation {number}" for number in range(SHOWN + 5)]).add_to(result)

    assert (result.acknowledged, result.lost, result.doubled) == (3, 30, 1)
    assert len(result.violations) == SHOWN + 1
    assert result.violations[-1] == "and 5 more like these"


@pytest.fixture(scope="module")
def web(dsn: Dsn, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebServer]:
    settings = {"ENVIRONMENT": "production", "DATABASE_URL": url_of(dsn)}
    with WebServer(tmp_path_factory.mktemp("web"), settings, "--workers", "1") as web:
        yield web


async def test_clients_log_all_that_they_do_and_a_healthy_server_has_no_violation(
    web: WebServer, dsn: Dsn, alice: UUID, bob: UUID
) -> None:
    history = History()
    async with load(web.port, [alice, bob], history, clients=6) as found:
        while found.succeeded < 200:
            assert await found.next_success(writes_only=True) > 0

    assert not found.failures
    assert (found.unavailable, found.cut, found.unsent) == (0, 0, 0)
    assert {operation.state for operation in history.operations} == {State.ACKNOWLEDGED}
    assert {operation.kind for operation in history.operations} == {
        "create",
        "replace",
        "patch",
        "delete",
        "get",
        "list",
    }
    verdict = await asyncio.to_thread(judge, history, dsn.conninfo)
    writes = sum(operation.is_write for operation in history.operations)
    assert verdict == Verdict(acknowledged=writes)


async def test_a_request_that_cannot_be_sent_and_one_without_an_answer_are_told_apart() -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhal")
        writer.close()

    with pytest.raises(Unsent):
        await Http(free_port()).request("GET", "/")
    async with await asyncio.start_server(hang_up, "127.0.0.1", port := free_port()):
        with pytest.raises(Cut):
            await Http(port).request("GET", "/")


async def test_a_connection_that_was_closed_while_idle_is_replaced_before_anything_is_sent() -> None:
    connections = []

    async def answer_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(writer)
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
        writer.close()

    async with await asyncio.start_server(answer_once, "127.0.0.1", port := free_port()):
        http = Http(port)
        for _ in range(3):
            assert (await http.request("GET", "/")).json == {}
            await connections[-1].wait_closed()
        http.close()

    assert len(connections) == 3
