"""PostgreSQL goes away under a running gunicorn: clients hear 503 at once, and 200 again as soon as it is back."""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import Any
from uuid import UUID, uuid4

import httpx
import psutil
import psycopg
import pytest
from psycopg import sql

from persistence import migrator, users
from persistence.postgres import pool
from persistence.postgres.database import open_database
from persistence.postgres.dsn import Dsn
from persistence.postgres.options import DatabaseOptions, PoolLimits
from tests.support.servers import PostgresServer, WebServer, eventually

REQUEST_TIMEOUT = 1
POOL_MAX = 8
WORKERS = 2


@pytest.fixture
def web(postgres: PostgresServer, tmp_path: Path) -> Iterator[WebServer]:
    with serving(postgres.url, tmp_path) as web:
        yield web


def serving(url: str, folder: Path, **environment: str) -> WebServer:
    settings = {
        "DATABASE_URL": url,
        "ENVIRONMENT": "production",
        "REQUEST_TIMEOUT": str(REQUEST_TIMEOUT),
        "DATABASE_POOL_MIN": "2",
        "DATABASE_POOL_MAX": str(POOL_MAX),
    }
    return WebServer(folder, settings | environment, "--workers", str(WORKERS))


def new_user(postgres: PostgresServer) -> UUID:
    with psycopg.connect(postgres.dsn.conninfo, autocommit=True) as connection:
        user_id = uuid4()
        connection.execute("INSERT INTO users (id, email) VALUES (%s, %s)", [user_id, f"{user_id}@example.com"])
    return user_id


def backends(postgres: PostgresServer) -> list[tuple[str, str]]:
    """State and last statement of each connection of the application."""
    with psycopg.connect(postgres.dsn.conninfo) as connection:
        query = "SELECT state, query FROM pg_stat_activity WHERE application_name = 'todo'"
        return connection.execute(query).fetchall()


def connections(web: WebServer, postgres: PostgresServer) -> list[int]:
    """How many connections each worker has that has any, the fewest first."""
    counts = Counter[int]()
    for worker in psutil.Process(web.process.pid).children():
        with contextlib.suppress(psutil.Error):
            for connection in worker.net_connections("tcp"):
                if connection.status == psutil.CONN_ESTABLISHED and connection.raddr.port == postgres.port:
                    counts[worker.pid] += 1
    return sorted(counts.values())


def assert_no_connection_is_leaked(postgres: PostgresServer) -> None:
    eventually(lambda: all(state == "idle" for state, _ in backends(postgres)))
    assert len(backends(postgres)) <= WORKERS * POOL_MAX


def every_task_request(web: WebServer, user_id: UUID, task_id: UUID) -> list[tuple[str, httpx.Response, float]]:
    """Sends each kind of request at the same time, each on a connection of its own, with the seconds each took."""
    task = f"/{user_id}/tasks/{task_id}"
    requests: list[tuple[str, str, Any]] = [
        ("GET", f"/{user_id}/tasks", None),
        ("POST", f"/{user_id}/tasks", {"title": "During an outage"}),
        ("GET", task, None),
        ("PUT", task, {"title": "During an outage"}),
        ("PATCH", task, {"title": "During an outage"}),
        ("DELETE", task, None),
    ]

    def timed(request: tuple[str, str, Any]) -> tuple[str, httpx.Response, float]:
        method, path, body = request
        started = time.monotonic()
        answer = web.http.request(method, path, json=body)
        return method, answer, time.monotonic() - started

    with ThreadPoolExecutor(len(requests)) as threads:
        return list(threads.map(timed, requests))


def assert_is_503_problem(answer: httpx.Response) -> None:
    assert answer.status_code == 503
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert int(answer.headers["Retry-After"]) >= 1
    problem = answer.json()
    assert problem["type"] in ("urn:problem:todo:service-unavailable", "urn:problem:todo:outcome-unknown")
    assert problem["status"] == 503
    assert problem["title"]
    assert problem["detail"]


def assert_health_is_503(web: WebServer) -> None:
    answer = web.http.get("/v1/health")
    assert answer.status_code == 503
    body = answer.json()
    assert body["status_code"] == 503
    assert body["data"] == {"status": "unhealthy", "database": "disconnected", "migration": "unknown"}


def assert_live_is_200(web: WebServer) -> None:
    assert web.http.get("/v1/live", timeout=0.5).status_code == 200


def is_healthy(web: WebServer) -> bool:
    return web.http.get("/v1/health").status_code == 200


def all_workers_are_healthy(web: WebServer) -> bool:
    """Asks each worker while the others are suspended, as otherwise the kernel picks who answers."""
    workers = psutil.Process(web.process.pid).children()
    for worker in workers:
        others = [other for other in workers if other != worker]
        for other in others:
            other.suspend()
        try:
            if not is_healthy(web):
                return False
        finally:
            for other in others:
                other.resume()
    return True


def assert_tasks_work(web: WebServer, user_id: UUID) -> None:
    created = web.http.post(f"/{user_id}/tasks", json={"title": "Afterwards"})
    assert created.status_code == 201
    assert web.http.get(f"/{user_id}/tasks/{created.json()['id']}").json() == created.json()


def assert_never_restarted(web: WebServer) -> None:
    assert web.process.poll() is None
    assert web.log.count("Booting worker") == WORKERS
    assert "Traceback" not in web.log


def test_requests_get_503_at_once_while_postgresql_is_stopped_and_200_when_it_is_back(
    postgres: PostgresServer, tmp_path: Path
) -> None:
    # Of several idle connections that die together, none must keep a request waiting until its deadline.
    with serving(postgres.url, tmp_path, REQUEST_TIMEOUT="5", DATABASE_POOL_MIN="5") as web:
        user_id = new_user(postgres)
        assert_tasks_work(web, user_id)
        eventually(lambda: len(backends(postgres)) == 5 * WORKERS)

        postgres.stop()
        for method, answer, seconds in every_task_request(web, user_id, uuid4()):
            assert_is_503_problem(answer)
            assert seconds < 4.0, f"{method} took {seconds:.2f} s"
        assert_health_is_503(web)
        assert_live_is_200(web)

        postgres.start()
        eventually(lambda: all_workers_are_healthy(web))
        assert_tasks_work(web, user_id)
        assert_never_restarted(web)
        assert_no_connection_is_leaked(postgres)


def test_it_survives_postgresql_being_killed_outright(postgres: PostgresServer, web: WebServer) -> None:
    user_id = new_user(postgres)
    assert_tasks_work(web, user_id)

    postgres.kill()
    for _, answer, _ in every_task_request(web, user_id, uuid4()):
        assert_is_503_problem(answer)
    assert_health_is_503(web)
    assert_live_is_200(web)

    postgres.start()
    eventually(lambda: all_workers_are_healthy(web))
    assert_tasks_work(web, user_id)
    assert_never_restarted(web)
    assert_no_connection_is_leaked(postgres)


def test_a_frozen_postgresql_cannot_hold_requests_beyond_their_deadline(
    postgres: PostgresServer, web: WebServer
) -> None:
    user_id = new_user(postgres)
    assert_tasks_work(web, user_id)

    postgres.freeze()
    for method, answer, seconds in every_task_request(web, user_id, uuid4()):
        assert_is_503_problem(answer)
        assert seconds < REQUEST_TIMEOUT + 2, f"{method} took {seconds:.2f} s"
    started = time.monotonic()
    assert_health_is_503(web)
    assert time.monotonic() - started < 3.0
    assert_live_is_200(web)

    postgres.thaw()
    eventually(lambda: all_workers_are_healthy(web))
    assert_tasks_work(web, user_id)
    assert_never_restarted(web)
    assert_no_connection_is_leaked(postgres)


@pytest.mark.slow
def test_many_clients_of_a_frozen_postgresql_all_hear_503_and_live_stays_quick(
    postgres: PostgresServer, web: WebServer
) -> None:
    user_id = new_user(postgres)
    clients = 4 * WORKERS * POOL_MAX

    def timed(_: int) -> tuple[httpx.Response, float]:
        started = time.monotonic()
        return web.http.get(f"/{user_id}/tasks"), time.monotonic() - started

    postgres.freeze()
    with ThreadPoolExecutor(clients) as threads:
        answers = threads.map(timed, range(clients))
        time.sleep(REQUEST_TIMEOUT / 2)
        assert_live_is_200(web)
        for answer, seconds in answers:
            assert_is_503_problem(answer)
            assert seconds < REQUEST_TIMEOUT + 1.0

    postgres.thaw()
    eventually(lambda: all_workers_are_healthy(web))
    assert_tasks_work(web, user_id)
    assert_no_connection_is_leaked(postgres)


@pytest.mark.slow
async def test_a_restart_under_load_costs_only_503s_and_leaks_no_connection(
    postgres: PostgresServer, web: WebServer
) -> None:
    user_id = new_user(postgres)
    statuses: list[int] = []
    created: list[str] = []

    async def keep_creating(client: httpx.AsyncClient, until: asyncio.Event) -> None:
        while not until.is_set():
            answer = await client.post(f"{web.url}/api/{user_id}/tasks", json={"title": "Under load"})
            statuses.append(answer.status_code)
            if answer.status_code == 201:
                created.append(answer.json()["id"])
            elif answer.status_code == 503:
                assert_is_503_problem(answer)

    done = asyncio.Event()
    async with httpx.AsyncClient(timeout=30) as client, asyncio.TaskGroup() as group:
        for _ in range(30):
            group.create_task(keep_creating(client, done))
        await asyncio.sleep(0.5)
        await asyncio.to_thread(postgres.stop)
        await asyncio.sleep(0.3)
        await asyncio.to_thread(postgres.start)
        await asyncio.sleep(1.0)
        during_outage = len(created)
        await asyncio.sleep(0.5)
        done.set()

    assert set(statuses) == {201, 503}
    assert len(created) > during_outage, "no task was created after the restart"
    with psycopg.connect(postgres.dsn.conninfo) as connection:
        stored = {str(row[0]) for row in connection.execute("SELECT id FROM tasks WHERE user_id = %s", [user_id])}
    assert set(created) <= stored, "a task that was answered with 201 is lost"
    assert_never_restarted(web)
    assert_no_connection_is_leaked(postgres)


@contextlib.contextmanager
def role_of_its_own(postgres: PostgresServer, *options: str) -> Iterator[Callable[..., None]]:
    """The role `app`, to whom the server's limits apply as he is no superuser; yields a function that alters him."""
    with psycopg.connect(postgres.dsn.conninfo, autocommit=True) as connection:
        connection.execute("CREATE ROLE app LOGIN PASSWORD 'hunter2-first'")
        connection.execute("GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO app")

        def alter(change: str) -> None:
            connection.execute(sql.SQL(f"ALTER ROLE app {change}"))

        for option in options:
            alter(option)
        yield alter


def end_connections(postgres: PostgresServer) -> None:
    with psycopg.connect(postgres.dsn.conninfo) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid, 1000) FROM pg_stat_activity WHERE application_name = 'todo'"
        )


@pytest.mark.slow
def test_rotated_credentials_give_503_and_the_old_ones_work_again_when_restored(
    postgres: PostgresServer, tmp_path: Path
) -> None:
    user_id = new_user(postgres)
    (postgres.folder / "data" / "pg_hba.conf").write_text(
        "host all app 127.0.0.1/32 scram-sha-256\nhost all postgres 127.0.0.1/32 trust\nlocal all all trust\n"
    )
    postgres.stop()
    postgres.start()
    with (
        role_of_its_own(postgres) as alter,
        serving(postgres.url_of("app", "hunter2-first"), tmp_path) as web,
    ):
        assert_tasks_work(web, user_id)

        alter("PASSWORD 'hunter2-second'")
        end_connections(postgres)
        eventually(lambda: not is_healthy(web))
        for _, answer, _ in every_task_request(web, user_id, uuid4()):
            assert_is_503_problem(answer)
            assert "password" not in answer.text
        assert_live_is_200(web)
        assert "password authentication failed" in web.log

        alter("PASSWORD 'hunter2-first'")
        eventually(lambda: all_workers_are_healthy(web))
        assert_tasks_work(web, user_id)
        assert_never_restarted(web)
        assert "hunter2" not in web.log


@pytest.fixture
def crowded(postgres: PostgresServer, tmp_path: Path) -> Iterator[WebServer]:
    """The minimum of both pools together is four connections, and PostgreSQL gives three."""
    with (
        role_of_its_own(postgres, "CONNECTION LIMIT 3"),
        serving(postgres.url_of("app"), tmp_path, REQUEST_TIMEOUT="5") as web,
    ):
        yield web


@pytest.mark.slow
def test_a_server_with_few_connections_left_is_shared_without_an_error(
    postgres: PostgresServer, crowded: WebServer
) -> None:
    user_id, web = new_user(postgres), crowded
    with ThreadPoolExecutor(40) as threads:
        answers = list(threads.map(lambda _: web.http.get(f"/{user_id}/tasks"), range(200)))
        assert [answer.text for answer in answers if answer.status_code != 200] == []
        assert len(backends(postgres)) <= 3


@pytest.mark.slow
def test_a_worker_gets_a_connection_though_another_had_them_all_and_no_request_fails(
    postgres: PostgresServer, crowded: WebServer
) -> None:
    user_id, web = new_user(postgres), crowded
    with ThreadPoolExecutor(20) as threads:
        eventually(lambda: web.log.count("ASGI server listening") == WORKERS)
        eventually(lambda: len(connections(web, postgres)) == WORKERS)
        master = psutil.Process(web.process.pid)
        given_up = web.log.count("Giving up a connection")
        failures: list[str] = []
        stop = Event()

        def use() -> None:
            while not stop.is_set():
                with contextlib.suppress(httpx.TransportError):
                    answer = web.http.get(f"/{user_id}/tasks")
                    if answer.status_code != 200:
                        failures.append(answer.text)

        users = [threads.submit(use) for _ in range(20)]
        # It is replaced only when the other one has taken what it leaves.
        master.suspend()
        try:
            master.children()[0].kill()
            eventually(lambda: connections(web, postgres) == [3])
            master.resume()
            eventually(lambda: connections(web, postgres) == [1, 2])
            eventually(lambda: web.log.count("ASGI server listening") == WORKERS + 1)
            # Longer than the request for it is heard.
            time.sleep(2)
        finally:
            master.resume()
            stop.set()
        for each in users:
            each.result()

        assert failures == [], web.log
        assert web.log.count("Giving up a connection") == given_up + 1
        assert connections(web, postgres) == [1, 2]
        assert len(backends(postgres)) <= 3


@pytest.mark.slow
def test_dropped_tables_are_an_unexpected_failure_that_heals_after_migrating(
    postgres: PostgresServer, web: WebServer
) -> None:
    user_id = new_user(postgres)
    migrator.migrate(postgres.dsn, "base")

    answer = web.http.get(f"/{user_id}/tasks")
    health = web.http.get("/v1/health")

    assert answer.status_code == 500
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.headers["X-Request-ID"] in answer.json()["detail"]
    assert health.status_code == 200
    assert health.json()["data"]["migration"] == "behind"
    # Statements that were prepared before know the old tables, and must not fail because of that.
    migrator.migrate(postgres.dsn)
    assert_tasks_work(web, new_user(postgres))


async def test_a_check_that_succeeds_in_the_moment_of_its_timeout_does_not_lend_a_cut_connection(
    dsn: Dsn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "CHECK_AFTER_IDLE", -1.0)
    monkeypatch.setattr(pool, "CHECK_TIMEOUT", 0.05)
    loop = asyncio.get_running_loop()
    async with open_database(dsn, DatabaseOptions(limits=PoolLimits(min_size=1, max_size=1))) as database:
        for turns in range(20):
            # A busy event loop sees the answer to the check and the end of its time together.
            _call_after(loop, turns, lambda: time.sleep(0.1))
            assert await users.find(database, "nobody@example.com") is None


def _call_after(loop: asyncio.AbstractEventLoop, turns: int, function: Callable[[], None]) -> None:
    """Calls the function in a later turn of the event loop."""
    if turns:
        loop.call_soon(_call_after, loop, turns - 1, function)
    else:
        loop.call_soon(function)
