"""Each answer names its request, and the log tells about it by the same name."""

import asyncio
import logging
import re
from typing import override
from uuid import UUID, uuid4

import httpx
import pytest

from web import request_ids
from tests.support.helpers import send


@pytest.mark.parametrize("request_id", ["a", "3fa85f64-5717-4562-b3fc-2c963f66afa6", "A.b_c-1", "x" * 128])
async def test_a_request_keeps_the_id_of_its_caller(client: httpx.AsyncClient, request_id: str) -> None:
    response = await client.get("v1/live", headers={"X-Request-ID": request_id})

    assert response.headers["X-Request-ID"] == request_id


@pytest.mark.parametrize(
    "request_id", ["", " ", "a b", "x" * 129, "a\x0bb", "é", "\xff", "a;b", "<script>", "a\nb", "٣"]
)
async def test_an_id_that_could_harm_a_log_is_replaced(client: httpx.AsyncClient, request_id: str) -> None:
    headers = [(b"X-Request-ID", request_id.encode())]
    response = await client.get("v1/live", headers=headers)

    assert re.fullmatch("[0-9a-f]{32}", response.headers["X-Request-ID"])


async def test_every_request_gets_an_id_of_its_own(client: httpx.AsyncClient) -> None:
    answers = [await client.get("v1/live") for _ in range(20)]

    assert len({answer.headers["X-Request-ID"] for answer in answers}) == 20


async def test_errors_have_it_too(client: httpx.AsyncClient, alice: UUID) -> None:
    answers = [
        await client.get("nope"),
        await client.put("v1/live"),
        await client.get(f"{alice}/tasks/{uuid4()}"),
        await send(client, "POST", f"{alice}/tasks", b"{"),
        await send(client, "POST", f"{alice}/tasks", b" " * 100_000),
    ]

    assert [answer.status_code for answer in answers] == [404, 405, 404, 400, 413]
    assert all(answer.headers["X-Request-ID"] for answer in answers)


async def test_requests_at_the_same_time_do_not_mix_up_their_ids(
    client: httpx.AsyncClient, alice: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, str] = {}

    class Listener(logging.Handler):
        @override
        def emit(self, record: logging.LogRecord) -> None:
            seen[record.getMessage()] = request_ids.current.get()

    listener = Listener()
    logger = logging.getLogger("todos.api")

    async def page(_database: object, user_id: UUID, *_: object, **__: object) -> list[object]:
        await asyncio.sleep(0.01)
        logger.warning("%s", user_id)
        return []

    monkeypatch.setattr("todos.api.task_lists.page", page)
    logger.addHandler(listener)
    try:
        users = [uuid4() for _ in range(20)]
        requests = [client.get(f"{user}/tasks", headers={"X-Request-ID": f"for-{user}"}) for user in users]
        await asyncio.gather(*(asyncio.create_task(request) for request in requests))
    finally:
        logger.removeHandler(listener)

    assert seen == {str(user): f"for-{user}" for user in users}
