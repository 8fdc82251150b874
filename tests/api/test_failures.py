"""Failures that are not the client's: values that only the database refuses, a lost database, and unexpected errors."""

import logging
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from persistence import tasks
from persistence.postgres.database import open_database
from persistence.postgres.dsn import Dsn
from persistence.postgres.options import DatabaseOptions, PoolLimits
from tests.conftest import client_of
from tests.support.contract import OPERATIONS
from tests.support.databases import as_owner
from tests.support.helpers import WRITES, Client, Json, assert_problem, call, get_task, lost_database, write
from todos.schemas import TaskChanges, TaskReplacement
from web import handler
from web.cors import OriginCorsMiddleware

REFUSED_BY_THE_DATABASE: dict[str, Json] = {
    "empty title": {"title": ""},
    "long title": {"title": "x" * 201},
    "untrimmed title": {"title": " x"},
    "title with NUL": {"title": "a\0b"},
    "title with lone surrogate": {"title": "\ud800"},
    "no title": {"title": None},
    "long description": {"description": "x" * 1001},
    "upper-case tag": {"tags": ["UPPER"]},
    "long tag": {"tags": ["x" * 11]},
    "empty tag": {"tags": [""]},
    "tag twice": {"tags": ["twice", "twice"]},
    "too many tags": {"tags": [f"tag{number}" for number in range(21)]},
    "null tag": {"tags": [None]},
    "tag with lone surrogate": {"tags": ["\ud800"]},
    "unknown status": {"status": "done"},
    "unknown priority": {"priority": "urgent"},
}
"""Values that the schemas refuse, by a name."""


@pytest.mark.parametrize("what", REFUSED_BY_THE_DATABASE)
async def test_what_only_the_database_refuses_is_invalid_input_too(
    client: Client, task: Json, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    values = REFUSED_BY_THE_DATABASE[what]
    # The schemas let these values pass, whatever the client sends.
    replacement, changes = TaskReplacement.values, TaskChanges.values
    monkeypatch.setattr(TaskReplacement, "values", lambda self: replacement(self) | values)
    monkeypatch.setattr(TaskChanges, "values", lambda self: changes(self) | values)
    for method in WRITES:
        # In a patch, null for a column that cannot be empty is no change.
        if (method, what) != ("PATCH", "no title"):
            response = await write(client, method, task, {"title": "Buy milk"})
            assert_problem(response, 400, "invalid-input", response.json()["errors"][0]["field"])
    assert await get_task(client, task) == task


@pytest.mark.parametrize(
    ("place", "name"),
    [(tasks, "get"), (handler, "get_resolver"), (OriginCorsMiddleware, "__acall__")],
    ids=["endpoint", "routing", "middleware"],
)
async def test_an_unexpected_failure_tells_the_log_everything_and_the_client_nothing(
    client: Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, place: Any, name: str
) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("the secret of the vault")

    monkeypatch.setattr(place, name, fail)
    response = await client.get(f"{uuid4()}/tasks/{uuid4()}", headers={"X-Request-ID": "try-1"})

    assert "try-1" in assert_problem(response, 500, "internal-error")["detail"]
    assert "secret" not in response.text
    errors = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert {vars(record)["request_id"] for record in errors} == {"try-1"}
    assert "the secret of the vault" in str(errors[0].exc_info)


async def test_a_lost_database_is_a_passing_state(server: Dsn, empty_dsn: Dsn) -> None:
    async with lost_database(server, empty_dsn) as database, client_of(database) as client:
        for operation in OPERATIONS.values():
            if operation.is_of_a_user:
                response = await call(client, operation, uuid4(), uuid4())
                assert_problem(response, 503, "service-unavailable")
                assert int(response.headers["Retry-After"]) >= 1
                assert empty_dsn.database not in response.text


async def test_rights_that_were_revoked_are_a_passing_state_and_the_log_names_them(
    migrated_dsn: Dsn, alice: UUID, caplog: pytest.LogCaptureFixture
) -> None:
    with psycopg.connect(as_owner(migrated_dsn).conninfo) as admin:
        admin.execute(f"REVOKE SELECT ON tasks FROM {migrated_dsn.parameters['user']}".encode())
    async with open_database(migrated_dsn) as database, client_of(database) as client:
        response = await client.get(f"{alice}/tasks")
    assert_problem(response, 503, "service-unavailable")
    assert "permission denied" not in response.text
    assert "(42501: permission denied for table tasks)" in caplog.text


async def test_an_exhausted_pool_is_a_passing_state(dsn: Dsn, alice: UUID) -> None:
    options = DatabaseOptions(limits=PoolLimits(min_size=1, max_size=1, timeout=0.05))
    async with open_database(dsn, options) as database, client_of(database) as client:
        async with database.connection():
            response = await client.get(f"{alice}/tasks")
        assert_problem(response, 503, "service-unavailable")
        assert int(response.headers["Retry-After"]) >= 1
        assert (await client.get(f"{alice}/tasks")).status_code == 200
