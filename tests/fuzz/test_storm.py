"""The fuzzers notice what is wrong with an answer, and repeat what they sent."""

import socketserver
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread
from typing import override

import psycopg
import pytest

from persistence.postgres.dsn import Dsn
from tests.fuzz import storm as storms
from tests.fuzz.answers import Malformed, Reader
from tests.fuzz.fixtures import Fixtures, leaks, mark
from tests.fuzz.grammar import Grammar
from tests.fuzz.groups import group
from tests.fuzz.messages import to_json, token
from tests.fuzz.storm import storm
from tests.support.databases import as_owner

USERS = Fixtures.of(7)
GOOD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
PROBLEM = (
    b"HTTP/1.1 404 Not Found\r\nContent-Type: application/problem+json\r\nContent-Length: 14\r\nDate: now\r\n\r\n"
    b'{"status":404}'
)


@contextmanager
def fake_server(answer: bytes, *, closes: bool = False) -> Iterator[int]:
    """Answers whatever it receives with these bytes."""

    class Handler(socketserver.BaseRequestHandler):
        @override
        def handle(self) -> None:
            while self.request.recv(200_000):
                self.request.sendall(answer)
                if closes:
                    break

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


def test_answers_that_break_the_contract_are_noticed(dsn: Dsn) -> None:
    # Only here, as it takes half a second that every process of pytest would spend.
    from tests.fuzz.rounds import fuzz

    with fake_server(GOOD.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"), closes=True) as port:
        report = fuzz(f"http://127.0.0.1:{port}", dsn, 1, 1, ["examples"], ["get_task"])

    assert any("response_schema_conformance" in failure for failure in report.failures)
    assert any("response_headers_conformance" in failure for failure in report.failures)


@pytest.mark.parametrize(
    ("good", "bad", "fault"),
    [
        (b"404 Not Found", b"500 Oops", "the status is 500"),
        (b"Date", b"X-Injected: yes\r\nDate", "unknown headers: {b'x-injected'}"),
        (b"application/problem+json", b"text/html", "a problem in b'text/html'"),
        (b":404", b":+04", "the body is not JSON"),
        (b":404", b":499", "the problem says 499"),
        (b"404 Not", b"x Not", None),
        (b"Date", b"Date: then\r\nDate", None),
        (b"Length: 14", b"Length: x", None),
        (b"Length: 14", b"Length: 14\r\nTransfer-Encoding: chunked", None),
    ],
)
def test_a_fault_of_an_answer_is_named_and_bytes_that_are_not_an_answer_are_refused(
    good: bytes, bad: bytes, fault: str | None
) -> None:
    reader = Reader()
    reader.feed(PROBLEM + PROBLEM.replace(good, bad))
    first = reader.next()

    assert first
    assert first.fault is None
    if fault:
        second = reader.next()
        assert second
        assert fault in str(second.fault)
    else:
        with pytest.raises(Malformed):
            reader.next()


@pytest.mark.parametrize(
    ("answer", "closes", "fault"),
    [
        (PROBLEM.replace(b"404 Not Found", b"500 Oops"), False, "the status is 500"),
        (
            GOOD.replace(b"{}", b'"%s"' % mark(USERS.actors[1]).encode()).replace(b": 2", b": 12"),
            False,
            "somebody else",
        ),
        (GOOD * 2, False, "more answers than requests"),
        (b"", True, "without an answer"),
        (b"<html>", False, "this is not an answer"),
        (GOOD[:-1], False, "no answer within 0.2 s"),
    ],
    ids=lambda part: part if isinstance(part, str) else "",
)
def test_a_storm_notices_each_fault(
    answer: bytes, closes: bool, fault: str, dsn: Dsn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storms, "DEADLINE", 0.2)
    monkeypatch.setattr(storms, "HANG_UP_AFTER", 0.2)
    with fake_server(answer, closes=closes) as port:
        report = storm(port, dsn, 7, 200)

    assert any(fault in failure for failure in report.failures), report.failures[:3]


def test_a_storm_notices_that_the_tasks_of_others_change(dsn: Dsn, monkeypatch: pytest.MonkeyPatch) -> None:
    async def change(self: object, numbers: object) -> None:
        with psycopg.connect(as_owner(dsn).conninfo) as connection:
            connection.execute("UPDATE tasks SET version = version + 1 WHERE user_id = %s", [USERS.bystanders[0]])

    monkeypatch.setattr(storms._Storm, "run", change)

    assert storm(1, dsn, 7, 1).failures == ["GROUP=all make fuzz\nTasks of bystanders have changed"]


def test_a_mark_may_be_seen_only_by_a_request_that_names_its_user() -> None:
    (alice, bob, _), answer = USERS.actors, f"title: {mark(USERS.actors[1])}".encode()

    assert leaks(f"GET /api/{alice}/tasks".encode(), answer) == {mark(bob).encode()}
    assert leaks(f"GET /api/{alice}/tasks/{bob}?x={bob}".encode(), answer) == {mark(bob).encode()}
    assert not leaks(f"GET /api/{str(bob).replace('-', '%2D')}/tasks".encode(), answer)


def test_a_group_can_be_sent_again() -> None:
    grammar = Grammar(Fixtures.of(1))
    groups = [group(grammar, 1, number) for number in range(200)]

    assert groups == [group(Grammar(Fixtures.of(1)), 1, number) for number in range(200)]
    assert all(b"".join(each.pieces) == each.data for each in groups)
    assert len({each.data for each in groups}) > 150
    assert {each.is_sane for each in groups} == {True, False}
    assert any(each.cuts for each in groups)


def test_bytes_may_stand_in_json_as_they_are() -> None:
    document = {"a": token(b"1e999"), "b": [token(b'"\xff"'), "\ud800"]}

    assert to_json(document) == b'{"a": 1e999, "b": ["\xff", "\\ud800"]}'
