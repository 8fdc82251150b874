"""The server keeps its contract, whatever is sent; `make fuzz` sends a hundred times as much."""

import contextlib
import socket
import socketserver
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from threading import Thread
from typing import override
from wsgiref.simple_server import make_server
from wsgiref.types import StartResponse, WSGIEnvironment

import psycopg
import pytest

from persistence import migrator
from persistence.postgres.dsn import Dsn
from tests.fuzz import storm as storms
from tests.fuzz.cast import Cast, leaks, mark
from tests.fuzz.grammar import Grammar
from tests.fuzz.groups import group
from tests.fuzz.messages import to_json, token
from tests.fuzz.site import harm, web_server
from tests.fuzz.storm import storm
from tests.support.servers import WebServer, url_of

EXAMPLES = 30
CASES = 4000


@pytest.fixture
def seed(pytestconfig: pytest.Config) -> int:
    """That of pytest-randomly, so that `--randomly-seed` repeats a run."""
    return int(pytestconfig.getoption("randomly_seed", 1))


@contextmanager
def thoughtless_server() -> Iterator[str]:
    """It has the same answer to everything."""

    def answer(_environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
        start_response("200 OK", [("Content-Type", "application/json")])
        return [b"{}"]

    with make_server("127.0.0.1", 0, answer) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize("phases", [("examples", "coverage"), ("fuzzing",), ("stateful",)], ids=", ".join)
def test_the_server_keeps_its_contract(phases: tuple[str, ...], seed: int, dsn: Dsn, tmp_path: Path) -> None:
    # Only here, as it takes half a second that every process of pytest would spend.
    from tests.fuzz.rounds import fuzz

    with WebServer(tmp_path, {"ENVIRONMENT": "production", "DATABASE_URL": url_of(dsn), "WEB_CONCURRENCY": "1"}) as web:
        report = fuzz(web.url, dsn, seed, EXAMPLES, phases)

    assert not report.failures, "\n\n".join([f"--randomly-seed={seed}", *report.failures])
    assert "Traceback" not in web.log
    successful = {operation for operation, status in report.answers if status < 400}
    assert successful == {operation for operation, _ in report.answers}


def test_answers_that_break_the_contract_are_noticed(seed: int, dsn: Dsn) -> None:
    from tests.fuzz.rounds import fuzz

    with thoughtless_server() as url:
        report = fuzz(url, dsn, seed, 1, ["examples"])

    assert any("response_schema_conformance" in failure for failure in report.failures)
    assert any("response_headers_conformance" in failure for failure in report.failures)


# Raw bytes --------------------------------------------------------------------------------------------------------


def test_the_server_survives_a_storm(seed: int, empty_dsn: Dsn, tmp_path: Path) -> None:
    migrator.migrate(empty_dsn)
    with web_server(tmp_path, empty_dsn) as web:
        report = storm(web.port, empty_dsn, seed, CASES)
        failures = [*report.failures, *harm(web, empty_dsn)]

    assert not failures, "\n\n".join([f"--randomly-seed={seed}", *failures])
    assert report.answers.total() >= CASES
    successful = {label.split(maxsplit=1)[1] for label, status in report.answers if 200 <= status < 300}
    assert successful >= {operation.label for operation in Grammar(Cast.of(seed)).operations}
    assert {kind.split()[0] for kind, _ in report.answers} == {"plain", "quiet", "values", "body", "wire"}


def test_a_group_can_be_sent_again() -> None:
    grammar = Grammar(Cast.of(1))
    groups = [group(grammar, 1, number) for number in range(200)]

    assert groups == [group(Grammar(Cast.of(1)), 1, number) for number in range(200)]
    assert all(b"".join(each.pieces) == each.data for each in groups)
    assert len({each.data for each in groups}) > 150
    assert {each.is_sane for each in groups} == {True, False}
    assert any(each.cuts for each in groups)


def test_bytes_may_stand_in_json_as_they_are() -> None:
    assert (
        to_json({"a": token(b"1e999"), "b": [token(b'"\xff"'), "\ud800"]}) == b'{"a": 1e999, "b": ["\xff", "\\ud800"]}'
    )


def test_only_who_is_named_may_be_seen() -> None:
    (alice, bob, _), answer = Cast.of(1).actors, f"title: {mark(Cast.of(1).actors[1])}".encode()

    assert leaks(f"GET /api/{alice}/tasks".encode(), answer) == {mark(bob).encode()}
    assert leaks(f"GET /api/{alice}/tasks/{bob}?x={bob}".encode(), answer) == {mark(bob).encode()}
    assert not leaks(f"GET /api/{str(bob).replace('-', '%2D')}/tasks".encode(), answer)


@contextmanager
def relay(port: int, treat: Callable[[bytes], bytes]) -> Iterator[int]:
    """Between clients and the server at `port`: what it answers is treated on its way; no bytes end the connection."""

    class Relay(socketserver.BaseRequestHandler):
        @override
        def handle(self) -> None:
            with socket.create_connection(("127.0.0.1", port)) as server:
                thread = Thread(target=self.send_on, args=[server])
                thread.start()
                with contextlib.suppress(OSError):
                    while (data := server.recv(200_000)) and (treated := treat(data)):
                        self.request.sendall(treated)
                    self.request.shutdown(socket.SHUT_RDWR)
                thread.join()

        def send_on(self, server: socket.socket) -> None:
            with contextlib.suppress(OSError):
                while data := self.request.recv(200_000):
                    server.sendall(data)
            with contextlib.suppress(OSError):
                server.shutdown(socket.SHUT_WR)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Relay) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(scope="module")
def web(dsn: Dsn, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebServer]:
    with web_server(tmp_path_factory.mktemp("web"), dsn) as web:
        yield web


ACTORS = Cast.of(7).actors
FAULTS: dict[str, Callable[[bytes], bytes]] = {
    "the status is 500": lambda data: data.replace(b"HTTP/1.1 404", b"HTTP/1.1 500"),
    "unknown headers: {b'x-injected'}": lambda data: data.replace(b"\r\nDate", b"\r\nX-Injected: yes\r\nDate"),
    "a problem in b'text/html'": lambda data: data.replace(b"application/problem+json", b"text/html"),
    "the body is no JSON": lambda data: data.replace(b'"status":4', b'"status":+'),
    "the problem says 499": lambda data: data.replace(b'"status":404', b'"status":499'),
    "belongs to somebody else": lambda data: data.replace(mark(ACTORS[0]).encode(), mark(ACTORS[1]).encode()),
    "more answers than requests": lambda data: data * 2,
    "this is no answer": lambda data: data.replace(b"HTTP/1.1 4", b"HTTP/1.1 x"),
    "comes twice": lambda data: data.replace(b"\r\nDate", b"\r\nServer: x\r\nDate"),
    "the length is not clear": lambda data: data.replace(b"Content-Length: 1", b"Content-Length: x"),
    "without an answer": lambda data: data if Random(data).random() < 0.95 else b"",  # noqa: S311 - no secret
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_storm_notices_each_fault(fault: str, web: WebServer, dsn: Dsn) -> None:
    with relay(web.port, FAULTS[fault]) as port:
        report = storm(port, dsn, 7, 1000)

    assert any(fault in failure for failure in report.failures), report.failures[:3]


def test_a_storm_notices_that_no_answer_comes(web: WebServer, dsn: Dsn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storms, "DEADLINE", 0.5)

    with relay(web.port, lambda data: data[: -len(data) // 2] or data) as port:
        report = storm(port, dsn, 7, 30)

    assert any("no answer within 0.5 s" in failure for failure in report.failures)


def test_a_storm_notices_that_the_tasks_of_others_change(
    web: WebServer, dsn: Dsn, monkeypatch: pytest.MonkeyPatch
) -> None:
    bystander = Cast.of(7).bystanders[0]

    async def change(self: object, numbers: object) -> None:
        with psycopg.connect(dsn.conninfo) as connection:
            connection.execute("UPDATE tasks SET title = 'Mine now' WHERE user_id = %s", [bystander])

    monkeypatch.setattr(storms._Storm, "run", change)

    assert storm(web.port, dsn, 7, 1).failures == ["GROUP=all make fuzz\nTasks of bystanders have changed"]
