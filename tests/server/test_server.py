"""gunicorn as in production: several processes on a real database, under load, and how it starts and stops."""

import asyncio
import contextlib
import os
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest
from gunicorn.asgi import protocol

import server.protocol  # noqa: F401 - it mends what gunicorn's does
from persistence import migrator
from persistence.postgres.dsn import Dsn
from tests.faults.connections import Watch
from tests.support.processes import free_port
from tests.support.servers import PostgresServer, WebServer, eventually
from tests.support.sites import (
    POOL_MAX,
    WORKERS,
    Site,
    is_waiting_for_lock,
    locked_tasks,
    made_site,
    new_user,
    production,
    raw_post,
    states_of_connections,
)

STORM_SECONDS = float(os.environ.get("STORM_SECONDS", "3"))
"""Ten for the measure that was set."""


@pytest.fixture
def migrated_dsn(empty_dsn: Dsn) -> Dsn:
    migrator.migrate(empty_dsn)
    return empty_dsn


@pytest.fixture(scope="module")
def shared_web(server: Dsn, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with made_site(server, tmp_path_factory.mktemp("web")) as site:
        yield site


@pytest.fixture
def shared(shared_web: Site) -> Site:
    """For tests that leave the server as they found it, with a user for each."""
    return Site(shared_web.web, new_user(shared_web.dsn), shared_web.dsn)


@pytest.fixture
def site(migrated_dsn: Dsn, tmp_path: Path) -> Iterator[Site]:
    """For tests that stop or harm the server."""
    with production(migrated_dsn, tmp_path) as web:
        yield Site(web, new_user(migrated_dsn), migrated_dsn)


# Serving ---------------------------------------------------------------------------------------------------------


def test_a_task_lives_from_creation_to_deletion(shared: Site) -> None:
    created = shared.web.http.post(shared.tasks, json={"title": "Water the plants", "tags": ["Home"]})
    task = f"{shared.tasks}/{created.json()['id']}"
    changed = shared.web.http.patch(task, json={"completed": True})
    replaced = shared.web.http.put(task, json={"title": "Water the roses"})
    listed = shared.web.http.get(shared.tasks)
    deleted = shared.web.http.delete(task)
    missing = shared.web.http.get(task)

    assert [answer.status_code for answer in (created, changed, replaced, listed, deleted, missing)] == [
        201, 200, 200, 200, 200, 404,
    ]  # fmt: skip
    assert created.headers["Location"] == f"/api{task}"
    assert changed.json()["completed_at"] is not None
    assert listed.json() == {"items": [replaced.json()], "next_cursor": None}
    assert deleted.json() == replaced.json()
    assert shared.web.log.count("Booting worker") == WORKERS


def test_answers_carry_the_id_of_their_request(shared: Site) -> None:
    given = shared.web.http.get("/v1/live", headers={"X-Request-ID": "abc-123"})
    made = {shared.web.http.get("/v1/live").headers["X-Request-ID"] for _ in range(3)}

    assert given.headers["X-Request-ID"] == "abc-123"
    assert len(made) == 3


def test_a_body_over_the_limit_is_refused_however_it_is_sent(shared: Site) -> None:
    def in_chunks() -> Iterator[bytes]:
        for _ in range(100):
            yield b" " * 1024

    declared = shared.web.http.post(shared.tasks, json={"title": "x" * 70_000})
    chunked = shared.web.http.post(shared.tasks, content=in_chunks(), headers={"Content-Type": "application/json"})

    for answer in (declared, chunked):
        assert answer.status_code == 413
        assert answer.headers["Content-Type"] == "application/problem+json"


@pytest.mark.parametrize(
    "request_line", [b"NONSENSE", b"GET / HTTP/9.9", b"GET /api/v1/live HTTP/1.1\r\nBad Header: x"]
)
def test_what_is_no_http_is_refused_and_harms_nobody(request_line: bytes, shared: Site) -> None:
    with socket.create_connection(("127.0.0.1", shared.web.port), timeout=5) as client:
        client.sendall(request_line + b"\r\n\r\n")
        answer = client.recv(65536)

    assert answer.split(b" ", 2)[1][:1] in (b"4", b"5")
    assert shared.web.http.get("/v1/live").status_code == 200
    assert "Traceback" not in shared.web.log


def test_a_client_that_hangs_up_does_not_cancel_its_write(shared: Site) -> None:
    with locked_tasks(shared.dsn):
        for number in range(4):
            client = socket.create_connection(("127.0.0.1", shared.web.port))
            client.sendall(raw_post(shared.user, f"Hung up {number}"))
            eventually(lambda: is_waiting_for_lock(shared.dsn))
            if number % 2:
                # Closing with this option resets the connection instead of ending it politely.
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.close()
        time.sleep(0.5)

    eventually(lambda: shared.titles() == [f"Hung up {number}" for number in range(4)])
    assert set(states_of_connections(shared.dsn)) == {"idle"}
    assert "Traceback" not in shared.web.log


def test_clients_that_hang_up_before_their_request_is_whole_leave_nothing(shared: Site) -> None:
    whole = raw_post(shared.user, "Never sent")
    for end in (0, 10, whole.index(b"\r\n\r\n") + 4, len(whole) - 1):
        with socket.create_connection(("127.0.0.1", shared.web.port)) as client:
            client.sendall(whole[:end])
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    assert shared.web.http.post(shared.tasks, json={"title": "Sent"}).status_code == 201
    assert shared.titles() == ["Sent"]
    assert "Traceback" not in shared.web.log


@pytest.mark.slow
def test_a_worker_that_is_killed_is_replaced(site: Site) -> None:
    eventually(lambda: site.web.log.count("ASGI server listening") == WORKERS)
    victim = psutil.Process(site.web.process.pid).children()[0]
    victim.kill()
    victim.wait(10)

    eventually(lambda: site.web.log.count("ASGI server listening") == WORKERS + 1)
    assert all(site.web.http.get(site.tasks).status_code == 200 for _ in range(4))


# Load ------------------------------------------------------------------------------------------------------------


async def test_a_hundred_clients_meet_no_error_and_the_pools_keep_their_limit(shared: Site) -> None:
    statuses = Counter[int]()

    async def use(client: httpx.AsyncClient, until: float) -> None:
        while time.monotonic() < until:
            created = await client.post(shared.tasks, json={"title": "Storm"})
            task = f"{shared.tasks}/{created.json()['id']}"
            answers = [
                created,
                await client.get(task),
                await client.get(shared.tasks, params={"limit": 5}),
                await client.patch(task, json={"completed": True}),
                await client.delete(task),
            ]
            statuses.update(answer.status_code for answer in answers)

    limits = httpx.Limits(max_connections=100, max_keepalive_connections=100)
    with Watch(shared.dsn.conninfo) as watch:
        async with httpx.AsyncClient(base_url=f"{shared.web.url}/api", timeout=30, limits=limits) as client:
            until = time.monotonic() + STORM_SECONDS
            await asyncio.gather(*(use(client, until) for _ in range(100)))

    assert set(statuses) == {200, 201}
    assert statuses[201] >= 100
    assert watch.samples > 10
    assert watch.most <= WORKERS * POOL_MAX
    eventually(lambda: set(states_of_connections(shared.dsn)) == {"idle"})
    assert states_of_connections(shared.dsn).total() <= WORKERS * POOL_MAX
    assert shared.titles() == []


@pytest.mark.slow
async def test_a_thousand_clients_at_once_are_all_answered(shared: Site) -> None:
    request = b"GET /api/%s/tasks HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n" % str(shared.user).encode()

    async def ask(everybody: asyncio.Barrier) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", shared.web.port)
        await everybody.wait()
        writer.write(request)
        status_line = await reader.readline()
        await reader.read()
        writer.close()
        await writer.wait_closed()
        return status_line.split(b" ")[1]

    everybody = asyncio.Barrier(1000)
    statuses = await asyncio.gather(*(ask(everybody) for _ in range(1000)))

    assert Counter(statuses) == {b"200": 1000}
    eventually(lambda: set(states_of_connections(shared.dsn)) == {"idle"})


# Starting --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_command_line_overrides_the_number_of_workers(migrated_dsn: Dsn, tmp_path: Path) -> None:
    with production(migrated_dsn, tmp_path, "--workers", "1", WEB_CONCURRENCY="3") as web:
        assert web.log.count("Booting worker") == 1


def run_to_its_end(url: str, folder: Path, environment: str, workers: int = 1) -> tuple[WebServer, float]:
    """Starts a server that cannot start, and returns it with the seconds it took to say so."""
    web = WebServer(folder, {"ENVIRONMENT": environment, "DATABASE_URL": url}, "--workers", str(workers))
    started = time.monotonic()
    web.start()
    try:
        web.process.wait(60)
    finally:
        web.http.close()
        if web.process.poll() is None:
            web.process.kill()
    return web, time.monotonic() - started


def test_production_tries_five_more_times_then_fails_within_thirty_seconds(tmp_path: Path) -> None:
    url = f"postgresql://app:correct-horse@127.0.0.1:{free_port()}/todo"
    web, seconds = run_to_its_end(url, tmp_path, "production")

    assert web.process.returncode not in (None, 0)
    assert seconds < 30
    attempts = [line for line in web.log.splitlines() if "to reach the database failed" in line]
    assert [line.partition("Attempt ")[2][:6] for line in attempts] == [f"{number} of 6" for number in range(1, 6)]
    waits = [float(line.partition("the next is in ")[2].partition(" s")[0]) for line in attempts]
    # Exponential with jitter, up to a longest wait.
    assert waits[0] < waits[1] < waits[2] < waits[3]
    assert "No connection to the database app@127.0.0.1" in web.log
    assert "No server listens there" in web.log
    assert web.log.count("CRITICAL") == 1
    assert "Traceback" not in web.log
    assert "correct-horse" not in web.log


def test_several_workers_that_cannot_start_end_in_good_order(tmp_path: Path) -> None:
    web, _ = run_to_its_end(f"postgresql://app@127.0.0.1:{free_port()}/todo", tmp_path, "development", workers=4)

    assert web.process.returncode == 3
    assert web.log.count("Reason: Worker failed to boot.") == 1
    assert "Traceback" not in web.log


def test_the_date_of_answers_follows_a_clock_that_is_moved_back(monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.time()
    before = protocol._get_cached_date_header()
    monkeypatch.setattr(time, "time", lambda: now - 3600)

    assert protocol._get_cached_date_header() != before


def test_development_fails_at_once(tmp_path: Path) -> None:
    web, _ = run_to_its_end(f"postgresql://app@127.0.0.1:{free_port()}/todo", tmp_path, "development")

    assert web.process.returncode not in (None, 0)
    assert "Attempt" not in web.log
    assert "No server listens there" in web.log
    assert "Traceback" not in web.log


@pytest.mark.slow
def test_production_waits_for_a_database_that_comes_up_late(postgres: PostgresServer, tmp_path: Path) -> None:
    postgres.stop()
    web = WebServer(tmp_path, {"ENVIRONMENT": "production", "DATABASE_URL": postgres.url}, "--workers", "1")
    web.start()
    try:
        eventually(lambda: "Attempt 1 of 6" in web.log)
        postgres.start()
        web.wait_until_live()

        assert web.http.get("/v1/health").status_code == 200
        assert web.stop() == 0
    finally:
        web.http.close()
        if web.process.poll() is None:
            web.process.kill()
            web.process.wait()


@pytest.mark.slow
def test_production_starts_with_migrations_behind_and_says_so(empty_dsn: Dsn, tmp_path: Path) -> None:
    with production(empty_dsn, tmp_path) as web:
        health = web.http.get("/v1/health")
        eventually(lambda: web.log.count("ASGI server listening") == WORKERS)

        assert health.status_code == 200
        assert health.json()["data"] == {"status": "healthy", "database": "connected", "migration": "behind"}
        assert web.log.count("WARNING persistence.startup [-] The database is behind the code") == WORKERS
        assert "migrate_sql" in web.log


@pytest.mark.slow
def test_any_number_of_workers_may_migrate_at_the_start(empty_dsn: Dsn, tmp_path: Path) -> None:
    with production(empty_dsn, tmp_path, "--workers", "4", AUTO_MIGRATE="true") as web:
        eventually(lambda: web.log.count("ASGI server listening") == 4)

        assert web.http.get("/v1/health").json()["data"]["migration"] == "up-to-date"
        assert web.log.count("Migrated to") == len(migrator.revisions())
        assert web.log.count("Booting worker") == 4
        assert "ERROR" not in web.log


@pytest.mark.slow
def test_development_migrates_at_the_start(empty_dsn: Dsn, tmp_path: Path) -> None:
    with production(empty_dsn, tmp_path, ENVIRONMENT="development") as web:
        assert web.http.get("/v1/health").json()["data"]["migration"] == "up-to-date"


def test_a_crowd_of_clients_finds_room_to_wait(site: Site) -> None:
    workers = psutil.Process(site.web.process.pid).children()
    for worker in workers:
        worker.suspend()
    with contextlib.ExitStack() as stack:
        clients = [
            stack.enter_context(socket.create_connection(("127.0.0.1", site.web.port), timeout=5)) for _ in range(300)
        ]
        for worker in workers:
            worker.resume()
        for client in clients:
            client.sendall(b"GET /api/v1/live HTTP/1.1\r\nHost: test\r\n\r\n")
        assert all(client.recv(65536).startswith(b"HTTP/1.1 200") for client in clients)


# Stopping --------------------------------------------------------------------------------------------------------


def test_a_stop_lets_requests_finish_and_gives_every_connection_back(site: Site) -> None:
    def ask(answers: list[httpx.Response]) -> None:
        answers.append(site.web.http.post(site.tasks, json={"title": "In flight"}))

    answers: list[httpx.Response] = []
    request = threading.Thread(target=ask, args=[answers])
    with locked_tasks(site.dsn):
        request.start()
        eventually(lambda: is_waiting_for_lock(site.dsn))
        site.web.process.terminate()
        time.sleep(0.5)
        assert site.web.process.poll() is None
    request.join()

    assert site.web.process.wait(15) == 0
    assert [answer.status_code for answer in answers] == [201]
    assert site.titles() == ["In flight"]
    assert states_of_connections(site.dsn).total() == 0
    assert site.web.log.count("Worker exiting") == WORKERS
    assert "Traceback" not in site.web.log


def test_a_stop_may_come_while_workers_start(empty_dsn: Dsn, tmp_path: Path) -> None:
    migrator.migrate(empty_dsn)
    web = production(empty_dsn, tmp_path)
    web.start()
    eventually(lambda: web.log.count("Booting worker") == WORKERS)
    # They have forked and import the project, which takes them a while.
    time.sleep(0.2)

    assert web.stop() == 0
    assert web.log.count("Worker exiting") == WORKERS
    assert "Traceback" not in web.log


def test_clients_that_say_nothing_do_not_turn_a_stop_into_a_kill(site: Site) -> None:
    kept_alive = b"GET /api/v1/live HTTP/1.1\r\nHost: test\r\n\r\n"
    with contextlib.ExitStack() as stack:
        for said in (b"", b"GET /api/v1/li", kept_alive[:-4], kept_alive):
            client = stack.enter_context(socket.create_connection(("127.0.0.1", site.web.port)))
            client.sendall(said)
        assert client.recv(65536).startswith(b"HTTP/1.1 200")

        assert site.web.stop() == 0
        # It does not wait for them until its patience ends.
        assert "Forcing close" not in site.web.log
        # A worker that is killed says nothing and closes nothing.
        assert site.web.log.count("Worker exiting") == WORKERS
        assert "Traceback" not in site.web.log
