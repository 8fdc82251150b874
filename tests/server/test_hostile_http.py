"""Raw sockets: whatever is sent gets a problem document or nothing, never a 5xx, and never a second answer."""

from collections.abc import Iterator
from contextlib import suppress
from itertools import pairwise

import pytest

from persistence.postgres.dsn import Dsn
from tests.support.hostile import CHUNKED, CORPUS, POST, Row
from tests.support.servers import WebServer, eventually
from tests.support.sites import Site, made_site
from tests.support.sockets import all_from, answer_from, answers_in, check_problem, connect


@pytest.fixture(scope="module")
def site(server: Dsn, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with made_site(
        server, tmp_path_factory.mktemp("web"), "-c", "python:tests.support.impatient", "--workers", "1"
    ) as site:
        yield site


def test_the_rows_have_names_of_their_own_and_are_many() -> None:
    names = sorted(row.name for row in CORPUS)

    assert all(one != other for one, other in pairwise(names))
    assert len(names) >= 60


@pytest.mark.parametrize("row", CORPUS, ids=lambda row: row.name.replace(" ", "-"))
def test_it_is_answered_as_it_deserves(row: Row, site: Site) -> None:
    with connect(site.web.port) as client:
        # What is refused early may not be taken to its end.
        with suppress(ConnectionError):
            client.sendall(row.sent.replace(b"TASKS", f"/api{site.tasks}".encode()))
        answers = answers_in(all_from(client))

    statuses = tuple(answer.status for answer in answers)
    assert statuses == row.statuses or (row.statuses is None and statuses in {(400,), ()})
    for answer in answers:
        if answer.status >= 400:
            check_problem(answer)
    # Only the last one ends the connection, and says so.
    said = [answer.headers.get(b"connection") for answer in answers]
    assert said == [None] * (len(answers) - 1) + [b"close"] * bool(answers)
    assert set(site.titles()) <= {"Decent"}
    assert site.web.http.get("/v1/live").status_code == 200
    assert not any(word in site.web.log for word in ("Traceback", "WARNING", "ERROR", "CRITICAL"))


@pytest.fixture(scope="module")
def failing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebServer]:
    """A server of an application that does what ours does not."""
    settings = {"ENVIRONMENT": "production", "DATABASE_URL": "postgresql://nobody@127.0.0.1/nothing"}
    web = WebServer(tmp_path_factory.mktemp("web"), settings, "--workers", "1", "tests.support.failing:application")
    web.start()
    try:
        eventually(lambda: "ASGI server listening" in web.log)
        yield web
    finally:
        web._end()


def test_an_application_that_fails_is_answered_for(failing: WebServer) -> None:
    for method, with_body in ((b"GET", True), (b"HEAD", False)):
        with connect(failing.port) as client:
            client.sendall(method + b" /fails HTTP/1.1\r\nHost: test\r\n\r\n")
            received = all_from(client)
        head, _, body = received.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 500 ")
        assert bool(body) == with_body
        if with_body:
            [answer] = answers_in(received)
            check_problem(answer)
            assert answer.headers[b"x-request-id"] in answer.body


def test_a_body_that_goes_wrong_after_the_answer_gets_no_second_one(failing: WebServer) -> None:
    with connect(failing.port) as client:
        client.sendall(POST.replace(b"TASKS", b"/any") + CHUNKED + b"\r\n")
        first = answer_from(client)
        client.sendall(b"no chunk\r\n")
        rest = all_from(client)

    assert first.status == 200
    assert first.headers[b"connection"] == b"close"
    assert rest == b""
