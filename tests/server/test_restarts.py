"""Reloads, stops and crashes, as clients see them: hardly at all."""

import asyncio
import signal
import socket
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from persistence import migrator
from persistence.postgres.dsn import Dsn
from tests.faults.http import Http
from tests.support.servers import PostgresServer, eventually
from tests.support.sites import WORKERS, Site, is_waiting_for_lock, locked_tasks, new_user, production, raw_post
from tests.support.sockets import all_from, answer_from, answers_in, connect

LIVE = b"GET /api/v1/live HTTP/1.1\r\nHost: test\r\n\r\n"


@pytest.fixture
def site(empty_dsn: Dsn, tmp_path: Path) -> Iterator[Site]:
    migrator.migrate(empty_dsn)
    with production(empty_dsn, tmp_path) as web:
        site = Site(web, new_user(empty_dsn), empty_dsn)
        eventually(lambda: listening(site) == WORKERS)
        yield site


def listening(site: Site) -> int:
    """How many workers have ever been ready."""
    return site.web.log.count("ASGI server listening")


def reload(site: Site) -> None:
    """Asks for new workers and waits until they have replaced the old ones."""
    old, before = {worker.pid for worker in site.workers}, listening(site)
    site.web.process.send_signal(signal.SIGHUP)
    eventually(lambda: listening(site) == before + WORKERS)
    eventually(lambda: not old & {worker.pid for worker in site.workers})


def assert_calm(site: Site) -> None:
    assert not any(word in site.web.log for word in ("Traceback", "WARNING", "ERROR", "CRITICAL", "Forcing close"))


async def test_a_reload_fails_no_request(site: Site) -> None:
    statuses, stop = Counter[int](), asyncio.Event()

    async def use(*, keeps: bool) -> None:
        client = Http(site.web.port)
        while not stop.is_set():
            answer = await client.request("GET", f"/api{site.tasks}")
            statuses[answer.status] += 1
            if not keeps:
                client.close()
        client.close()

    crowd = [asyncio.create_task(use(keeps=number % 4 > 0)) for number in range(12)]
    for _ in range(2):
        await asyncio.to_thread(reload, site)
    stop.set()
    await asyncio.gather(*crowd)

    assert set(statuses) == {200}
    assert statuses[200] > 100
    assert_calm(site)


def test_old_workers_serve_until_new_ones_do(site: Site) -> None:
    old = {worker.pid for worker in site.workers}
    site.web.process.send_signal(signal.SIGHUP)
    eventually(lambda: len(site.workers) == 2 * WORKERS)
    new = [worker for worker in site.workers if worker.pid not in old]
    for worker in new:
        worker.suspend()
    time.sleep(1)

    assert all(site.web.http.get("/v1/live").status_code == 200 for _ in range(10))
    assert listening(site) == WORKERS

    for worker in new:
        worker.resume()
    eventually(lambda: not old & {worker.pid for worker in site.workers})
    assert all(site.web.http.get("/v1/live").status_code == 200 for _ in range(10))
    assert_calm(site)


def test_a_stop_does_not_wait_for_workers_that_will_not_come(site: Site) -> None:
    site.web.process.send_signal(signal.SIGHUP)
    eventually(lambda: len(site.workers) == 2 * WORKERS)
    site.web.process.send_signal(signal.SIGTERM)

    assert site.web.process.wait(30) == 0
    assert "Traceback" not in site.web.log


def test_requests_that_come_just_after_a_stop_has_begun_are_answered(site: Site) -> None:
    with connect(site.web.port) as idle, connect(site.web.port) as silent, connect(site.web.port) as half:
        idle.sendall(LIVE)
        assert answer_from(idle).status == 200
        half.sendall(LIVE[:20])
        # They must have been accepted.
        time.sleep(0.3)
        site.web.process.terminate()
        time.sleep(0.3)
        idle.sendall(LIVE)
        silent.sendall(LIVE)
        half.sendall(LIVE[20:])
        answers = [answers_in(all_from(client)) for client in (idle, silent, half)]

    for [answer] in answers:
        assert answer.status == 200
        assert answer.headers[b"connection"] == b"close"
    assert site.web.process.wait(30) == 0
    assert_calm(site)


def test_requests_that_came_together_are_all_answered_in_a_stop(site: Site) -> None:
    with connect(site.web.port) as client:
        with locked_tasks(site.dsn):
            client.sendall(raw_post(site.user, "First") + raw_post(site.user, "Second") + LIVE)
            eventually(lambda: is_waiting_for_lock(site.dsn))
            site.web.process.terminate()
            time.sleep(0.3)
        answers = answers_in(all_from(client))

    assert [answer.status for answer in answers] == [201, 201, 200]
    assert [answer.headers.get(b"connection") for answer in answers] == [None, None, b"close"]
    assert site.web.process.wait(30) == 0
    assert site.titles() == ["First", "Second"]
    assert_calm(site)


def test_a_write_whose_client_has_gone_is_finished_before_a_stop(site: Site) -> None:
    with locked_tasks(site.dsn):
        client = connect(site.web.port)
        client.sendall(raw_post(site.user, "Left behind"))
        eventually(lambda: is_waiting_for_lock(site.dsn))
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        client.close()
        time.sleep(0.2)
        site.web.process.terminate()
        # Longer than clients are waited for that send nothing.
        time.sleep(2)
        assert site.web.process.poll() is None

    assert site.web.process.wait(30) == 0
    assert site.titles() == ["Left behind"]
    assert_calm(site)


def test_a_worker_that_replaces_another_needs_no_database_to_start(postgres: PostgresServer, tmp_path: Path) -> None:
    with production(postgres.dsn, tmp_path, DATABASE_URL=postgres.url) as web:
        eventually(lambda: web.log.count("ASGI server listening") == WORKERS)
        postgres.stop()
        workers = psutil.Process(web.process.pid).children()
        for worker in workers:
            worker.kill()
        eventually(lambda: web.log.count("ASGI server listening") == 2 * WORKERS)

        assert web.http.get("/v1/live").status_code == 200
        assert web.http.get("/v1/health").status_code == 503
        postgres.start()
        eventually(lambda: web.http.get("/v1/health").status_code == 200)
        assert web.process.poll() is None
