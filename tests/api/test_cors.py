"""Browsers on the origins of `CORS_ORIGINS` may use the API; those on others may not."""

from uuid import UUID, uuid4

import pytest

from tests.support.contract import OPERATIONS
from tests.support.helpers import Client, make_task

OURS = {"Origin": "http://localhost:3000"}
_SENT = {
    "authorization", "baggage", "content-type", "idempotency-key", "if-match", "if-none-match", "sentry-trace",
    "traceparent", "tracestate", "x-request-id",
}  # fmt: skip
_READ = {
    "Accept", "Accept-Patch", "Allow", "Content-Disposition", "ETag", "Idempotency-Replayed", "Link", "Location",
    "Retry-After", "WWW-Authenticate", "X-Request-ID", "traceparent",
}  # fmt: skip


async def test_a_browser_on_our_origin_may_use_every_method(client: Client) -> None:
    asked = {"Access-Control-Request-Method": "PUT", "Access-Control-Request-Headers": ", ".join(_SENT)}
    response = await client.options(f"{uuid4()}/tasks/{uuid4()}", headers=OURS | asked)

    assert response.status_code == 200
    assert response.headers["Access-Control-Allow-Origin"] == OURS["Origin"]
    methods = set(response.headers["Access-Control-Allow-Methods"].split(", "))
    assert methods >= {operation.method for operation in OPERATIONS.values()}
    assert set(response.headers["Access-Control-Allow-Headers"].split(", ")) >= _SENT
    assert response.headers["Access-Control-Allow-Credentials"] == "true"


async def test_a_browser_on_our_origin_may_read_the_answer_and_every_problem(client: Client, alice: UUID) -> None:
    json = OURS | {"Content-Type": "application/json"}
    answers = [
        await client.post(f"{alice}/tasks", content=b'{"title": "Buy milk"}', headers=json),
        await client.get(f"{alice}/tasks/{uuid4()}", headers=OURS),
        await client.get("nope", headers=OURS),
        await client.get("null/tasks", headers=OURS),
        await client.put(f"{alice}/tasks", headers=OURS),
        await client.post(f"{alice}/tasks", content=b"{", headers=json),
        await client.post(f"{alice}/tasks", content=b" " * 100_000, headers=json),
        await client.post(f"{alice}/tasks", content=b"x", headers=OURS),
    ]

    assert [answer.status_code for answer in answers] == [201, 404, 404, 400, 405, 400, 413, 415]
    for answer in answers:
        assert answer.headers["Access-Control-Allow-Origin"] == OURS["Origin"]
        assert set(answer.headers["Access-Control-Expose-Headers"].split(", ")) == _READ
        assert "origin" in answer.headers["Vary"].lower()


@pytest.mark.parametrize(
    "origin",
    [
        "https://localhost:3000", "http://localhost:3001", "http://localhost", "http://localhost:3000.evil.example",
        "http://evil.example", "http://127.0.0.1:3000", "null", "*", "", "http://[", "//[", "http://localhost:99999999",
        None,
    ],
)  # fmt: skip
async def test_a_browser_on_another_origin_is_told_nothing_and_other_clients_need_none(
    client: Client, alice: UUID, origin: str | None
) -> None:
    headers = {} if origin is None else {"Origin": origin}
    await make_task(client, alice)
    response = await client.get(f"{alice}/tasks", headers=headers)
    preflight = await client.options(f"{alice}/tasks", headers=headers | {"Access-Control-Request-Method": "POST"})

    assert response.status_code == 200
    assert "Access-Control-Allow-Origin" not in response.headers
    assert "Access-Control-Allow-Origin" not in preflight.headers
