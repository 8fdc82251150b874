"""Browsers on the origins of `CORS_ORIGINS` may use the API; those on others may not."""

from uuid import UUID, uuid4

import httpx
import pytest

from tests.support.helpers import make_task, send

OURS = "http://localhost:3000"
_SENT = {"authorization", "content-type", "idempotency-key", "if-match", "if-none-match", "x-request-id"}
_READ = {"ETag", "Idempotency-Replayed", "Link", "Location", "Retry-After", "X-Request-ID"}


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE"])
async def test_a_browser_on_our_origin_may_use_every_method(client: httpx.AsyncClient, method: str) -> None:
    response = await client.options(
        f"{uuid4()}/tasks/{uuid4()}",
        headers={
            "Origin": OURS,
            "Access-Control-Request-Method": method,
            "Access-Control-Request-Headers": ", ".join(_SENT),
        },
    )

    assert response.status_code == 200
    assert response.headers["Access-Control-Allow-Origin"] == OURS
    assert method in response.headers["Access-Control-Allow-Methods"].split(", ")
    assert set(response.headers["Access-Control-Allow-Headers"].split(", ")) >= _SENT
    assert response.headers["Access-Control-Allow-Credentials"] == "true"


async def test_a_browser_on_our_origin_may_read_the_answer(client: httpx.AsyncClient, alice: UUID) -> None:
    response = await client.post(f"{alice}/tasks", json={"title": "Buy milk"}, headers={"Origin": OURS})

    assert response.status_code == 201
    assert response.headers["Access-Control-Allow-Origin"] == OURS
    exposed = response.headers["Access-Control-Expose-Headers"].split(", ")
    assert set(exposed) == _READ
    assert "origin" in response.headers["Vary"].lower()


async def test_a_browser_on_our_origin_may_read_every_problem(client: httpx.AsyncClient, alice: UUID) -> None:
    origin = {"Origin": OURS}
    answers = [
        await client.get(f"{alice}/tasks/{uuid4()}", headers=origin),
        await client.get("nope", headers=origin),
        await client.get("null/tasks", headers=origin),
        await client.put(f"{alice}/tasks", headers=origin),
        await client.post(f"{alice}/tasks", content=b"{", headers=origin | {"Content-Type": "application/json"}),
        await client.post(f"{alice}/tasks", content=b"x", headers=origin),
    ]

    assert [answer.status_code for answer in answers] == [404, 404, 400, 405, 400, 415]
    assert {answer.headers.get("Access-Control-Allow-Origin") for answer in answers} == {OURS}


async def test_a_browser_may_read_that_its_body_was_too_large(client: httpx.AsyncClient, alice: UUID) -> None:
    response = await client.post(f"{alice}/tasks", content=b" " * 100_000, headers={"Origin": OURS})

    assert response.status_code == 413
    assert response.headers.get("Access-Control-Allow-Origin") == OURS


@pytest.mark.parametrize(
    "origin",
    [
        "https://localhost:3000",
        "http://localhost:3001",
        "http://localhost",
        "http://localhost:3000.evil.example",
        "http://evil.example",
        "http://127.0.0.1:3000",
        "null",
        "*",
        "",
        "http://[",
        "//[",
        "http://localhost:99999999",
    ],
)
async def test_a_browser_on_another_origin_is_told_nothing(client: httpx.AsyncClient, alice: UUID, origin: str) -> None:
    await make_task(client, alice)
    response = await client.get(f"{alice}/tasks", headers={"Origin": origin})
    preflight = await client.options(
        f"{alice}/tasks", headers={"Origin": origin, "Access-Control-Request-Method": "POST"}
    )

    assert response.status_code == 200
    assert "Access-Control-Allow-Origin" not in response.headers
    assert "Access-Control-Allow-Origin" not in preflight.headers


async def test_other_clients_need_no_origin(client: httpx.AsyncClient, alice: UUID) -> None:
    response = await send(client, "POST", f"{alice}/tasks", b'{"title": "Buy milk"}')

    assert response.status_code == 201
    assert "Access-Control-Allow-Origin" not in response.headers
