"""Exports by a real server: bounded memory, and clients that stop reading, hang up, or lose the database half-way."""

import json
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import httpx
import psycopg
import pytest

from persistence.postgres.dsn import Dsn
from tests.support.databases import as_owner, temporary_database
from tests.support.servers import eventually
from tests.support.sites import Site, running_site
from tests.support.sockets import all_from, connect

TASKS = 20_000
SIZE = 700
"""Bytes of a task in JSON, about."""
MEBIBYTE = 1024 * 1024
LAST_CHUNK = b"\r\n0\r\n\r\n"


@pytest.fixture(scope="module")
def site(server: Dsn, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One worker, which lets one export be made at a time."""
    config = ("-c", "python:tests.support.impatient", "--workers", "1")
    with (
        temporary_database(server, template) as dsn,
        running_site(dsn, tmp_path_factory.mktemp("web"), *config) as site,
    ):
        make_tasks(site, TASKS)
        yield site


def make_tasks(site: Site, count: int) -> None:
    with psycopg.connect(as_owner(site.dsn).conninfo) as connection:
        connection.execute(
            "INSERT INTO tasks (id, user_id, title, description, version)"
            " SELECT gen_random_uuid(), %s, 'Task ' || n, repeat('long ', 50), n FROM generate_series(1, %s) AS n",
            (site.user, count),
        )


def begin(site: Site, name: str, version: str = "1.1") -> socket.socket:
    """A client that has asked for the export and does not read it."""
    client = connect(site.web.port)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    request = f"GET /api/{site.user}/export HTTP/{version}\r\nHost: test\r\nX-Request-ID: {name}\r\n\r\n"
    client.sendall(request.encode())
    eventually(lambda: site.connection_states()["idle in transaction"] == 1)
    # The transaction may be idle before its statement as well.
    client.recv(1, socket.MSG_PEEK)
    return client


def until_reset(client: socket.socket) -> tuple[bytes, bool]:
    """All that comes, and whether the connection ended by a reset."""
    received = b""
    try:
        while data := client.recv(65536):
            received += data
    except ConnectionResetError:
        return received, True
    return received, False


def is_free(site: Site) -> bool:
    """Tells if no export holds a connection to the database."""
    return set(site.connection_states()) <= {"idle"}


def logged(site: Site, name: str) -> dict[str, object]:
    """The line in the log of the request with this id."""
    found: list[str] = []

    def is_there() -> bool:
        found[:] = re.findall(rf'^{{.*"request_id":"{name}".*"status":.*}}$', site.web.log, re.MULTILINE)
        return bool(found)

    eventually(is_there)
    line: dict[str, object] = json.loads(found[0])
    return line


def test_it_is_whole_and_takes_no_memory(site: Site) -> None:
    [worker] = site.workers
    # The first one makes what stays.
    url = f"http://127.0.0.1:{site.web.port}/api/{site.user}/export"
    httpx.get(url, timeout=120)
    before, name = worker.memory_info().rss, uuid4().hex
    with httpx.stream("GET", url, headers={"X-Request-ID": name}, timeout=120) as response:
        size, lines, most = 0, 0, 0
        for piece in response.iter_raw():
            size, lines, most = size + len(piece), lines + piece.count(b"\n"), max(most, worker.memory_info().rss)

    assert response.headers["Transfer-Encoding"] == "chunked"
    assert lines in (TASKS, 11 * TASKS)
    assert size > TASKS * SIZE / 2
    assert most - before < 4 * MEBIBYTE
    line = logged(site, name)
    assert (line["status"], line["bytes"]) == (200, size)
    assert is_free(site)


def test_a_client_that_stops_reading_is_cut_off(site: Site) -> None:
    name = uuid4().hex
    with begin(site, name) as client:
        eventually(lambda: is_free(site))
        received = all_from(client)

    assert not received.endswith(LAST_CHUNK)
    assert logged(site, name)["status"] == 499


def test_a_client_that_hangs_up_ends_the_statement(site: Site) -> None:
    name = uuid4().hex
    begin(site, name).close()
    eventually(lambda: is_free(site))
    assert logged(site, name)["status"] == 499


@pytest.mark.parametrize("version", ["1.1", "1.0"])
def test_what_ends_half_way_is_visibly_not_whole(version: str, site: Site) -> None:
    name = uuid4().hex
    with begin(site, name, version) as client:
        with psycopg.connect(as_owner(site.dsn).conninfo) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE state = 'idle in transaction'"
            )
        received, reset = until_reset(client)

    assert received.startswith(f"HTTP/{version} 200 OK\r\n".encode())
    assert not received.endswith(LAST_CHUNK)
    # An end in good order would be that of the answer in HTTP/1.0.
    assert reset
    assert logged(site, name)["status"] == 503
    eventually(lambda: is_free(site))


@pytest.mark.slow
def test_200_000_tasks_take_no_memory(site: Site) -> None:
    make_tasks(site, 10 * TASKS)
    test_it_is_whole_and_takes_no_memory(site)


@pytest.mark.slow
def test_a_stop_cuts_it_off(server: Dsn, template: str, tmp_path: Path) -> None:
    with (
        temporary_database(server, template) as dsn,
        running_site(dsn, tmp_path, "--workers", "1", REQUEST_TIMEOUT="1") as site,
    ):
        make_tasks(site, TASKS)
        with begin(site, uuid4().hex) as client:
            site.web.process.terminate()
            site.web.process.wait(60)
            received, reset = until_reset(client)
    assert not received.endswith(LAST_CHUNK)
    assert reset
