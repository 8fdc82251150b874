"""Everything on a request's way happens in the event loop: a thread would cost more than the request itself."""

import threading
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

import httpx
import pytest

from tests.database.test_wire import Operation, each_operation
from tests.support.helpers import make_task


@pytest.fixture
def no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails whoever would start a thread or hand something to one."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a thread was used")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    monkeypatch.setattr(ThreadPoolExecutor, "submit", refuse)


@each_operation
async def test_an_operation_uses_no_thread(
    operation: Operation, client: httpx.AsyncClient, alice: UUID, no_threads: None
) -> None:
    response = await operation(client, alice, await make_task(client, alice))

    assert response.status_code in (200, 201)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "v1/live", 200),
        ("HEAD", "v1/live", 200),
        ("OPTIONS", "v1/live", 204),
        ("DELETE", "v1/live", 405),
        ("GET", "nowhere", 404),
        ("GET", "nobody/tasks", 400),
        ("GET", "docs", 200),
        ("GET", "openapi.json", 200),
    ],
)
async def test_no_other_answer_uses_a_thread(
    method: str, path: str, status: int, client: httpx.AsyncClient, no_threads: None
) -> None:
    response = await client.request(method, path, headers={"Origin": "http://localhost:3000"})

    assert response.status_code == status
