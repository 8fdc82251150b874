"""How many Python functions a request calls: what it costs, as no other program on the machine can disturb it."""

import json
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any
from uuid import UUID

import pytest

from persistence.database import Database
from tests.helpers import Answer, ask, body_of

JSON = [("Content-Type", "application/json")]
NEW = b'{"title": "Buy milk", "description": "Two of them", "tags": ["home"]}'
CALLS = {
    "live": 147,
    "get": 321,
    "list": 400,
    "filtered list": 465,
    "create": 384,
    "patch": 374,
    "delete": 305,
}
"""What was counted last. Whoever makes a request cheaper lowers its number; whoever raises one has a reason."""
TOLERANCE = 1.03

pytestmark = pytest.mark.skipif(sys.version_info[:2] != (3, 13), reason="another Python calls other functions")


@contextmanager
def counted() -> Iterator[list[int]]:
    calls = [0]

    def note(_frame: FrameType, event: str, _argument: Any) -> None:
        calls[0] += event == "call"

    sys.setprofile(note)
    try:
        yield calls
    finally:
        sys.setprofile(None)


@pytest.mark.parametrize("operation", CALLS)
async def test_a_request_calls_no_more_functions_than_it_did(operation: str, database: Database, alice: UUID) -> None:
    async def send(method: str, path: str = "", query: bytes = b"", body: bytes = b"") -> Answer:
        headers = [*JSON, ("Content-Length", str(len(body)))] if body else []
        answer = await ask(database, method, f"/api/{alice}/tasks{path}", body_of(body), headers=headers, query=query)
        assert answer
        assert answer.status_code in (200, 201)
        return answer

    requests: dict[str, Callable[[str], Awaitable[Answer | None]]] = {
        "live": lambda _: ask(database, "GET", "/api/v1/live"),
        "get": lambda task: send("GET", task),
        "list": lambda _: send("GET", query=b"limit=20"),
        "filtered list": lambda _: send("GET", query=b"limit=20&status=pending&tag=home"),
        "create": lambda _: send("POST", body=NEW),
        "patch": lambda task: send("PATCH", task, body=b'{"completed": true, "priority": "low"}'),
        "delete": lambda task: send("DELETE", task),
    }
    counts = []
    for _ in range(25):
        created = json.loads((await send("POST", body=NEW)).content)
        with counted() as calls:
            await requests[operation](f"/{created['id']}")
        counts.append(calls[0])

    # Some call more, as each connection prepares a statement once; the fewest are what is usual with a full page.
    assert min(counts[20:]) <= CALLS[operation] * TOLERANCE, f"{operation} called {counts}"
