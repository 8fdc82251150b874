"""Clients who are slow, silent, deaf, or send without end: each has a deadline, and gets to read why it has passed."""

import select
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from uuid import UUID

import psutil
import psycopg
import pytest

from persistence.postgres.dsn import Dsn
from tests.support.servers import eventually
from tests.support.sites import Site, made_site, new_user, raw_post
from tests.support.sockets import all_from, answer_from, answers_in, check_problem, connect

LIVE = b"GET /api/v1/live HTTP/1.1\r\nHost: test\r\n\r\n"
LAST = LIVE[:-2] + b"Connection: close\r\n\r\n"
FLOOD = b"POST /api/%s/tasks HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\n%s\r\n\r\n"
NO_USER = b"00000000-0000-4000-8000-000000000000"
CHUNK = b"8000\r\n" + b" " * 0x8000 + b"\r\n"
MEBIBYTE = 1024 * 1024


@pytest.fixture(scope="module")
def site(server: Dsn, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with made_site(
        server, tmp_path_factory.mktemp("web"), "-c", "python:tests.support.impatient", "--workers", "1"
    ) as site:
        yield site


@pytest.fixture(autouse=True)
def _nothing_is_worth_a_warning(site: Site) -> Iterator[None]:
    yield
    assert site.web.http.get("/v1/live").status_code == 200
    assert not any(word in site.web.log for word in ("Traceback", "WARNING", "ERROR", "CRITICAL"))


def test_a_silent_client_is_closed_without_a_word(site: Site) -> None:
    with connect(site.web.port) as client:
        assert all_from(client) == b""


@pytest.mark.parametrize("sent", [b"G", LIVE[:20], LIVE[:-2], b"\r\nGET"])
def test_half_a_head_is_answered_when_its_time_is_over(sent: bytes, site: Site) -> None:
    with connect(site.web.port) as client:
        client.sendall(sent)
        [answer] = answers_in(all_from(client))

    check_problem(answer)
    assert answer.status == 408
    assert answer.headers[b"connection"] == b"close"


@pytest.mark.parametrize("drop", [b"X-Slow: 1\r\n", b"a"])
def test_a_head_that_comes_in_drops_gets_no_more_time(drop: bytes, site: Site) -> None:
    with connect(site.web.port) as client:
        client.sendall(LIVE[:-2])
        while not select.select([client], [], [], 0.1)[0]:
            client.sendall(drop)
        [answer] = answers_in(all_from(client))

    assert answer.status == 408


def test_half_a_head_on_a_connection_that_was_good_before_is_the_same(site: Site) -> None:
    with connect(site.web.port) as client:
        client.sendall(LIVE)
        assert answer_from(client).status == 200
        client.sendall(LIVE[:-3])
        [answer] = answers_in(all_from(client))

    assert answer.status == 408


def test_a_body_that_stops_is_answered_and_so_is_one_that_comes_in_drops(site: Site) -> None:
    whole = raw_post(site.user, "Slow")
    for sent, drop in ((whole[:-5], b""), (whole[: whole.index(b"\r\n\r\n") + 5], b" ")):
        with connect(site.web.port) as client:
            client.sendall(sent)
            while drop and not select.select([client], [], [], 0.15)[0]:
                client.sendall(drop)
            [answer] = answers_in(all_from(client))
        check_problem(answer)
        assert answer.status == 408
        assert answer.headers[b"connection"] == b"close"


def test_an_idle_connection_keeps_its_longer_time(site: Site) -> None:
    with connect(site.web.port) as client:
        client.sendall(LIVE)
        assert answer_from(client).status == 200
        # Longer than any other deadline of this server.
        time.sleep(3.5)
        client.sendall(LAST)
        assert answer_from(client).status == 200


def test_a_client_who_closes_his_half_gets_his_answers(site: Site) -> None:
    for sent, number in ((LIVE, 1), (LIVE * 3, 3), (raw_post(new_user(site.dsn), "Half"), 1)):
        with connect(site.web.port) as client:
            client.sendall(sent)
            client.shutdown(socket.SHUT_WR)
            answers = answers_in(all_from(client))
        assert [answer.status // 100 for answer in answers] == [2] * number


def make_large_tasks(dsn: Dsn, user: UUID) -> None:
    with psycopg.connect(dsn.conninfo) as connection:
        connection.execute(
            "INSERT INTO tasks (id, user_id, title, description)"
            " SELECT gen_random_uuid(), %s, 'Large', repeat('a', 1000) FROM generate_series(1, 500)",
            [user],
        )


def server_side(site: Site, port: int) -> list[object]:
    """The server's ends of connections from this port."""
    [worker] = site.workers
    with suppress(psutil.NoSuchProcess):
        return [each for each in worker.net_connections("tcp") if getattr(each.raddr, "port", None) == port]
    return []


@pytest.mark.parametrize("last", [b"", b"Connection: close\r\n"])
def test_a_client_who_does_not_read_is_given_up(last: bytes, site: Site) -> None:
    user = new_user(site.dsn)
    make_large_tasks(site.dsn, user)
    ask = b"GET /api/%s/tasks?limit=500 HTTP/1.1\r\nHost: test\r\n%%s\r\n" % str(user).encode()
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", site.web.port))
        # More than the kernel would hold for him.
        client.sendall(ask % b"" * 30 + ask % last)
        port = client.getsockname()[1]
        eventually(lambda: len(server_side(site, port)) == 1)
        eventually(lambda: server_side(site, port) == [])


def test_an_endless_body_is_refused_early_and_hardly_read(site: Site) -> None:
    [worker] = site.workers
    before = worker.io_counters().read_chars
    with connect(site.web.port) as client:
        client.sendall(FLOOD % (NO_USER, b"Transfer-Encoding: chunked"))
        while not select.select([client], [], [], 0)[0]:
            client.sendall(CHUNK)
        [answer] = answers_in(all_from(client))
        # Whoever goes on all the same is stopped.
        with pytest.raises(ConnectionError):
            client.sendall(CHUNK * 10_000)

    check_problem(answer)
    assert answer.status == 413
    assert answer.headers[b"connection"] == b"close"
    assert worker.io_counters().read_chars - before < MEBIBYTE


@pytest.mark.parametrize("framing", [b"Transfer-Encoding: chunked", b"Content-Length: 20000000"])
@pytest.mark.parametrize("size", [200_000, 20_000_000])
def test_a_client_who_sends_before_he_reads_gets_to_know_that_it_is_too_much(
    size: int, framing: bytes, site: Site
) -> None:
    with connect(site.web.port) as client:
        with suppress(ConnectionError):
            client.sendall(FLOOD % (NO_USER, framing))
            for _ in range(size // len(CHUNK)):
                client.sendall(CHUNK)
        [answer] = answers_in(all_from(client))

    assert answer.status == 413


def test_a_client_who_sends_on_after_what_is_no_http_gets_to_read_why(site: Site) -> None:
    with connect(site.web.port) as client:
        client.sendall(b"NONSENSE\r\n")
        for _ in range(20):
            client.sendall(b"MORE\r\n" * 100)
            time.sleep(0.01)
        [answer] = answers_in(all_from(client))

    check_problem(answer)
    assert answer.status == 400
