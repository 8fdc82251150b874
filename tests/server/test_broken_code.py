"""Code that cannot be loaded, such as a deployment that is copied by half: workers that serve go on."""

import re
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest

from persistence.development import embedded_postgres
from persistence.postgres.dsn import Dsn
from tests.support.databases import temporary_database
from tests.support.servers import LONG, WebServer, copy_project, eventually
from tests.support.sites import WORKERS, Site, production, running_site

CONFIG = "from config.gunicorn import *\n"
FAILED = "A worker could not start"
PAUSE = re.compile(rf"{FAILED}.* after (\d+) s")


@contextmanager
def site_of(dsn: Dsn, folder: Path, *arguments: str) -> Iterator[tuple[Site, Path]]:
    """A server whose code a test may break."""
    project = copy_project(folder / "project")
    with running_site(dsn, folder, *arguments, project=project) as site:
        eventually(lambda: site.listening == WORKERS)
        yield site, project


class Shared(NamedTuple):
    """A server for tests that mend all they break, its code, its configuration, and its log before the test."""

    site: Site
    project: Path
    config: Path
    before: str = ""

    @property
    def log(self) -> str:
        """The lines since the test began."""
        return self.site.web.log.removeprefix(self.before)


@pytest.fixture(scope="module")
def server_of_all(server: Dsn, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shared]:
    folder = tmp_path_factory.mktemp("shared")
    (config := folder / "gunicorn_here.py").write_text(CONFIG)
    with temporary_database(server, template) as dsn, site_of(dsn, folder, "-c", str(config)) as (site, project):
        yield Shared(site, project, config)
        assert site.web.stop() == 0


@pytest.fixture
def shared(server_of_all: Shared) -> Iterator[Shared]:
    shared = server_of_all._replace(before=server_of_all.site.web.log)
    yield shared
    serve_on(shared.site, WORKERS)


type Fault = Callable[[Path], Callable[[], object]]


def add(text: str, *place: str) -> Fault:
    """Adds text to a file of the project, or makes the file; gives a function that mends it."""

    def add_to(project: Path) -> Callable[[], object]:
        file = project.joinpath(*place)
        if not file.exists():
            file.write_text(text)
            return file.unlink
        before = file.read_text()
        file.write_text(before + text)
        return partial(file.write_text, before)

    return add_to


NOWHERE = add("\nfrom todos.nowhere import nothing\n", "todos", "api.py")
CRASH = "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)"
slow = pytest.mark.slow
each_fault = pytest.mark.parametrize(
    "break_it",
    [
        pytest.param(NOWHERE, id="import"),
        pytest.param(add("\ndef half(", "persistence", "tasks.py"), id="syntax", marks=slow),
        pytest.param(add("\nraise SystemExit('it ends itself')\n", "web", "handler.py"), id="exit", marks=slow),
        pytest.param(add(f"\n{CRASH}\n", "web", "handler.py"), id="crash", marks=slow),
        pytest.param(add("\ndef half(", "migrations", "versions", "0099_half.py"), id="migration", marks=slow),
    ],
)


def serve_on(site: Site, number: int) -> None:
    assert len(site.workers) == number
    for _ in range(20):
        assert site.web.http.get(site.tasks).status_code == 200


@each_fault
def test_a_reload_that_fails_leaves_the_workers_serving_and_a_later_one_takes_the_mended_code(
    break_it: Fault, shared: Shared
) -> None:
    site = shared.site
    old = {worker.pid for worker in site.workers}
    mend = break_it(shared.project)
    site.web.process.send_signal(signal.SIGHUP)
    eventually(lambda: "The reload has failed" in shared.log)
    eventually(lambda: len(site.workers) == WORKERS)
    serve_on(site, WORKERS)
    assert {worker.pid for worker in site.workers} == old

    mend()
    site.web.process.send_signal(signal.SIGHUP)
    eventually(lambda: not old & {worker.pid for worker in site.workers})


@each_fault
def test_a_worker_that_dies_is_replaced_as_soon_as_the_code_is_mended_and_the_others_serve_meanwhile(
    break_it: Fault, shared: Shared
) -> None:
    site, listening = shared.site, shared.site.listening
    mend = break_it(shared.project)
    site.workers[0].kill()
    eventually(lambda: shared.log.count(FAILED) == 2)
    assert site.web.http.get(site.tasks).status_code == 200

    mend()
    eventually(lambda: site.listening == listening + 1)
    assert [int(pause) for pause in PAUSE.findall(shared.log)][:2] == [1, 2]


@slow
def test_when_all_have_died_one_at_a_time_tries_until_the_code_is_mended(migrated_dsn: Dsn, tmp_path: Path) -> None:
    with site_of(migrated_dsn, tmp_path) as (site, project):
        mend = add("\nraise RuntimeError\n", "todos", "api.py")(project)
        for worker in site.workers:
            worker.kill()
        eventually(lambda: site.web.log.count(FAILED) == 3)
        # Those that take the place of the first two, and then one after the other.
        assert site.web.log.count("Booting worker") <= 2 * WORKERS + 3

        mend()
        eventually(lambda: site.listening == 2 * WORKERS)
        serve_on(site, WORKERS)
        assert site.web.stop() == 0


def test_settings_that_are_wrong_at_a_reload_change_nothing(shared: Shared) -> None:
    site = shared.site
    old = {worker.pid for worker in site.workers}
    for number, text in enumerate(("half(", "workers = 'many'", "threads = 4"), 1):
        shared.config.write_text(f"{CONFIG}{text}\n")
        site.web.process.send_signal(signal.SIGHUP)
        eventually(lambda number=number: shared.log.count("Nothing is reloaded") == number)  # type: ignore[misc] # mypy cannot tell
        reason = shared.log.rpartition("settings cannot be used: ")[2]
        assert reason.startswith(("the reason is above", "--threads"))
        serve_on(site, WORKERS)
    assert {worker.pid for worker in site.workers} == old

    # Our own settings are read at the start only.
    shared.config.write_text(CONFIG)
    settings = shared.project / ".env"
    settings.write_text("DATABASE_POOL_MAX=nonsense\n")
    site.web.process.send_signal(signal.SIGHUP)
    eventually(lambda: not old & {worker.pid for worker in site.workers})
    settings.unlink()


@slow
def test_a_worker_that_has_answered_its_requests_serves_on_and_one_at_a_time_tries_until_the_code_is_mended(
    migrated_dsn: Dsn, tmp_path: Path
) -> None:
    with site_of(migrated_dsn, tmp_path, "--max-requests", "20") as (site, project):
        old = {worker.pid for worker in site.workers}
        mend = add("\nraise RuntimeError\n", "todos", "api.py")(project)
        for _ in range(20 * WORKERS):
            assert site.web.http.get(site.tasks).status_code == 200
        eventually(lambda: site.web.log.count(FAILED) >= 4)
        # The first ones, those of the reload, and then one after the other.
        assert site.web.log.count("Booting worker") <= 2 * WORKERS + 4
        assert old <= {worker.pid for worker in site.workers}
        assert site.web.http.get(site.tasks).status_code == 200

        mend()
        eventually(lambda: not old & {worker.pid for worker in site.workers})
        eventually(lambda: len(site.workers) == WORKERS)
        serve_on(site, WORKERS)
        assert site.web.stop() == 0


@slow
def test_after_a_renewal_a_reload_that_fails_is_not_tried_again_nor_are_settings_that_cannot_be_used(
    migrated_dsn: Dsn, tmp_path: Path
) -> None:
    config = tmp_path / "gunicorn_here.py"
    config.write_text(ours := "from config.gunicorn import *\n")
    with site_of(migrated_dsn, tmp_path, "--max-requests", "100", "-c", str(config)) as (site, project):

        def wear_out(renewals: int) -> None:
            while site.web.log.count("A worker has answered as many") < renewals:
                assert site.web.http.get(site.tasks).status_code == 200

        wear_out(1)
        eventually(lambda: site.listening == 2 * WORKERS and len(site.workers) == WORKERS)
        mend = NOWHERE(project)
        site.web.process.send_signal(signal.SIGHUP)
        eventually(lambda: "The reload has failed" in site.web.log)
        mend()
        time.sleep(4)
        serve_on(site, WORKERS)
        assert site.web.log.count("Booting worker") == 3 * WORKERS

        config.write_text(f"{ours}threads = 4\n")
        wear_out(2)
        time.sleep(4)
        assert site.web.log.count("Nothing is reloaded") == 1
        assert site.web.stop() == 0


@pytest.mark.parametrize(
    "text",
    [
        "from todos.nowhere import nothing",
        pytest.param("raise SystemExit('it ends itself')", marks=slow),
        CRASH,
    ],
    ids=["import", "exit", "crash"],
)
def test_a_first_start_ends(text: str, migrated_dsn: Dsn, tmp_path: Path) -> None:
    project = copy_project(tmp_path / "project")
    add(f"\n{text}\n", "todos", "api.py")(project)
    web: WebServer = production(migrated_dsn, tmp_path, project=project)
    web.start()
    try:
        assert web.process.wait(LONG) == 3
    finally:
        web.end()
    assert web.log.count("Reason: Worker failed to boot.") == 1
    assert FAILED not in web.log


def make_missing_module(project: Path, _mend: Callable[[], object]) -> None:
    (project / "todos" / "nowhere.py").write_text("nothing = 1\n")


def restore(_project: Path, mend: Callable[[], object]) -> None:
    mend()


@pytest.mark.parametrize(
    ("break_it", "mend_it", "reason"),
    [
        pytest.param(add("\ndef half(", "todos", "types.py"), restore, "SyntaxError", id="syntax"),
        pytest.param(NOWHERE, make_missing_module, "ModuleNotFoundError", id="import", marks=slow),
        pytest.param(add("\nraise SystemExit\n", "web", "handler.py"), restore, FAILED, id="exit", marks=slow),
        pytest.param(
            add("\ndef half(", "migrations", "versions", "0099_half.py"),
            restore,
            "0099_half",
            id="migration",
            marks=slow,
        ),
    ],
)
def test_in_development_the_old_code_serves_until_the_new_one_is_mended(
    break_it: Fault,
    mend_it: Callable[[Path, Callable[[], object]], None],
    reason: str,
    migrated_dsn: Dsn,
    tmp_path: Path,
) -> None:
    project = copy_project(tmp_path / "project")
    options = ("--reload", "--workers", "1")
    with running_site(migrated_dsn, tmp_path, *options, project=project, ENVIRONMENT="development") as site:
        [old] = site.workers
        mend = break_it(project)
        eventually(lambda: "The reload has failed" in site.web.log)
        eventually(lambda: site.workers == [old])
        assert reason in site.web.log
        serve_on(site, 1)
        assert site.workers == [old]

        mend_it(project, mend)
        eventually(lambda: site.listening == 2)
        eventually(lambda: not old.is_running())
        serve_on(site, 1)
        assert site.web.stop() == 0


@slow
def test_in_development_a_server_without_workers_waits_for_the_code_to_be_mended(tmp_path: Path) -> None:
    project, folder = copy_project(tmp_path / "project"), tmp_path / "pg"
    with embedded_postgres.running(folder) as dsn:
        # The server is to be the only user, as that of `make run` is.
        pass
    settings = {"ENVIRONMENT": "development", "DATABASE_URL": f"embedded://{folder}"}
    with running_site(dsn, tmp_path, "--reload", "--workers", "1", project=project, **settings) as site:
        [old] = site.workers
        mend = NOWHERE(project)
        eventually(lambda: "The reload has failed" in site.web.log)
        old.kill()
        eventually(lambda: "0 of 1 are left" in site.web.log)
        mend()
        eventually(lambda: site.listening == 2)
        serve_on(site, 1)
