"""Every error is a problem document (RFC 9457), and none is HTML."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from corsheaders.middleware import CorsMiddleware

from persistence import tasks
from persistence.postgres.database import Database, open_database
from persistence.postgres.dsn import Dsn
from persistence.postgres.options import DatabaseOptions, PoolLimits
from tests.conftest import client_of
from tests.support.helpers import Json, address, ask, assert_problem, get_task, lost_database, make_task, send
from todos.schemas import TaskChanges, TaskReplacement
from web import handler
from web.handler import Message

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "TRACE", "FOO")

ALLOWED = {
    "/api/{user}/tasks": {"GET", "POST"},
    "/api/{user}/tasks/summary": {"GET"},
    "/api/{user}/tasks/{task}": {"GET", "PUT", "PATCH", "DELETE"},
    "/api/v1/health": {"GET"},
    "/api/v1/live": {"GET"},
    "/api/docs": {"GET"},
    "/api/openapi.json": {"GET"},
    "/static/ninja/swagger-ui.css": {"GET"},
}

UNKNOWN = [
    "/",
    "/api",
    "/api/",
    "/api//",
    "/api/nope",
    "/api/v1",
    "/api/v1/",
    "/api/v1/nope",
    "/api/v1/health/",
    "/api/docs/",
    "/api/{user}",
    "/api/{user}/",
    "/api/{user}/Tasks",
    "/api/{user}/tasks/",
    "/api/{user}/tasks/{task}/",
    "/api/{user}/tasks/{task}/tags",
    "/api///tasks",
    "/static/ninja/%2e%2e/schema.py",
    "/static/",
    "/admin/",
    "/%00",
    "/%FF",
    "/%F0%9F%98%80",
    "/<script>alert(1)</script>",
]

BODIES: list[tuple[bytes, str, tuple[str, ...]]] = [
    (b"", "invalid-input", ("body",)),
    (b"null", "invalid-input", ("body",)),
    (b"[]", "invalid-input", ("body",)),
    (b'"title"', "invalid-input", ("body",)),
    (b'{"title": 1}', "invalid-input", ("title",)),
    (b'{"title": "x", "nope": 1}', "invalid-input", ("nope",)),
    (b'{"title": "x", "tags": ["ok", ""]}', "invalid-input", ("tags.1",)),
    (b'{"title": "x", "\\ud800": 1}', "invalid-input", ("body",)),
    (b" ", "malformed-json", ()),
    (b"{", "malformed-json", ()),
    (b"title=x", "malformed-json", ()),
    (b"\xff", "malformed-json", ()),
    (b'{"title": NaN}', "malformed-json", ()),
    (b"[" * 60_000, "malformed-json", ()),
]


@pytest.mark.parametrize("field", ["user_id", "created_at", "updated_at", "completed_at", "version"])
async def test_what_the_server_decides_is_told_from_what_does_not_exist(
    client: httpx.AsyncClient, alice: UUID, field: str
) -> None:
    task = await make_task(client, alice)
    body = {"title": "x", field: task[field], "colour": 1}
    for response in (
        await client.post(f"{alice}/tasks", json=body),
        await client.put(address(task), json=body),
        await client.patch(address(task), json=body),
    ):
        document = assert_problem(response, 400, "invalid-input", field, "colour")
        assert [error["detail"][:10] for error in document["errors"]] == ["The server", "There is n"]


@pytest.mark.parametrize("coding", ["gzip", "br", "identity", "x"])
async def test_a_body_that_is_encoded_is_refused(client: httpx.AsyncClient, alice: UUID, coding: str) -> None:
    response = await client.post(f"{alice}/tasks", json={"title": "x"}, headers={"Content-Encoding": coding})

    assert_problem(response, 415, "unsupported-media-type")


async def _url(template: str, client: httpx.AsyncClient, user: UUID) -> str:
    task = await make_task(client, user)
    return "http://test" + template.format(user=user, task=task["id"])


@pytest.mark.parametrize("path", UNKNOWN)
async def test_an_unknown_path_is_not_found(client: httpx.AsyncClient, alice: UUID, path: str) -> None:
    url = await _url(path, client, alice)
    for method in ("GET", "POST", "DELETE", "OPTIONS"):
        assert_problem(await client.request(method, url), 404, "path-not-found")


@pytest.mark.parametrize("path", ["/api/{user}/tasks/", "/api/{user}/tasks/?q=x", "/api/{user}/tasks/{task}/"])
async def test_a_slash_too_many_is_pointed_out(client: httpx.AsyncClient, alice: UUID, path: str) -> None:
    for method in ("GET", "POST", "PATCH"):
        document = assert_problem(await client.request(method, await _url(path, client, alice)), 404, "path-not-found")
        assert "slash at its end" in document["detail"]


@pytest.mark.parametrize("path", ALLOWED)
async def test_a_method_that_a_path_does_not_have_is_refused(client: httpx.AsyncClient, alice: UUID, path: str) -> None:
    url = await _url(path, client, alice)
    for method in set(METHODS) - ALLOWED[path]:
        response = await client.request(method, url)

        assert_problem(response, 405, "method-not-allowed")
        assert response.headers["Allow"].split(", ") == sorted({*ALLOWED[path], "HEAD", "OPTIONS"})


@pytest.mark.parametrize("path", ALLOWED)
async def test_options_tells_the_methods_of_a_path(client: httpx.AsyncClient, alice: UUID, path: str) -> None:
    response = await client.options(await _url(path, client, alice))

    assert (response.status_code, response.content) == (204, b"")
    assert response.headers["Allow"].split(", ") == sorted({*ALLOWED[path], "HEAD", "OPTIONS"})
    # RFC 5789, section 3.1.
    patch_types = "application/json, application/merge-patch+json" if "PATCH" in ALLOWED[path] else None
    assert response.headers.get("Accept-Patch") == patch_types
    assert "Content-Type" not in response.headers
    assert "Content-Length" not in response.headers


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH"])
@pytest.mark.parametrize(("body", "kind", "fields"), BODIES)
async def test_a_body_that_cannot_be_used_is_refused(
    client: httpx.AsyncClient, alice: UUID, method: str, body: bytes, kind: str, fields: tuple[str, ...]
) -> None:
    task = await make_task(client, alice)
    url = f"{alice}/tasks" if method == "POST" else address(task)

    assert_problem(await send(client, method, url, body), 400, kind, *fields)
    assert await get_task(client, task) == task


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH"])
@pytest.mark.parametrize(
    "content_type",
    [
        "",
        "text/plain",
        "application/xml",
        "application/problem+json",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/json, text/plain",
        "text/html; x=application/json",
        "<script>",
        "\xff",
    ],
)
async def test_another_media_type_than_json_is_refused(
    client: httpx.AsyncClient, alice: UUID, method: str, content_type: str
) -> None:
    task = await make_task(client, alice)
    url = f"{alice}/tasks" if method == "POST" else address(task)
    headers = [(b"Content-Type", content_type.encode("latin-1"))]
    response = await client.request(method, url, content=b'{"title": "x"}', headers=headers)

    assert_problem(response, 415, "unsupported-media-type")
    assert await get_task(client, task) == task


async def test_a_body_without_a_media_type_is_refused(client: httpx.AsyncClient, alice: UUID) -> None:
    response = await client.post(f"{alice}/tasks", content=b'{"title": "x"}')

    assert "application/json" in assert_problem(response, 415, "unsupported-media-type")["detail"]


@pytest.mark.parametrize(
    "content_type",
    ["application/json; charset*=nonsense''x", "application/json; charset=nonsense", "application/json;;=;", ";", "/"],
)
async def test_an_odd_media_type_is_never_a_failure(client: httpx.AsyncClient, alice: UUID, content_type: str) -> None:
    response = await client.post(f"{alice}/tasks", content=b'{"title": "x"}', headers={"Content-Type": content_type})

    assert response.status_code in (201, 400, 415), response.text


async def test_a_body_that_is_too_large_is_refused(client: httpx.AsyncClient, alice: UUID) -> None:
    response = await send(client, "POST", f"{alice}/tasks", b" " * 65_537)

    assert "65536" in assert_problem(response, 413, "content-too-large")["detail"]


async def test_a_body_that_does_not_arrive_is_refused(
    database: Database, alice: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handler, "BODY_TIMEOUT", 0.01)

    async def receive() -> Message:
        await asyncio.Event().wait()
        raise AssertionError

    answer = await ask(database, "POST", f"/api/{alice}/tasks", receive)

    assert answer
    assert_problem(answer, 408, "request-timeout")


@pytest.mark.parametrize(
    ("query", "field"), [("limit=0", "limit"), ("limit=x", "limit"), ("limit=501", "limit"), ("cursor=x", "cursor")]
)
async def test_a_query_that_cannot_be_used_is_refused(
    client: httpx.AsyncClient, alice: UUID, query: str, field: str
) -> None:
    assert_problem(await client.get(f"{alice}/tasks?{query}"), 400, "invalid-input", field)


async def test_a_query_string_in_no_known_encoding_is_refused(database: Database, alice: UUID) -> None:
    answer = await ask(database, "GET", f"/api/{alice}/tasks", query=b"limit=\xff")

    assert answer
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("path", ["/api//tasks", "/api/null/tasks"])
async def test_an_id_that_is_none_is_refused(client: httpx.AsyncClient, path: str) -> None:
    assert_problem(await client.get(f"http://test{path}"), 400, "invalid-input", "user_id")


async def test_what_does_not_exist_is_not_found(client: httpx.AsyncClient, alice: UUID) -> None:
    for method in ("GET", "DELETE"):
        assert_problem(await client.request(method, f"{alice}/tasks/{uuid4()}"), 404, "task-not-found")
    for method in ("PUT", "PATCH"):
        response = await client.request(method, f"{alice}/tasks/{uuid4()}", json={"title": "x"})
        assert_problem(response, 404, "task-not-found")
    assert_problem(await client.post(f"{uuid4()}/tasks", json={"title": "x"}), 404, "user-not-found")


async def test_what_exists_already_is_a_conflict(client: httpx.AsyncClient, alice: UUID, bob: UUID) -> None:
    task = await make_task(client, alice)

    assert_problem(await client.post(f"{bob}/tasks", json={"title": "x", "id": task["id"]}), 409, "conflict")


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
"""What the schemas refuse, by a name."""


@pytest.fixture
def gap(monkeypatch: pytest.MonkeyPatch) -> Callable[[Json], None]:
    """Makes the schemas let these values pass, whatever the client sends."""

    def make(values: Json) -> None:
        replacement, changes = TaskReplacement.values, TaskChanges.values
        monkeypatch.setattr(TaskReplacement, "values", lambda self: replacement(self) | values)
        monkeypatch.setattr(TaskChanges, "values", lambda self: changes(self) | values)

    return make


@pytest.mark.parametrize(
    ("method", "what"),
    [
        (method, what)
        for method in ("POST", "PUT", "PATCH")
        for what in REFUSED_BY_THE_DATABASE
        # In a patch, null for a column that cannot be empty is no change.
        if (method, what) != ("PATCH", "no title")
    ],
)
async def test_what_only_the_database_refuses_is_invalid_input_too(
    client: httpx.AsyncClient, alice: UUID, gap: Callable[[Json], None], method: str, what: str
) -> None:
    task = await make_task(client, alice)
    gap(REFUSED_BY_THE_DATABASE[what])
    response = await client.request(
        method, f"{alice}/tasks" if method == "POST" else address(task), json={"title": "Buy milk"}
    )

    assert response.status_code == 400, response.text
    assert response.headers["Content-Type"] == "application/problem+json"
    assert response.json()["type"] == "urn:problem:todo:invalid-input"
    assert await get_task(client, task) == task


@pytest.mark.parametrize("what", ["long title", "title with NUL"])
async def test_what_only_the_database_refuses_is_listed_among_the_errors(
    client: httpx.AsyncClient, alice: UUID, gap: Callable[[Json], None], what: str
) -> None:
    gap(REFUSED_BY_THE_DATABASE[what])
    response = await client.post(f"{alice}/tasks", json={"title": "Buy milk"})

    [error] = response.json().get("errors", [])
    assert error["detail"]


async def test_an_unexpected_failure_tells_the_log_everything_and_the_client_nothing(
    client: httpx.AsyncClient, alice: UUID, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(*_: Any) -> None:
        raise RuntimeError("the secret of the vault")

    monkeypatch.setattr(tasks, "get", fail)
    response = await client.get(f"{alice}/tasks/{uuid4()}", headers={"X-Request-ID": "try-1"})

    problem = assert_problem(response, 500, "internal-error")
    assert "try-1" in problem["detail"]
    assert "secret" not in response.text
    [record] = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert vars(record)["request_id"] == "try-1"
    assert record.exc_info
    assert "the secret of the vault" in str(record.exc_info[1])


@pytest.mark.parametrize(
    ("place", "name"), [(handler, "get_resolver"), (CorsMiddleware, "check_preflight")], ids=["routing", "middleware"]
)
async def test_a_failure_outside_of_the_endpoints_is_a_problem_too(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, place: Any, name: str
) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("the secret of the vault")

    monkeypatch.setattr(place, name, fail)
    response = await client.get("v1/live", headers={"X-Request-ID": "try-2"})

    assert "try-2" in assert_problem(response, 500, "internal-error")["detail"]
    assert "secret" not in response.text
    errors = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert {vars(record)["request_id"] for record in errors} == {"try-2"}


async def test_a_lost_database_is_a_passing_state(server: Dsn, empty_dsn: Dsn) -> None:
    async with lost_database(server, empty_dsn) as database, client_of(database) as client:
        for method in ("GET", "PUT", "PATCH", "DELETE"):
            body = {"title": "x"} if method in ("PUT", "PATCH") else None
            response = await client.request(method, f"{uuid4()}/tasks/{uuid4()}", json=body)

            assert_problem(response, 503, "service-unavailable")
            assert int(response.headers["Retry-After"]) >= 1
            assert empty_dsn.database not in response.text
        assert_problem(await client.get(f"{uuid4()}/tasks"), 503, "service-unavailable")
        assert_problem(await client.post(f"{uuid4()}/tasks", json={"title": "x"}), 503, "service-unavailable")


async def test_an_exhausted_pool_is_a_passing_state(dsn: Dsn, alice: UUID) -> None:
    options = DatabaseOptions(limits=PoolLimits(min_size=1, max_size=1, timeout=0.05))
    async with open_database(dsn, options) as database, client_of(database) as client:
        connection = await database.pool.check_out()
        try:
            response = await client.get(f"{alice}/tasks")
        finally:
            database.pool.check_in(connection)

        assert_problem(response, 503, "service-unavailable")
        assert int(response.headers["Retry-After"]) >= 1
        assert (await client.get(f"{alice}/tasks")).status_code == 200


async def test_a_hostile_body_gets_no_answer_many_times_its_size(client: httpx.AsyncClient, alice: UUID) -> None:
    response = await send(client, "POST", f"{alice}/tasks", b'{"tags":[' + b"1," * 30_000 + b"1]}")

    assert response.status_code == 400
    assert len(response.content) < 65_536
