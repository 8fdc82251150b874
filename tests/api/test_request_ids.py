"""Each answer names its request, and the log tells about it by the same name."""

import asyncio
import logging
import re
from uuid import UUID, uuid4

import pytest

from tests.support.helpers import Client


@pytest.mark.parametrize("request_id", ["a", "3fa85f64-5717-4562-b3fc-2c963f66afa6", "A.b_c-1", "x" * 128])
async def test_a_request_keeps_the_id_of_its_caller(client: Client, request_id: str) -> None:
    response = await client.get("v1/live", headers={"X-Request-ID": request_id})

    assert response.headers["X-Request-ID"] == request_id


@pytest.mark.parametrize(
    "request_id", ["", " ", "a b", "x" * 129, "a\x0bb", "é", "\xff", "a;b", "<script>", "a\nb", "٣"]
)
async def test_an_id_that_could_harm_a_log_is_replaced_by_a_new_one(client: Client, request_id: str) -> None:
    headers = [(b"X-Request-ID", request_id.encode())]
    ids = {(await client.get("v1/live", headers=headers)).headers["X-Request-ID"] for _ in range(5)}

    assert len(ids) == 5
    assert all(re.fullmatch("[0-9a-f]{32}", each) for each in ids)


async def test_requests_at_the_same_time_do_not_mix_up_their_ids(
    client: Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def page(_database: object, user_id: UUID, *_: object, **__: object) -> list[object]:
        await asyncio.sleep(0.01)
        logging.getLogger("todos.api").warning("%s", user_id)
        return []

    monkeypatch.setattr("todos.api.task_lists.page", page)
    users = [uuid4() for _ in range(20)]
    requests = [client.get(f"{user}/tasks", headers={"X-Request-ID": f"for-{user}"}) for user in users]
    await asyncio.gather(*(asyncio.create_task(request) for request in requests))

    seen = {record.getMessage(): vars(record)["request_id"] for record in caplog.records if record.name == "todos.api"}
    assert seen == {str(user): f"for-{user}" for user in users}
