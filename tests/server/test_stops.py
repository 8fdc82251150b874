"""A stop: every request that has come is answered, every connection is closed, and no process has to be killed."""

import contextlib
import re
import signal
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import monotonic
from typing import Any

import httpx
import psutil
import pytest

from persistence.postgres.dsn import Dsn
from tests.support.processes import free_port
from tests.support.servers import LONG, WebServer, eventually
from tests.support.sites import WORKERS, Site, gated_site, locked, production, raw_post, running_site
from tests.support.sockets import LIVE, all_from, answer_from, answers_in, connect, reset_when_closed


def assert_stopped(site: Site, workers: int = 1) -> None:
    assert site.web.process.wait(LONG) == 0
    # A worker that is killed says nothing and closes nothing.
    assert site.web.log.count("Worker exiting") == workers
    assert site.connection_states().total() == 0
    site.assert_calm()


def has_stopped_listening(site: Site) -> bool:
    # It resets a connection that is being made while it closes, and refuses those that come later.
    with contextlib.suppress(ConnectionResetError, ConnectionRefusedError), connect(site.web.port):
        return False
    return True


def test_requests_that_come_after_a_stop_has_begun_are_answered(migrated_dsn: Dsn, tmp_path: Path) -> None:
    config = ("-c", "python:tests.support.patient", "--workers", "1")
    with running_site(migrated_dsn, tmp_path, *config) as site, contextlib.ExitStack() as stack:
        idle, silent, half, several = (stack.enter_context(connect(site.web.port)) for _ in range(4))
        idle.sendall(LIVE)
        half.sendall(LIVE[:20])
        assert answer_from(idle).status == 200
        with site.locked_tasks():
            several.sendall(raw_post(site.user, "First") + raw_post(site.user, "Second") + LIVE)
            eventually(lambda: site.waiting_for_locks() == 1)
            site.web.process.terminate()
            eventually(lambda: has_stopped_listening(site))
            for client, rest in ((idle, LIVE), (silent, LIVE), (half, LIVE[20:])):
                client.sendall(rest)
                [answer] = answers_in(all_from(client))
                assert answer.status == 200
                assert answer.headers[b"connection"] == b"close"
        answers = answers_in(all_from(several))

        assert [answer.status for answer in answers] == [201, 201, 200]
        assert [answer.headers.get(b"connection") for answer in answers] == [None, None, b"close"]
        assert_stopped(site)
        assert site.titles() == ["First", "Second"]


def test_a_write_whose_client_has_gone_is_finished_and_silent_clients_are_not_waited_for(
    migrated_dsn: Dsn, tmp_path: Path
) -> None:
    with running_site(migrated_dsn, tmp_path, "--workers", "1") as site, contextlib.ExitStack() as stack:
        with site.locked_tasks():
            gone = connect(site.web.port)
            gone.sendall(raw_post(site.user, "Left behind"))
            eventually(lambda: site.waiting_for_locks() == 1)
            reset_when_closed(gone)
            gone.close()
            silent = [stack.enter_context(connect(site.web.port)) for _ in range(4)]
            for client, said in zip(silent, (b"", LIVE[:14], LIVE[:-4], LIVE), strict=True):
                client.sendall(said)
            assert answer_from(silent[-1]).status == 200
            site.web.process.terminate()
            assert [all_from(client) for client in silent] == [b""] * 4
            # The worker counts the write, or it would cut off its connections to the database now.
            eventually(lambda: bool(re.search(r"Waiting for \d+ connections to finish", site.web.log)))
            eventually(lambda: site.connections_of_clients() == 0)
            assert site.web.process.poll() is None

        assert_stopped(site)
        assert site.titles() == ["Left behind"]


def test_a_stop_of_all_processes_in_the_middle_of_reloads_waits_for_no_new_worker(
    migrated_dsn: Dsn, tmp_path: Path
) -> None:
    # Longer than a test waits for a state.
    with gated_site(migrated_dsn, tmp_path, "--workers", "1", "--graceful-timeout", "600") as (site, gate):
        [old] = site.workers
        with locked(gate):
            for number in range(2, 7):
                site.web.process.send_signal(signal.SIGHUP)
                eventually(lambda number=number: site.web.log.count("At the gate") == number)  # type: ignore[misc] # mypy cannot tell
            # Of the new workers only the last one is awaited.
            eventually(lambda: len(site.workers) == 2)
            assert site.web.http.get(site.tasks).status_code == 200
            for process in (psutil.Process(site.web.process.pid), *site.workers):
                process.terminate()
            eventually(lambda: not old.is_running())

        assert_stopped(site, workers=6)


@pytest.mark.parametrize(
    "number",
    [
        signal.SIGTERM,
        pytest.param(signal.SIGINT, marks=pytest.mark.slow),
        pytest.param(signal.SIGQUIT, marks=pytest.mark.slow),
    ],
)
def test_a_signal_before_gunicorn_takes_any_ends_the_start(
    number: signal.Signals, migrated_dsn: Dsn, tmp_path: Path
) -> None:
    config = tmp_path / "config.py"
    config.write_text(
        "import os, signal\n"
        "from config import gunicorn\n"
        "from config.gunicorn import *\n"
        "def on_starting(server):\n"
        f"    os.kill(os.getpid(), {number.value})\n"
        "    gunicorn.on_starting(server)\n"
    )
    web = production(migrated_dsn, tmp_path, "-c", str(config))
    web.start()
    try:
        assert web.process.wait(LONG) == 0
    finally:
        web.end()
    assert "Booting worker" not in web.log
    assert "Traceback" not in web.log


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_a_start_without_a_database_ends_at_once(number: signal.Signals, tmp_path: Path) -> None:
    url = f"postgresql://app@127.0.0.1:{free_port()}/todo"
    # Nobody has to be told of a stop before anything serves.
    settings = {"ENVIRONMENT": "production", "AUTH_MODE": "trusted", "DATABASE_URL": url, "SHUTDOWN_DELAY": "60"}
    web = WebServer(tmp_path, settings, "--workers", "1", "--graceful-timeout", "600")
    web.start()
    try:
        eventually(lambda: "Attempt 1 of 6" in web.log)
        web.process.send_signal(number)
        assert web.process.wait(LONG) == 0
    finally:
        web.end()

    # It has not gone on with its attempts.
    assert "CRITICAL" not in web.log
    assert web.log.count("Worker exiting") == 1


@pytest.mark.slow
def test_a_worker_that_was_frozen_is_killed_in_the_end(migrated_dsn: Dsn, tmp_path: Path) -> None:
    with running_site(migrated_dsn, tmp_path, "--workers", "2", REQUEST_TIMEOUT="1") as site:
        frozen, _ = site.workers
        frozen.suspend()
        assert site.web.stop() == 0
        # Nobody reaps it where process 1 does not.
        eventually(lambda: not frozen.is_running() or frozen.status() == psutil.STATUS_ZOMBIE)
        assert site.web.log.count("Worker exiting") == 1


def ready(site: Site) -> int:
    return site.web.http.get("/v1/ready").status_code


def test_after_the_signal_a_server_is_not_ready_and_serves_everything_until_the_stop(
    migrated_dsn: Dsn, tmp_path: Path
) -> None:
    # Only another signal ends it so soon.
    with running_site(migrated_dsn, tmp_path, SHUTDOWN_DELAY="60") as site:
        eventually(lambda: site.listening == 2)
        assert ready(site) == 200
        for _ in range(2):
            # A second one changes nothing.
            site.web.process.terminate()
            eventually(lambda: ready(site) == 503)
        # A worker that dies is replaced.
        died, _ = site.workers
        died.kill()
        eventually(lambda: site.listening == 3)
        for _ in range(10):
            assert site.web.http.post(site.tasks, json={"title": "Buy milk"}).status_code == 201
            assert ready(site) == 503
        site.web.process.send_signal(signal.SIGINT)
        assert site.web.process.wait(LONG) == 0


@pytest.mark.slow
def test_under_load_no_client_is_refused_between_the_signal_and_the_stop(migrated_dsn: Dsn, tmp_path: Path) -> None:
    delay = 2.0
    with running_site(migrated_dsn, tmp_path, SHUTDOWN_DELAY=str(delay)) as site:

        def ask_until_refused(number: int) -> tuple[float, Counter[int]]:
            statuses = Counter[int]()
            try:
                while True:
                    answer = site.web.http.request(
                        "POST" if number else "GET", site.tasks if number else "/v1/ready", json={"title": "Buy milk"}
                    )
                    statuses[answer.status_code] += 1
            except httpx.TransportError:
                return monotonic(), statuses

        with ThreadPoolExecutor(4) as pool:
            clients = [pool.submit(ask_until_refused, number) for number in range(4)]
            eventually(lambda: len(site.titles()) > 10)
            signalled = monotonic()
            site.web.process.terminate()
            (refused_at, probes), *others = [client.result() for client in clients]
        assert_stopped(site, workers=WORKERS)

    assert min([refused_at, *(at for at, _ in others)]) >= signalled + delay
    assert probes.keys() == {200, 503}
    assert {status for _, statuses in others for status in statuses} == {201}


class InstalledServer(WebServer):
    """gunicorn as its package installs it. It cannot start a second one after `python -m gunicorn`."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._command[:3] = [str(Path(sys.executable).with_name("gunicorn"))]


@pytest.mark.slow
def test_beside_a_second_server_on_the_same_socket_the_old_one_ends_without_a_delay(
    migrated_dsn: Dsn, tmp_path: Path
) -> None:
    with running_site(migrated_dsn, tmp_path, "--workers", "1", kind=InstalledServer, SHUTDOWN_DELAY="60") as site:
        [worker] = site.workers
        site.web.process.send_signal(signal.SIGUSR2)
        eventually(lambda: site.listening == 2)
        [second] = [process for process in site.workers if process != worker]
        try:
            assert site.web.stop() == 0
            assert not worker.is_running()
            eventually(lambda: ready(site) == 200)
        finally:
            second.send_signal(signal.SIGINT)
            second.wait(LONG)
        assert "Not ready from now on" not in site.web.log
