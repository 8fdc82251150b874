"""Each alarm, fired for real: the fault is made, Prometheus fires, its page is followed, and Prometheus is quiet again.

`make alarms` runs them and writes what the commands print into docs/runbook.md.
"""

import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import psycopg
import pytest

from tests.alarms.page import Page
from tests.alarms.prometheus import quickened
from tests.alarms.stage import WORKERS, Stage, Way, stage
from tests.deploy.files import alarms
from tests.support.databases import as_owner, new_user
from tests.support.servers import PostgresServer, eventually, manage


@contextmanager
def server_stopped(stage: Stage) -> Iterator[None]:
    stage.web.stop()
    stage.actions["start todo"] = stage.web.start
    yield


@contextmanager
def postgresql_stopped(stage: Stage) -> Iterator[None]:
    stage.postgres.stop()
    yield


@contextmanager
def node_frozen(stage: Stage) -> Iterator[None]:
    stage.proxy.stall()
    yield
    stage.proxy.resume()


@contextmanager
def database_read_only(stage: Stage) -> Iterator[None]:
    with stage.postgres.administrator() as admin:
        admin.execute("ALTER SYSTEM SET default_transaction_read_only = on")
        admin.execute("SELECT pg_reload_conf()")
    try:
        yield
    finally:
        with stage.postgres.administrator() as admin:
            admin.execute("ALTER SYSTEM RESET default_transaction_read_only")
            admin.execute("SELECT pg_reload_conf()")


@contextmanager
def forgotten_transaction(stage: Stage) -> Iterator[None]:
    connection = psycopg.connect(as_owner(stage.postgres.dsn).conninfo)
    connection.execute("LOCK TABLE tasks IN EXCLUSIVE MODE")
    try:
        yield
    finally:
        connection.close()


@contextmanager
def crowd_before_a_forgotten_transaction(stage: Stage) -> Iterator[None]:
    # The writes of one user wait for each other without connections.
    for _ in range(40):
        stage.send(1, "POST", f"/{new_user(stage.postgres.dsn)}/tasks", pause=0.05)
    with forgotten_transaction(stage):
        yield


@contextmanager
def database_of_the_release_before(stage: Stage) -> Iterator[None]:
    settings = {"ENVIRONMENT": "production", "AUTH_MODE": "trusted", "DATABASE_URL": stage.postgres.url_of("postgres")}
    manage("migrate_sql", "--down", "1", environment=settings).check_returncode()
    yield


@contextmanager
def postgresql_crashed(stage: Stage) -> Iterator[None]:
    with forgotten_transaction(stage), stage.postgres.administrator() as admin:
        waits = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        eventually(lambda: len(admin.execute(waits).fetchall()) > 0)
        # A write is under way now.
        stage.postgres.kill()
    stage.postgres.start()
    yield


@contextmanager
def database_far_away(stage: Stage) -> Iterator[None]:
    stage.proxy.distance = 0.27
    yield
    stage.proxy.distance = 0


@contextmanager
def issuer_away(stage: Stage) -> Iterator[None]:
    # Its next tokens are signed by a key that the server does not have.
    key = stage.issuer.rotate()
    stage.issuer.fault = "refused"
    stage.token = stage.issuer.token(stage.tasks.split("/")[1], key=key)
    yield
    stage.issuer.fault = None


@contextmanager
def workers_killed(stage: Stage) -> Iterator[None]:
    """Kills a worker whenever all serve, so that the others can answer."""
    is_over = threading.Event()

    def kill() -> None:
        killed = 0
        while not is_over.wait(0.1):
            if stage.web.log.count("ASGI server listening") == WORKERS + killed:
                psutil.Process(stage.web.process.pid).children()[0].kill()
                killed += 1

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


@contextmanager
def reader_of_the_log_stuck(stage: Stage) -> Iterator[None]:
    stage.web.freeze_reader()
    stage.actions["restart systemd-journald"] = stage.web.thaw_reader
    stage.send(20, "GET", "/v1/live", pause=0)
    try:
        yield
    finally:
        stage.web.thaw_reader()


@contextmanager
def client_without_a_pause(stage: Stage) -> Iterator[None]:
    yield


@dataclass(frozen=True)
class Scenario:
    fault: Callable[[Stage], AbstractContextManager[None]]
    shown: str
    """What the page has an operator see."""
    page_mends: bool = True
    """False if the fault has to be ended somewhere else than on the machine of the server."""
    settings: Mapping[str, str] = field(default_factory=dict)
    signs_in: bool = False
    way: Way = "straight"


SCENARIOS = {
    "TodoDown": Scenario(server_stopped, "Shutting down: Master"),
    "TodoDatabaseLost": Scenario(postgresql_stopped, "Connection refused"),
    "TodoDatabaseNodesSilent": Scenario(node_frozen, "does not answer", page_mends=False, way="both"),
    "TodoErrors": Scenario(database_read_only, "read-only"),
    "TodoConnectionsExhausted": Scenario(crowd_before_a_forgotten_transaction, "idle in transaction"),
    "TodoSchemaBehind": Scenario(database_of_the_release_before, "behind"),
    "TodoStatementsCutOff": Scenario(forgotten_transaction, "idle in transaction"),
    "TodoOutcomesUnknown": Scenario(postgresql_crashed, "todo_outcomes_unknown_total", page_mends=False),
    "TodoSlow": Scenario(database_far_away, "Round trip: 5", page_mends=False, way="by a proxy"),
    "TodoKeysNotFetched": Scenario(issuer_away, "cannot be fetched", page_mends=False, signs_in=True),
    "TodoWorkersDie": Scenario(workers_killed, "SIGKILL", page_mends=False),
    "TodoLogLinesLost": Scenario(reader_of_the_log_stuck, "todo_log_lines_lost_total"),
    "TodoRequestsLimited": Scenario(
        client_without_a_pause, 'reason="rate"', page_mends=False, settings={"USER_REQUESTS_PER_MINUTE": "60"}
    ),
}


@pytest.mark.parametrize("alarm", SCENARIOS)
def test_it_fires_and_its_page_leads_out(alarm: str, postgres: PostgresServer, tmp_path: Path) -> None:
    scenario, page = SCENARIOS[alarm], Page(alarm)
    with stage(postgres, tmp_path, scenario.settings, signs_in=scenario.signs_in, way=scenario.way) as on:

        def fires() -> bool:
            return alarm in on.prometheus.firing()

        with scenario.fault(on):
            eventually(fires)
            seen = page.look(on.shell)
            if scenario.page_mends:
                page.act(on.shell)
                eventually(lambda: not fires())
        if not scenario.page_mends:
            page.act(on.shell)
            on.is_over.set()
            eventually(lambda: not fires())
    assert alarm in seen
    assert scenario.shown in seen
    if os.environ.get("RECORD"):
        page.record()


def test_each_alarm_is_fired() -> None:
    assert SCENARIOS.keys() == alarms().keys()


def test_only_durations_are_quickened() -> None:
    assert quickened("  for: 15s\n rate(x_total[5m]) > 15") == "  for: 250ms\n rate(x_total[5000ms]) > 15"
