"""A request from bytes to bytes, without a web server in between."""

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from typing import Any
from uuid import UUID

import pytest
from asgiref.sync import SyncToAsync

from config import asgi
from persistence.postgres.database import Database
from tests.support.contract import OPERATIONS
from tests.support.helpers import (
    Client,
    Json,
    NoAnswer,
    address,
    ask,
    assert_problem,
    body_of,
    call,
    make_task,
    signed_in,
)
from tests.support.issuer import Issuer
from web import handler
from web.handler import Message, Receive

LIMIT = 65_536
JSON = [("Content-Type", "application/json")]


def _padded(size: int) -> bytes:
    body = json.dumps({"title": "Buy milk"}).encode()
    return body + b" " * (size - len(body))


def _silent_after(*messages: Message) -> Receive:
    """A client that sends these messages and then nothing more."""
    waiting = list(messages)

    async def receive() -> Message:
        if waiting:
            return waiting.pop(0)
        await asyncio.Event().wait()
        raise AssertionError

    return receive


def _part(body: bytes, *, more: bool) -> Message:
    return {"type": "http.request", "body": body, "more_body": more}


_FULL = _padded(LIMIT)


@pytest.mark.parametrize(
    "parts",
    [
        (_padded(24),),
        (b'{"title"', b"", b': "Buy', b' milk"}'),
        (b"", _padded(24), b""),
        *((_FULL[:split], _FULL[split:]) for split in (LIMIT, 1000, 65_535)),
    ],
    ids=lambda parts: "+".join(str(len(part)) for part in parts),
)
async def test_a_body_may_come_in_parts_and_be_as_large_as_the_limit(
    database: Database, alice: UUID, parts: tuple[bytes, ...]
) -> None:
    answer = await ask(database, "POST", f"/api/{alice}/tasks", body_of(*parts), headers=JSON)

    assert answer.status_code == 201


async def test_a_body_beyond_the_limit_is_not_read_to_its_end(database: Database, alice: UUID) -> None:
    received = 0

    async def receive() -> Message:
        nonlocal received
        received += 1
        return _part(b" " * 10_000, more=True)

    answer = await ask(database, "POST", f"/api/{alice}/tasks", receive, headers=JSON)

    assert_problem(answer, 413, "content-too-large")
    assert received == 7


@pytest.mark.parametrize("length", ["65537", "99999999999999999999", "9" * 5000], ids=["one more", "huge", "absurd"])
async def test_a_body_that_announces_too_much_is_not_read_at_all(database: Database, alice: UUID, length: str) -> None:
    headers = [*JSON, ("Content-Length", length)]
    answer = await ask(database, "POST", f"/api/{alice}/tasks", _silent_after(), headers=headers)

    assert_problem(answer, 413, "content-too-large")


async def test_a_length_that_is_not_one_is_ignored(database: Database, alice: UUID) -> None:
    for length in ("-1", "abc", "", "0x10", "\xb2", "1 1"):
        headers = [*JSON, ("Content-Length", length)]
        answer = await ask(database, "POST", f"/api/{alice}/tasks", body_of(_padded(24)), headers=headers)
        assert answer.status_code == 201


async def _drip() -> Message:
    await asyncio.sleep(0.01)
    return _part(b" ", more=True)


@pytest.mark.parametrize(
    "receive",
    [_silent_after(), _silent_after(_part(b'{"title', more=True)), _drip],
    ids=["nothing", "half", "drop by drop"],
)
async def test_a_body_that_does_not_arrive_in_time_is_given_up(
    database: Database, alice: UUID, monkeypatch: pytest.MonkeyPatch, receive: Receive
) -> None:
    monkeypatch.setattr(handler, "BODY_TIMEOUT", 0.05)

    assert_problem(await ask(database, "POST", f"/api/{alice}/tasks", receive, headers=JSON), 408, "request-timeout")


@pytest.mark.parametrize("sent", [[], [_part(_padded(24), more=True)]], ids=["at once", "half-way"])
async def test_a_client_that_hangs_up_gets_no_answer_and_no_task(
    database: Database, client: Client, alice: UUID, sent: list[Message]
) -> None:
    receive = _silent_after(*sent, {"type": "http.disconnect"})

    with pytest.raises(NoAnswer):
        await ask(database, "POST", f"/api/{alice}/tasks", receive, headers=JSON)
    assert (await client.get(f"{alice}/tasks")).json()["items"] == []


async def test_a_query_string_that_is_not_utf_8_is_refused(database: Database, alice: UUID) -> None:
    for query in (b"limit=\xff", b"\xff\xfe", b"a=\xed\xa0\x80"):
        answer = await ask(
            database, "GET", f"/api/{alice}/tasks", query=query, headers=[("Origin", "http://localhost:3000")]
        )
        assert_problem(answer, 400, "invalid-input", "query")
        assert answer.headers["access-control-allow-origin"] == "http://localhost:3000"


@pytest.mark.parametrize("kind", ["websocket", "something-new"])
async def test_a_websocket_is_refused(kind: str) -> None:
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    await asgi.application({"type": kind, "path": "/api/v1/live", "headers": []}, _silent_after(), send)

    assert sent == [{"type": "websocket.close"}]


async def test_it_counts_the_bytes_it_sends_once(database: Database) -> None:
    preflight = [("Origin", "http://localhost:3000"), ("Access-Control-Request-Method", "GET")]
    for method, path in product(("GET", "PUT", "OPTIONS"), ("/api/v1/live", "/nope", "/api/docs")):
        answer = await ask(database, method, path, headers=preflight)
        assert answer.headers.get_list("content-length") == [str(len(answer.content))]
        assert len(answer.headers.get_list("content-type")) == 1


async def test_the_host_and_cookies_do_not_matter(database: Database, alice: UUID) -> None:
    hosts = ["", "[", "a b", "\xff", "evil.example", "x" * 5000]
    cookies = ["", "\xff=\xff", ";;=;", "sessionid=" + "x" * 5000, "a=\x01"]
    for header in (*(("Host", host) for host in hosts), *(("Cookie", cookie) for cookie in cookies)):
        assert (await ask(database, "GET", f"/api/{alice}/tasks", headers=[header])).status_code == 200, header


async def test_no_request_needs_a_thread(
    guarded: Client, issuer: Issuer, alice: UUID, task: Json, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a request must not cost a thread")

    client = signed_in(guarded, issuer.token(alice))
    monkeypatch.setattr(SyncToAsync, "__call__", refuse)
    monkeypatch.setattr(ThreadPoolExecutor, "submit", refuse)
    cors = {"Origin": "http://localhost:3000", "Access-Control-Request-Method": "PUT"}
    answers = [await call(client, operation, alice, task["id"]) for operation in OPERATIONS.values()]
    answers += [
        await client.get("docs"),
        await client.get("http://test/api/static/ninja/swagger-ui.css"),
        await client.options(f"{alice}/tasks", headers=cors),
    ]
    # What is about a deleted task finds none.
    assert all(answer.is_success or answer.status_code == 404 for answer in answers)
    assert (await client.get(address(task))).status_code == 404
    assert (await client.post(address(task))).status_code == 405


async def test_requests_at_the_same_time_all_get_their_own_answer(client: Client, alice: UUID) -> None:
    created = await asyncio.gather(*(make_task(client, alice, title=f"Task {number}") for number in range(40)))

    assert [task["title"] for task in created] == [f"Task {number}" for number in range(40)]
    listed = (await client.get(f"{alice}/tasks")).json()["items"]
    assert {task["id"] for task in listed} == {task["id"] for task in created}
