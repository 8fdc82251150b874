"""A reload takes new code, and its clients do not notice."""

import asyncio
import json
import re
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import psutil
import pytest

from persistence.postgres.dsn import Dsn
from server.master import PACKAGES
from tests.docs.pages import DOCS, section
from tests.faults.http import Http
from tests.support.processes import clean_environment
from tests.support.servers import ROOT, PostgresServer, copy_project, eventually
from tests.support.sites import WORKERS, gated_site, locked, production, running_site

IN_THE_MASTER = {
    "config", "config.env", "config.gunicorn",
    "server", "server.limits", "server.log_format", "server.log_stream", "server.master", "server.options",
    "server.shared_metrics", "server.shared_state", "server.worker",
    "identity", "identity.options",
    "persistence", "persistence.location", "persistence.postgres", "persistence.postgres.dsn",
    "persistence.postgres.libpq", "persistence.postgres.options",
}  # fmt: skip
ONLY_IN_DEVELOPMENT = {"persistence.development", "persistence.development.embedded_postgres"}
NEW_AFTER_A_RELOAD = (
    "config.asgi", "server.protocol", "server.clients", "server.responses", "server.parser", "web.handler",
    "web.problems", "todos.api", "persistence.tasks", "persistence.postgres.pool",
)  # fmt: skip

AS_THE_MASTER_AND_THEN_A_WORKER = f"""
import json, sys
from collections import Counter
from gunicorn.app.wsgiapp import WSGIApplication
from gunicorn.arbiter import Arbiter

def ours(names):
    return [name for name in names if name.partition(".")[0] in {PACKAGES}]

def subclasses(cls):
    for each in cls.__subclasses__():
        yield f"{{each.__module__}}.{{each.__qualname__}}"
        yield from subclasses(each)

sys.argv = ["gunicorn", "-c", "python:config.gunicorn"]
arbiter = Arbiter(WSGIApplication(prog="gunicorn"))
arbiter.cfg.on_starting(arbiter)
in_the_master = ours(sys.modules)
import config.asgi, server.clients, server.gunicorn_internals
exceptions = Counter(ours(subclasses(BaseException)))
arbiter.cfg.on_exit(arbiter)
print(json.dumps([in_the_master, ours(sys.modules), exceptions]))
"""


def test_the_page_names_each_module_that_no_reload_renews() -> None:
    listed = re.findall(r"`(\w+/[\w/]+)\.py`", section(DOCS / "server.md", "Signals"))

    assert {name.replace("/", ".") for name in listed} == {
        name for name in IN_THE_MASTER if (ROOT / f"{name.replace('.', '/')}.py").exists()
    }


def test_the_master_loads_no_code_that_a_reload_should_renew(run_folder: Path, server: Dsn) -> None:
    variables = {"ENVIRONMENT": "development", "DATABASE_URL": f"embedded://{run_folder / 'postgres'}"}
    process = subprocess.run(
        [sys.executable, "-c", AS_THE_MASTER_AND_THEN_A_WORKER],
        cwd=ROOT, env=clean_environment() | variables, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert process.returncode == 0, process.stderr
    in_the_master, in_a_worker, exceptions = json.loads(process.stdout)

    assert set(in_the_master) == IN_THE_MASTER | ONLY_IN_DEVELOPMENT
    assert set(NEW_AFTER_A_RELOAD) <= set(in_a_worker)
    # A handler for one copy of a class does not catch an error of another copy.
    assert {"todos.errors.Problem", "persistence.postgres.errors.Unavailable"} <= exceptions.keys()
    assert set(exceptions.values()) == {1}


def test_every_package_of_the_server_is_watched() -> None:
    packages = {file.parent.name for file in ROOT.glob("[a-z]*/*.py")}
    assert set(PACKAGES) == packages - {"benchmarks", "examples", "scripts", "tests"}


async def test_a_reload_takes_new_code_and_fails_no_request(migrated_dsn: Dsn, tmp_path: Path) -> None:
    project = copy_project(tmp_path / "project")
    statuses, stop = Counter[int](), asyncio.Event()

    async def use(*, keeps: bool) -> None:
        client = Http(site.web.port)
        while not stop.is_set():
            statuses[(await client.request("GET", f"/api{site.tasks}")).status] += 1
            if not keeps:
                client.close()
            await asyncio.sleep(0.05)
        client.close()

    async def serves_on() -> None:
        wanted = statuses.total() + 50
        await asyncio.to_thread(eventually, lambda: statuses.total() >= wanted)

    with gated_site(migrated_dsn, tmp_path, "--workers", str(WORKERS), project=project) as (site, gate):
        eventually(lambda: site.listening == WORKERS)
        old = {worker.pid for worker in site.workers}
        crowd = [asyncio.create_task(use(keeps=number % 4 > 0)) for number in range(8)]
        for name in (*NEW_AFTER_A_RELOAD, "config.env", "server.worker", "persistence.postgres.dsn"):
            file = project / f"{name.replace('.', '/')}.py"
            file.write_text(f"{file.read_text()}\nprint('New: {name}', flush=True)\n")
        with locked(gate):
            site.web.process.send_signal(signal.SIGHUP)
            await asyncio.to_thread(eventually, lambda: site.web.log.count("At the gate") == 2 * WORKERS)
            # The new workers cannot serve yet.
            await serves_on()
        await asyncio.to_thread(eventually, lambda: not old & {worker.pid for worker in site.workers})
        await serves_on()
        stop.set()
        await asyncio.gather(*crowd)

    assert set(statuses) == {200}
    site.assert_calm()
    new = Counter(line.removeprefix("New: ") for line in site.web.log.splitlines() if line.startswith("New: "))
    assert new == dict.fromkeys(NEW_AFTER_A_RELOAD, WORKERS)


def test_the_master_takes_signals_while_a_reload_waits_for_new_workers(migrated_dsn: Dsn, tmp_path: Path) -> None:
    def tell(number: signal.Signals) -> None:
        line = f"Handling signal: {number.name.removeprefix('SIG').lower()}"
        times = site.web.log.count(line)
        site.web.process.send_signal(number)
        eventually(lambda: site.web.log.count(line) > times)

    # Longer than a test waits for a state.
    with gated_site(migrated_dsn, tmp_path, "--workers", "1", "--graceful-timeout", "600") as (site, gate):
        [old] = site.workers
        with locked(gate):
            tell(signal.SIGHUP)
            # The first one asks for as many as there are.
            tell(signal.SIGTTIN)
            tell(signal.SIGTTIN)
            eventually(lambda: site.started == 3)
            tell(signal.SIGTTOU)
            assert site.web.http.get(site.tasks).status_code == 200
            assert old.is_running()
        eventually(lambda: not old.is_running())
        eventually(lambda: site.listening == 3)
        tell(signal.SIGTTOU)
        eventually(lambda: len(site.workers) == 1)
        assert site.web.http.get(site.tasks).status_code == 200
        assert site.web.stop() == 0

    site.assert_calm()


@pytest.mark.slow
async def test_a_worker_that_has_answered_its_requests_is_replaced_and_no_request_fails(
    migrated_dsn: Dsn, tmp_path: Path
) -> None:
    answers, stop = Counter[tuple[int, bool]](), asyncio.Event()

    async def use(*, keeps: bool) -> None:
        client = Http(site.web.port)
        while not stop.is_set():
            answer = await client.request("GET", f"/api{site.tasks}")
            answers[answer.status, keeps] += 1
            if not keeps:
                client.close()
        client.close()

    options = ("--workers", "1", "--max-requests", "200", "--max-requests-jitter", "50")
    with running_site(migrated_dsn, tmp_path, *options) as site:
        crowd = [asyncio.create_task(use(keeps=number % 4 > 0)) for number in range(8)]
        await asyncio.to_thread(eventually, lambda: site.web.log.count("Worker exiting") >= 3)
        stop.set()
        await asyncio.gather(*crowd)
        assert await asyncio.to_thread(site.web.stop) == 0

    assert set(answers) == {(200, True), (200, False)}
    site.assert_calm()


def test_a_worker_that_replaces_another_needs_no_database_to_start(postgres: PostgresServer, tmp_path: Path) -> None:
    with production(postgres.dsn, tmp_path, "--workers", "1", DATABASE_URL=postgres.url) as web:
        postgres.stop()
        [worker] = psutil.Process(web.process.pid).children()
        worker.kill()
        eventually(lambda: web.log.count("ASGI server listening") == 2)

        assert web.http.get("/v1/live").status_code == 200
        assert web.http.get("/v1/health").status_code == 503
        postgres.start()
        eventually(lambda: web.http.get("/v1/health").status_code == 200)
        assert web.process.poll() is None
