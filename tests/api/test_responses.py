"""Every answer is what its schema declares: nothing checks that while the service runs."""

from datetime import datetime
from typing import Any
from uuid import UUID

import httpx
import pytest
from pydantic import BaseModel

from persistence.models import User
from persistence.postgres.database import Database
from persistence.tasks import TaskRow
from tests.conftest import client_of
from tests.support.helpers import Json, address, make_task, make_tasks
from todos import health
from todos.schemas import Health, Liveness, ProblemOut, TaskOut, TaskPage

EVERYTHING: Json = {
    "title": "Buy \U0001f95b",
    "description": "Two\nlitres",
    "status": "completed",
    "priority": "high",
    "due_date": "2999-01-01T00:00:00+05:30",
    "tags": ["food", "home"],
}


def _assert_declared(response: httpx.Response, schema: type[BaseModel]) -> None:
    """The bytes are JSON of exactly this schema, whose members are all there, and no more."""
    assert response.headers["Content-Type"] in ("application/json", "application/problem+json")
    read = schema.model_validate_json(response.content, strict=True, extra="forbid")
    assert read.model_dump(mode="json").keys() == response.json().keys()
    assert "password" not in response.text
    assert "email" not in response.text


@pytest.mark.parametrize("values", [{}, EVERYTHING], ids=["defaults", "everything"])
async def test_every_answer_with_a_task_is_as_declared(
    client: httpx.AsyncClient, alice: UUID, values: dict[str, Any]
) -> None:
    task = await make_task(client, alice)
    body = {"title": "Buy milk"} | values
    answers = [
        await client.post(f"{alice}/tasks", json=body),
        await client.put(address(task), json=body),
        await client.patch(address(task), json=body),
        await client.patch(address(task), json={}),
        await client.get(address(task)),
        await client.delete(address(task)),
    ]

    assert [answer.status_code for answer in answers] == [201, 200, 200, 200, 200, 200]
    for answer in answers:
        _assert_declared(answer, TaskOut)
        assert list(answer.json()) == list(TaskOut.model_fields)


async def test_every_page_is_as_declared(client: httpx.AsyncClient, database: Database, alice: UUID) -> None:
    _assert_declared(await client.get(f"{alice}/tasks"), TaskPage)
    await make_tasks(database, alice, 3)
    await make_task(client, alice, **EVERYTHING)
    _assert_declared(await client.get(f"{alice}/tasks"), TaskPage)
    page = await client.get(f"{alice}/tasks", params={"limit": 2})
    _assert_declared(page, TaskPage)
    assert page.json()["next_cursor"]


async def test_every_time_is_in_utc_and_says_so(client: httpx.AsyncClient, alice: UUID) -> None:
    task = await make_task(client, alice, **EVERYTHING)

    for name in ("due_date", "created_at", "updated_at", "completed_at"):
        assert task[name].endswith("Z")
        offset = datetime.fromisoformat(task[name]).utcoffset()
        assert offset is not None
        assert not offset


async def test_text_is_answered_as_it_is_and_not_escaped(client: httpx.AsyncClient, alice: UUID) -> None:
    response = await client.post(f"{alice}/tasks", json=EVERYTHING)

    assert "Buy \U0001f95b".encode() in response.content


async def test_probes_answer_as_declared(client: httpx.AsyncClient) -> None:
    _assert_declared(await client.get("v1/health"), Health)
    _assert_declared(await client.get("v1/live"), Liveness)


async def test_an_unhealthy_answer_is_as_declared(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "DATABASE_TIMEOUT", 0.05)
    connection = await database.probes.pool.check_out()
    try:
        async with client_of(database) as client:
            response = await client.get("v1/health")
    finally:
        database.probes.pool.check_in(connection)

    assert response.status_code == 503
    _assert_declared(response, Health)


async def test_problems_are_as_declared(client: httpx.AsyncClient, alice: UUID) -> None:
    for response in (
        await client.get("nope"),
        await client.get(f"{alice}/tasks/{alice}"),
        await client.get("null/tasks"),
        await client.post(f"{alice}/tasks", json={}),
    ):
        document = ProblemOut.model_validate_json(response.content, strict=True, extra="forbid")
        assert document.status == response.status_code


def test_rows_and_answers_have_the_same_members() -> None:
    assert list(TaskRow.__annotations__) == list(TaskOut.model_fields)


def test_no_answer_shares_a_base_with_a_table() -> None:
    for schema in (TaskOut, TaskPage, Health, Liveness, ProblemOut):
        assert not issubclass(schema, User.__mro__[1])
