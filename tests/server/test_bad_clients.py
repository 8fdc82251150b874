"""Clients that are hostile, slow, silent, deaf, or send without end.

A hostile client gets a problem document or nothing, never a 5xx and never a second answer. Any other bad client has a
deadline, and gets to read why it has passed.
"""

import select
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress

import psycopg
import pytest

from persistence.postgres.dsn import Dsn
from tests.support.databases import as_owner, new_user, temporary_database
from tests.support.hostile import CHUNKED, CORPUS, POST, Row
from tests.support.impatient import UNREAD_TIMEOUT
from tests.support.servers import eventually
from tests.support.sites import Site, raw_post, running_site
from tests.support.sockets import LIVE, Answer, all_from, answer_from, answers_in, check_problem, connect

LAST = LIVE[:-2] + b"Connection: close\r\n\r\n"
FLOOD = b"POST /api/%s/tasks HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\n%s\r\n\r\n"
NO_USER = b"00000000-0000-4000-8000-000000000000"
CHUNK = b"8000\r\n" + b" " * 0x8000 + b"\r\n"
MEBIBYTE = 1024 * 1024


@pytest.fixture(scope="module")
def site(server: Dsn, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    config = ("-c", "python:tests.support.impatient", "--workers", "1")
    with (
        temporary_database(server, template) as dsn,
        running_site(dsn, tmp_path_factory.mktemp("web"), *config) as site,
    ):
        yield site


@pytest.fixture(autouse=True)
def _the_server_goes_on(site: Site, request: pytest.FixtureRequest) -> Iterator[None]:
    log = site.web.log
    yield
    assert site.web.http.get("/v1/live").status_code == 200
    assert site.listening == 1
    if "fails" not in request.node.name:
        site.assert_calm(log)


def assert_closing_problem(answer: Answer, status: int) -> None:
    check_problem(answer)
    assert answer.status == status
    assert answer.headers[b"connection"] == b"close"


def test_every_hostile_message_is_answered_as_it_deserves(site: Site) -> None:
    def exchange(row: Row) -> bytes:
        with connect(site.web.port) as client:
            # The server may refuse it early, and not take all of it.
            with suppress(ConnectionError):
                client.sendall(row.sent.replace(b"TASKS", f"/api{site.tasks}".encode()))
            return all_from(client)

    with ThreadPoolExecutor(32) as threads:
        received = dict(zip((row.name for row in CORPUS), threads.map(exchange, CORPUS), strict=True))

    assert len(received) == len(CORPUS) >= 60
    faults = {}
    for row in CORPUS:
        answers = answers_in(received[row.name])
        statuses = tuple(answer.status for answer in answers)
        if statuses != row.statuses and not (row.statuses is None and statuses in {(400,), ()}):
            faults[row.name] = f"{statuses} instead of {row.statuses}"
        for answer in answers:
            if answer.status >= 400:
                check_problem(answer)
        # Only the last answer ends the connection, and says so.
        said = [answer.headers.get(b"connection") for answer in answers]
        if said != [None] * (len(answers) - 1) + [b"close"] * bool(answers):
            faults[row.name] = f"Connection: {said}"
    assert faults == {}
    assert set(site.titles()) == {"Decent"}


OURS, OTHER = b"Origin: http://localhost:3000\r\n", b"Origin: http://localhost:3001\r\n"
LONG = b"a" * 9_000
SCRIPTS = {
    "a first line that is too long": (b"GET /" + LONG + b" HTTP/1.1\r\nHost: test\r\nORIGIN", 414),
    "a header that is too large before it": (LIVE[:-2] + b"X-Long: " + LONG + b"\r\nOrigin", 431),
    "a header that is malformed before it": (LIVE[:-2] + b"X Odd: 1\r\norigin", 400),
    "no Host": (b"GET /api/v1/live HTTP/1.1\r\nOrigin", 400),
    "a head that does not arrive whole": (LIVE[:-2] + b"Origin", 408),
    "a body in bad chunks": (POST.replace(b"TASKS", b"/api/x/tasks") + CHUNKED + b"Origin", 400),
}
"""Requests up to the name of the header Origin."""


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_can_read_why_its_request_was_refused(site: Site, name: str) -> None:
    sent, status = SCRIPTS[name]
    rest = b"" if status == 408 else b"\r\nno chunk\r\n"
    with connect(site.web.port) as ours, connect(site.web.port) as other:
        ours.sendall(sent + OURS.removeprefix(b"Origin") + rest)
        other.sendall(sent + OTHER.removeprefix(b"Origin") + rest)
        for client, allowed in ((ours, b"http://localhost:3000"), (other, None)):
            [answer] = answers_in(all_from(client))
            assert_closing_problem(answer, status)
            assert answer.headers.get(b"access-control-allow-origin") == allowed
            assert (b"Retry-After" in answer.headers.get(b"access-control-expose-headers", b"")) == bool(allowed)


def assert_any_script_can_read(answer: Answer) -> None:
    assert answer.headers[b"access-control-allow-origin"] == b"*"
    assert b"access-control-allow-credentials" not in answer.headers


def test_any_script_can_read_why_a_request_was_refused_whose_origin_was_not_read(site: Site) -> None:
    for sent, status in ((b"GET /" + LONG, 414), (LIVE[:-2] + b"X-Long: " + LONG, 431)):
        with connect(site.web.port) as client:
            client.sendall(sent)
            [answer] = answers_in(all_from(client))
        assert_closing_problem(answer, status)
        assert_any_script_can_read(answer)


def test_a_silent_client_is_closed_without_a_word_and_an_idle_one_has_longer(site: Site) -> None:
    with connect(site.web.port) as idle:
        idle.sendall(LIVE)
        assert answer_from(idle).status == 200
        with connect(site.web.port) as silent:
            assert all_from(silent) == b""
        idle.sendall(LAST)
        assert answer_from(idle).status == 200


def test_a_head_that_does_not_arrive_whole_is_answered_when_its_time_is_over(site: Site) -> None:
    with ExitStack() as stack:

        def half(sent: bytes) -> socket.socket:
            client = stack.enter_context(connect(site.web.port))
            client.sendall(sent)
            return client

        halves = [half(sent) for sent in (b"G", LIVE[:20], LIVE[:-2], b"\r\nGET")]
        # Every drop is a sign of life, but gets the client no more time.
        drops = {half(LIVE[:-2]): b"X-Slow: 1\r\n", half(LIVE[:-1]): b"", half(LIVE[:-4]): b"a"}
        good_before = half(LIVE)
        assert answer_from(good_before).status == 200
        good_before.sendall(LIVE[:-3])
        while not select.select(drops, [], [], 0.1)[0]:
            for client, drop in drops.items():
                client.sendall(drop)
        for client in (*halves, *drops, good_before):
            [answer] = answers_in(all_from(client))
            assert_closing_problem(answer, 408)
            # The Origin may have been in the rest.
            assert_any_script_can_read(answer)


def test_a_body_that_does_not_arrive_whole_is_answered_when_its_time_is_over(site: Site) -> None:
    begun = FLOOD % (NO_USER, b"Content-Length: 10000") + b'{"title": "Slow"'
    with connect(site.web.port) as stopped, connect(site.web.port) as dropping:
        stopped.sendall(begun)
        dropping.sendall(begun)
        while not select.select([dropping], [], [], 0.1)[0]:
            dropping.sendall(b" ")
        for client in (stopped, dropping):
            [answer] = answers_in(all_from(client))
            assert_closing_problem(answer, 408)


def test_a_client_that_closes_its_half_gets_its_answers(site: Site) -> None:
    for sent, statuses in ((LIVE, [200]), (LIVE * 3, [200] * 3), (raw_post(new_user(site.dsn), "Half"), [201])):
        with connect(site.web.port) as client:
            client.sendall(sent)
            client.shutdown(socket.SHUT_WR)
            assert [answer.status for answer in answers_in(all_from(client))] == statuses


def test_a_client_that_does_not_read_is_closed_and_one_that_reads_slowly_is_not(site: Site) -> None:
    user = new_user(site.dsn)
    with psycopg.connect(as_owner(site.dsn).conninfo) as connection:
        connection.execute(
            "INSERT INTO tasks (id, user_id, title, description)"
            " SELECT gen_random_uuid(), %s, 'Large', repeat('a', 1000) FROM generate_series(1, 500)",
            [user],
        )
    ask = b"GET /api/%s/tasks?limit=500 HTTP/1.1\r\nHost: test\r\n%%s\r\n" % str(user).encode()
    with ExitStack() as stack:
        clients = []
        for last in (b"", b"", b"Connection: close\r\n"):
            clients.append(client := stack.enter_context(socket.socket()))
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect(("127.0.0.1", site.web.port))
            # The answers are more than the kernel holds for the client.
            client.sendall(ask % b"" * 30 + ask % last)
        eventually(lambda: site.connections_of_clients() == 3)
        end = time.monotonic() + 2 * UNREAD_TIMEOUT
        while time.monotonic() < end or site.connections_of_clients() > 1:
            assert clients[0].recv(2048)
            time.sleep(0.01)
        assert site.connections_of_clients() == 1


def test_an_endless_body_is_refused_early_and_hardly_read(site: Site) -> None:
    [worker] = site.workers
    before = worker.io_counters().read_chars
    with connect(site.web.port) as client:
        client.sendall(FLOOD % (NO_USER, b"Transfer-Encoding: chunked"))
        while not select.select([client], [], [], 0)[0]:
            client.sendall(CHUNK)
        answer = answer_from(client)
        # A client that goes on all the same is stopped.
        with pytest.raises(ConnectionError):
            client.sendall(CHUNK * 1_000)

    assert_closing_problem(answer, 413)
    assert worker.io_counters().read_chars - before < MEBIBYTE


def test_a_client_that_sends_before_it_reads_gets_to_know_that_it_is_too_much(site: Site) -> None:
    def flood(framing: bytes, size: int) -> Answer:
        with connect(site.web.port) as client:
            with suppress(ConnectionError):
                client.sendall(FLOOD % (NO_USER, framing) + CHUNK * (size // len(CHUNK)))
            return answer_from(client)

    framings, sizes = (b"Transfer-Encoding: chunked", b"Content-Length: 20000000"), (200_000, 20_000_000)
    with ThreadPoolExecutor(4) as threads:
        answers = [threads.submit(flood, framing, size) for framing in framings for size in sizes]
    assert [answer.result().status for answer in answers] == [413] * 4


def test_a_client_that_sends_on_after_what_is_not_http_gets_to_read_why(site: Site) -> None:
    with connect(site.web.port) as client:
        client.sendall(b"NONSENSE\r\n")
        [answer] = answers_in(all_from(client))
        # A reset, which could overtake an answer on its way, would fail the second of these.
        client.sendall(b"MORE\r\n" * 100)
        client.sendall(b"MORE\r\n" * 100)

    assert_closing_problem(answer, 400)


@pytest.mark.parametrize("method", [b"GET", b"HEAD"])
def test_an_application_that_fails_is_answered_for(method: bytes, site: Site) -> None:
    times = site.web.log.count("the application fails")
    with connect(site.web.port) as client:
        client.sendall(method + b" /fails HTTP/1.1\r\nHost: test\r\n\r\n")
        received = all_from(client)

    head, _, body = received.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 500 ")
    if method == b"HEAD":
        assert body == b""
    else:
        [answer] = answers_in(received)
        assert_closing_problem(answer, 500)
        assert answer.headers[b"x-request-id"] in answer.body
    # It must not be taken for the failure of the next test.
    eventually(lambda: site.web.log.count("the application fails") > times)


def test_a_body_that_goes_wrong_after_the_answer_gets_no_second_one(site: Site) -> None:
    with connect(site.web.port) as client:
        client.sendall(POST.replace(b"TASKS", b"/early") + CHUNKED + b"\r\n")
        first = answer_from(client)
        client.sendall(b"no chunk\r\n")
        rest = all_from(client)

    assert first.status == 200
    assert first.headers[b"connection"] == b"close"
    assert rest == b""
