"""The way of a request from bytes to bytes, without a web server in between."""

import asyncio
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID

import httpx
import pytest
from asgiref.sync import SyncToAsync

from config import asgi
from persistence.postgres.database import Database
from tests.support.helpers import address, ask, assert_problem, body_of, make_task
from web import handler
from web.handler import Message, Receive

LIMIT = 65_536
JSON = [("Content-Type", "application/json")]


def _padded(size: int) -> bytes:
    body = json.dumps({"title": "Buy milk"}).encode()
    return body + b" " * (size - len(body))


def _silent_after(*messages: Message) -> Receive:
    """A client who sends these messages and then nothing more."""
    waiting = list(messages)

    async def receive() -> Message:
        if waiting:
            return waiting.pop(0)
        await asyncio.Event().wait()
        raise AssertionError

    return receive


def _part(body: bytes, *, more: bool) -> Message:
    return {"type": "http.request", "body": body, "more_body": more}


@pytest.mark.parametrize(
    "parts",
    [(_padded(24),), (b'{"title"', b"", b': "Buy', b' milk"}'), (b"", _padded(24), b"")],
)
async def test_a_body_may_come_in_parts(database: Database, alice: UUID, parts: tuple[bytes, ...]) -> None:
    answer = await ask(database, "POST", f"/api/{alice}/tasks", body_of(*parts), headers=JSON)

    assert answer
    assert answer.status_code == 201


async def test_messages_may_leave_out_what_is_empty(database: Database) -> None:
    answer = await ask(database, "GET", "/api/v1/live", _silent_after({"type": "http.request"}))

    assert answer
    assert answer.status_code == 200


@pytest.mark.parametrize("split", [LIMIT, 1000, 65_535])
async def test_a_body_may_be_as_large_as_the_limit(database: Database, alice: UUID, split: int) -> None:
    body = _padded(LIMIT)
    answer = await ask(database, "POST", f"/api/{alice}/tasks", body_of(body[:split], body[split:]), headers=JSON)

    assert answer
    assert answer.status_code == 201


async def test_a_body_beyond_the_limit_is_not_read_to_its_end(database: Database, alice: UUID) -> None:
    received = 0

    async def receive() -> Message:
        nonlocal received
        received += 1
        return _part(b" " * 10_000, more=True)

    answer = await ask(database, "POST", f"/api/{alice}/tasks", receive, headers=JSON)

    assert answer
    assert_problem(answer, 413, "content-too-large")
    assert received == 7


@pytest.mark.parametrize("length", ["65537", "99999999999999999999", "9" * 5000], ids=["one more", "huge", "absurd"])
async def test_a_body_that_announces_too_much_is_not_read_at_all(database: Database, alice: UUID, length: str) -> None:
    answer = await ask(
        database, "POST", f"/api/{alice}/tasks", _silent_after(), headers=[*JSON, ("Content-Length", length)]
    )

    assert answer
    assert_problem(answer, 413, "content-too-large")


@pytest.mark.parametrize("length", ["-1", "abc", "", "0x10", "\xb2", "1 1"])
async def test_a_length_that_is_none_is_ignored(database: Database, alice: UUID, length: str) -> None:
    headers = [*JSON, ("Content-Length", length)]
    answer = await ask(database, "POST", f"/api/{alice}/tasks", body_of(_padded(24)), headers=headers)

    assert answer
    assert answer.status_code == 201


@pytest.mark.parametrize("sent", [[], [_part(b'{"title', more=True)]], ids=["nothing", "half"])
async def test_a_body_that_stops_arriving_is_given_up(
    database: Database, alice: UUID, monkeypatch: pytest.MonkeyPatch, sent: list[Message]
) -> None:
    monkeypatch.setattr(handler, "BODY_TIMEOUT", 0.02)
    answer = await ask(database, "POST", f"/api/{alice}/tasks", _silent_after(*sent), headers=JSON)

    assert answer
    assert_problem(answer, 408, "request-timeout")


async def test_a_body_that_drips_is_given_up_too(
    database: Database, alice: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handler, "BODY_TIMEOUT", 0.05)

    async def receive() -> Message:
        await asyncio.sleep(0.01)
        return _part(b" ", more=True)

    answer = await ask(database, "POST", f"/api/{alice}/tasks", receive, headers=JSON)

    assert answer
    assert_problem(answer, 408, "request-timeout")


@pytest.mark.parametrize("sent", [[], [_part(_padded(24), more=True)]], ids=["at once", "half-way"])
async def test_a_client_who_hangs_up_gets_no_answer_and_no_task(
    database: Database, client: httpx.AsyncClient, alice: UUID, sent: list[Message]
) -> None:
    receive = _silent_after(*sent, {"type": "http.disconnect"})

    assert await ask(database, "POST", f"/api/{alice}/tasks", receive, headers=JSON) is None
    assert (await client.get(f"{alice}/tasks")).json()["items"] == []


@pytest.mark.parametrize("query", [b"limit=\xff", b"\xff\xfe", b"a=\xed\xa0\x80"])
async def test_a_query_string_that_is_not_utf_8_is_refused(database: Database, alice: UUID, query: bytes) -> None:
    answer = await ask(database, "GET", f"/api/{alice}/tasks", query=query)

    assert answer
    assert answer.status_code == 400
    document = json.loads(answer.content)
    assert document["type"] == "urn:problem:todo:invalid-input"
    assert document["errors"], "clients look for what is wrong in `errors`"


@pytest.mark.parametrize("kind", ["websocket", "something-new"])
async def test_a_websocket_is_refused(kind: str) -> None:
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    await asgi.application({"type": kind, "path": "/api/v1/live", "headers": []}, _silent_after(), send)

    assert sent == [{"type": "websocket.close"}]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/v1/live"),
        ("GET", "/nope"),
        ("PUT", "/api/v1/live"),
        ("GET", "/api/docs"),
        ("OPTIONS", "/api/v1/live"),
    ],
)
async def test_it_counts_the_bytes_it_sends_once(database: Database, method: str, path: str) -> None:
    preflight = [("Origin", "http://localhost:3000"), ("Access-Control-Request-Method", "GET")]
    answer = await ask(database, method, path, headers=preflight)

    assert answer
    assert answer.headers.get_list("content-length") == [str(len(answer.content))]
    assert len(answer.headers.get_list("content-type")) == 1


@pytest.mark.parametrize("host", ["", "[", "a b", "\xff", "evil.example", "x" * 5000])
async def test_the_host_header_does_not_matter(database: Database, alice: UUID, host: str) -> None:
    answer = await ask(database, "GET", f"/api/{alice}/tasks", headers=[("Host", host)])

    assert answer
    assert answer.status_code == 200


@pytest.mark.parametrize("cookie", ["", "\xff=\xff", ";;=;", "sessionid=" + "x" * 5000, "a=\x01"], ids=ascii)
async def test_cookies_do_not_matter(database: Database, alice: UUID, cookie: str) -> None:
    answer = await ask(database, "GET", f"/api/{alice}/tasks", headers=[("Cookie", cookie)])

    assert answer
    assert answer.status_code == 200


async def test_no_request_needs_a_thread(
    client: httpx.AsyncClient, alice: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = await make_task(client, alice)

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a request must not cost a thread")

    monkeypatch.setattr(SyncToAsync, "__call__", refuse)
    monkeypatch.setattr(ThreadPoolExecutor, "submit", refuse)
    cors = {"Origin": "http://localhost:3000", "Access-Control-Request-Method": "PUT"}
    requests: list[tuple[Callable[[], Any], int]] = [
        (lambda: client.post(f"{alice}/tasks", json={"title": "x"}), 201),
        (lambda: client.get(f"{alice}/tasks"), 200),
        (lambda: client.get(address(task)), 200),
        (lambda: client.put(address(task), json={"title": "x"}), 200),
        (lambda: client.patch(address(task), json={"title": "x"}), 200),
        (lambda: client.delete(address(task)), 200),
        (lambda: client.get(address(task)), 404),
        (lambda: client.get("v1/health"), 200),
        (lambda: client.get("v1/live"), 200),
        (lambda: client.get("docs"), 200),
        (lambda: client.get("http://test/static/ninja/swagger-ui.css"), 200),
        (lambda: client.options(f"{alice}/tasks", headers=cors), 200),
        (lambda: client.post(address(task)), 405),
        (lambda: client.get("nope"), 404),
    ]
    for request, status in requests:
        assert (await request()).status_code == status


async def test_requests_at_the_same_time_all_get_their_own_answer(client: httpx.AsyncClient, alice: UUID) -> None:
    created = await asyncio.gather(*(make_task(client, alice, title=f"Task {number}") for number in range(40)))

    assert [task["title"] for task in created] == [f"Task {number}" for number in range(40)]
    listed = (await client.get(f"{alice}/tasks")).json()["items"]
    assert {task["id"] for task in listed} == {task["id"] for task in created}
