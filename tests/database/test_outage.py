"""PostgreSQL goes away under a running gunicorn: clients get 503, and are served as soon as it is back."""

import contextlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import psutil
import psycopg
import pytest

from tests.support.databases import as_owner, new_user
from tests.support.servers import PostgresServer, WebServer, eventually

POOL_MAX = 8
WORKERS = 2


def states_of_connections(postgres: PostgresServer) -> list[str]:
    with psycopg.connect(as_owner(postgres.dsn).conninfo) as connection:
        query = "SELECT state FROM pg_stat_activity WHERE application_name = 'todo'"
        return [state for (state,) in connection.execute(query)]


def every_task_request(web: WebServer, user_id: UUID) -> list[httpx.Response]:
    """Sends each kind of request at the same time, each on a connection of its own."""
    tasks, task = f"/{user_id}/tasks", f"/{user_id}/tasks/{uuid4()}"
    body = {"title": "During an outage"}
    requests: list[tuple[str, str, Any]] = [
        ("GET", tasks, None), ("POST", tasks, body), ("GET", task, None),
        ("PUT", task, body), ("PATCH", task, body), ("DELETE", task, None),
    ]  # fmt: skip
    with ThreadPoolExecutor(len(requests)) as threads:
        return list(threads.map(lambda request: web.http.request(*request[:2], json=request[2]), requests))


def all_workers_are_healthy(web: WebServer) -> bool:
    """Asks each worker while the others are suspended, as otherwise the kernel picks the worker that answers."""
    workers = psutil.Process(web.process.pid).children()
    for worker in workers:
        with contextlib.ExitStack() as stack:
            for other in workers:
                if other != worker:
                    other.suspend()
                    stack.callback(other.resume)
            if web.http.get("/v1/health").status_code != 200:
                return False
    return True


def assert_tasks_work(web: WebServer, user_id: UUID) -> None:
    created = web.http.post(f"/{user_id}/tasks", json={"title": "Buy milk"})
    assert created.status_code == 201
    assert web.http.get(f"/{user_id}/tasks/{created.json()['id']}").json() == created.json()


@pytest.mark.parametrize(
    ("fault", "repair", "request_timeout"),
    [
        # A client gives up before a request that waits until its deadline is answered.
        (PostgresServer.stop, PostgresServer.start, 60),
        pytest.param(PostgresServer.kill, PostgresServer.start, 60, marks=pytest.mark.slow),
        pytest.param(PostgresServer.freeze, PostgresServer.thaw, 3, marks=pytest.mark.slow),
    ],
    ids=["stopped", "killed", "frozen"],
)
def test_requests_get_503_while_postgresql_is_away_and_200_when_it_is_back(
    postgres: PostgresServer,
    tmp_path: Path,
    fault: Callable[[PostgresServer], None],
    repair: Callable[[PostgresServer], None],
    request_timeout: int,
) -> None:
    user_id = new_user(postgres.dsn)
    settings = {
        "DATABASE_URL": postgres.url, "DATABASE_POOL_MIN": "2", "DATABASE_POOL_MAX": str(POOL_MAX),
        "ENVIRONMENT": "production", "AUTH_MODE": "trusted", "REQUEST_TIMEOUT": str(request_timeout),
    }  # fmt: skip
    with WebServer(tmp_path, settings, "--workers", str(WORKERS)) as web:
        assert_tasks_work(web, user_id)
        eventually(lambda: len(states_of_connections(postgres)) >= 2 * WORKERS, 60)
        fault(postgres)
        for answer in every_task_request(web, user_id):
            assert answer.status_code == answer.json()["status"] == 503
            assert answer.headers["Content-Type"] == "application/problem+json"
            assert answer.json()["type"].removeprefix("urn:problem:todo:") in {"service-unavailable", "outcome-unknown"}
            assert int(answer.headers["Retry-After"]) >= 1
        health = web.http.get("/v1/health")
        assert health.status_code == health.json()["status_code"] == 503
        assert health.json()["data"] == {"status": "unhealthy", "database": "disconnected", "migration": "unknown"}
        assert web.http.get("/v1/live").status_code == 200
        repair(postgres)
        eventually(lambda: all_workers_are_healthy(web), 60)
        assert_tasks_work(web, user_id)
        assert web.process.poll() is None
        assert web.log.count("Booting worker") == WORKERS
        assert "Traceback" not in web.log
        eventually(lambda: set(states_of_connections(postgres)) == {"idle"}, 60)
        assert len(states_of_connections(postgres)) <= WORKERS * POOL_MAX
