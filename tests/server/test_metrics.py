"""The metrics of a server with several workers: exact whatever ends a worker, bounded, and only where they belong.

The lines of its requests in the log are here as well, as they come from the same observation.
"""

import asyncio
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from config import metrics
from persistence.postgres.costs import SECONDS
from persistence.postgres.dsn import Dsn
from server.metrics import WorkerMetrics
from server.shared_metrics import SLOTS, SharedMetrics, added
from tests.server.test_stops import InstalledServer
from tests.support.databases import temporary_database
from tests.support.processes import clean_environment, free_port
from tests.support.servers import LONG, ROOT, eventually
from tests.support.sites import POOL_MAX, WORKERS, Site, running_site
from tests.support.sockets import all_from, connect
from web.handler import Message
from web.observation import COUNTS, METHODS, settle
from web.openapi import VERSION

REQUESTS = "http_server_request_duration_seconds"
LIST = {"http_request_method": "GET", "http_route": "/api/{user_id}/tasks", "http_response_status_code": "200"}


@dataclass(frozen=True)
class Metered:
    site: Site
    http: httpx.Client

    @property
    def text(self) -> str:
        answer = self.http.get("/metrics")
        assert answer.status_code == 200, answer.text
        return answer.text

    def value(self, name: str, **labels: str) -> float | None:
        samples = (sample for family in text_string_to_metric_families(self.text) for sample in family.samples)
        return next((sample.value for sample in samples if (sample.name, sample.labels) == (name, labels)), None)

    def ask(self, number: int) -> None:
        for _ in range(number):
            assert self.site.web.http.get(self.site.tasks).status_code == 200

    def count(self) -> float:
        return self.value(f"{REQUESTS}_count", **LIST) or 0


@pytest.fixture(scope="module")
def metered(server: Dsn, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Metered]:
    address = f"127.0.0.1:{free_port()}"
    folder = tmp_path_factory.mktemp("web")
    with (
        temporary_database(server, template) as dsn,
        running_site(dsn, folder, METRICS_BIND=address) as site,
        # Each question on a connection of its own, so that all workers get some.
        httpx.Client(base_url=f"http://{address}", headers={"Connection": "close"}, trust_env=False) as http,
    ):
        eventually(lambda: site.listening == WORKERS)
        yield Metered(site, http)


def test_requests_of_all_workers_are_counted_through_reloads_and_kills(metered: Metered) -> None:
    site, before = metered.site, metered.count()

    metered.ask(20)
    eventually(lambda: metered.count() == before + 20)
    started, served = metered.value("todo_worker_starts_total"), site.listening
    site.web.process.send_signal(signal.SIGHUP)
    eventually(lambda: site.listening == served + WORKERS and len(site.workers) == WORKERS)
    metered.ask(10)
    eventually(lambda: metered.count() == before + 30)
    os.kill(site.workers[0].pid, signal.SIGKILL)
    eventually(lambda: site.listening == served + WORKERS + 1)
    metered.ask(10)

    eventually(lambda: metered.count() == before + 40)
    assert metered.value("todo_worker_starts_total") == (started or 0) + WORKERS + 1
    assert metered.value("db_client_operation_duration_seconds_count", db_operation_name="list") == metered.count()


def test_the_gauges_of_a_worker_go_with_it(metered: Metered) -> None:
    def is_of(workers: int) -> bool:
        most = metered.value("db_client_connection_max")
        return metered.value("todo_workers") == workers and most == workers * POOL_MAX

    eventually(lambda: is_of(WORKERS))
    metered.site.web.process.send_signal(signal.SIGTTOU)
    eventually(lambda: is_of(WORKERS - 1))
    metered.site.web.process.send_signal(signal.SIGTTIN)
    eventually(lambda: is_of(WORKERS))


def test_metrics_and_the_api_have_listeners_of_their_own(metered: Metered) -> None:
    api = httpx.get(f"{metered.site.web.url}/metrics", trust_env=False)
    answers = [metered.http.get("/api/v1/live"), metered.http.post("/metrics"), metered.http.get("/metrics/")]

    assert api.status_code == 404
    assert api.headers["Content-Type"] == "application/problem+json"
    assert [answer.status_code for answer in answers] == [404, 404, 404]


def test_no_question_for_metrics_is_an_error_of_the_server_or_a_line_of_its_log(metered: Metered) -> None:
    accept = {"Accept": "application/openmetrics-text;version=newest"}
    before = len(metered.site.web.log)

    statuses = [metered.http.get("/metrics", headers=accept).status_code, metered.http.head("/metrics").status_code]

    assert statuses == [200, 404]
    assert "gunicorn.error" not in metered.site.web.log[before:]


@pytest.mark.slow
def test_sockets_of_systemd_in_the_wrong_order_are_refused() -> None:
    with socket.socket() as metrics_socket, socket.socket() as api:
        for each in (metrics_socket, api):
            each.bind(("127.0.0.1", 0))
            each.listen()
        (_, port), (_, api_port) = metrics_socket.getsockname(), api.getsockname()
        # systemd hands sockets over as files 3 and up.
        launch = f"exec 8<&{metrics_socket.fileno()} 9<&{api.fileno()}; exec 3<&8 4<&9; LISTEN_PID=$$ LISTEN_FDS=2"
        done = subprocess.run(
            ["bash", "-c", f'{launch} exec "$@"', "bash", sys.executable, "-m", "gunicorn", "-c",
             "python:config.gunicorn", "--bind", f"127.0.0.1:{api_port}"],
            env={**clean_environment(), "ENVIRONMENT": "production", "AUTH_MODE": "trusted",
                 "DATABASE_URL": "postgresql://127.0.0.1/todo", "METRICS_BIND": f"127.0.0.1:{port}"},
            pass_fds=(metrics_socket.fileno(), api.fileno()),
            cwd=ROOT, capture_output=True, text=True, timeout=LONG, check=False,
        )  # fmt: skip

    assert done.returncode == 1
    assert f"is {api_port}, and has to be that of METRICS_BIND: 127.0.0.1:{port}" in done.stderr


def test_promtool_complains_of_one_name_only(metered: Metered) -> None:
    promtool = shutil.which("promtool")
    if not promtool:
        pytest.skip("promtool is not installed (Debian's package prometheus)")

    checked = subprocess.run(
        [promtool, "check", "metrics"], input=metered.text, capture_output=True, text=True, check=False
    )

    # OpenTelemetry's name has that end.
    [complaint] = checked.stderr.splitlines()
    assert complaint.startswith("db_client_connection_count ")
    assert '"_count" suffix' in complaint


def test_the_process_and_the_version_are_there(metered: Metered) -> None:
    names = [
        "process_cpu_seconds_total", "process_resident_memory_bytes", "process_open_fds", "process_max_fds",
        "process_start_time_seconds",
    ]  # fmt: skip

    assert all(metered.value(name) for name in names)
    assert metered.value("todo_build_info", version=VERSION) == 1


async def test_no_client_can_make_up_labels(client: httpx.AsyncClient) -> None:
    await client.get("v1/live")
    await client.request("BREW", "v1/live")
    await client.get("nothing")
    settle()
    before = set(COUNTS.durations)

    for number in range(200):
        await client.get(f"nothing/{number}")
        await client.request(f"BREW{number}", "v1/live")
    settle()

    assert set(COUNTS.durations) == before
    assert ("_OTHER", "/api/v1/live", 405) in before


def test_a_slot_holds_more_series_than_a_server_can_have() -> None:
    statuses = [200, 201, 204, 304, 400, 401, 403, 404, 405, 408, 409, 410, 412, 413, 415, 428, 429, 431, 499, 500, 503]
    buckets = [10**9] * (len(SECONDS) + 1)
    counts: Any = {
        (REQUESTS, method, f"/api/v1/a-resource/{{user_id}}/{number}", str(status)): [*buckets, 123456.7890123]
        for method in (*METHODS, "_OTHER")
        for number in range(15)
        for status in statuses
    }

    SharedMetrics().write(0, counts, {})


def test_a_write_that_was_cut_off_leaves_the_one_before() -> None:
    shared = SharedMetrics()
    shared.write(3, {("a", "label"): 1}, {("b",): 2})
    shared.write(3, {("a", "label"): 5}, {("b",): 6})
    # The last of it has not come.
    shared._memory[shared._memory.find(b"6]]")] = 0

    assert shared.counts(3) == {("a", "label"): 1}


def test_a_worker_goes_on_from_what_the_last_one_in_its_slot_has_counted() -> None:
    shared = SharedMetrics()
    shared.write(0, {("a",): 1, ("h",): [1, 2.5]}, {("b",): 2})
    shared.end(0)

    assert next(shared.all()) == ({("a",): 1, ("h",): [1, 2.5]}, {})
    assert added(shared.counts(0), {("a",): 2, ("h",): [1, 0.5]}) == {("a",): 3, ("h",): [2, 3.0]}
    assert shared.free_slot([0, None, 1]) == 2
    assert shared.free_slot(range(SLOTS)) is None


async def test_scrapes_that_come_together_are_answered_one_at_a_time() -> None:
    running, most = 0, 0

    def render(*_: object) -> tuple[bytes, str]:
        nonlocal running, most
        running += 1
        most = max(most, running)
        # The others get a chance to begin.
        time.sleep(0.01)
        running -= 1
        return b"", "text/plain"

    async def receive() -> Message:
        return {}

    async def send(_message: Message) -> None: ...

    scraped = WorkerMetrics(SharedMetrics(), 0, {"render_metrics": render})
    scope = {"method": "GET", "path": "/metrics", "headers": []}

    await asyncio.gather(*(scraped.application(scope, receive, send) for _ in range(5)))

    assert most == 1


def test_counts_of_another_version_of_the_code_are_left_out() -> None:
    counts: Any = {("gone_total",): 1, ("db_client_connection_wait_time_seconds",): [1, 2, 0.5]}

    text, _ = metrics.render(counts, [], "")

    assert b"gone" not in text
    assert b"wait_time_seconds_count" not in text


def test_every_metric_is_explained() -> None:
    page = Path("docs/observability.md").read_text("utf-8")

    assert not [name for name in (*metrics.HISTOGRAMS, *metrics.COUNTERS, *metrics.GAUGES) if f"`{name}" not in page]


def test_the_line_of_a_request_has_its_trace_and_a_hash_of_its_user_and_no_value(metered: Metered) -> None:
    site, trace = metered.site, "0af7651916cd43dd8448eb211c80319c"
    sent = {"traceparent": f"00-{trace}-b7ad6b7169203331-01", "X-Request-ID": "for-its-line"}

    answer = site.web.http.get(f"{site.tasks}/{uuid4()}?a=b", headers=sent)

    assert answer.headers["traceparent"] == sent["traceparent"]
    eventually(lambda: "for-its-line" in site.web.log)
    [line] = [json.loads(line) for line in site.web.log.splitlines() if "for-its-line" in line]
    assert list(line) == [
        "time", "level", "logger", "message", "request_id", "trace_id", "method", "route", "status", "ms", "db_ms",
        "wait_ms", "user", "bytes",
    ]  # fmt: skip
    assert (line["method"], line["route"], line["status"]) == ("GET", "/api/{user_id}/tasks/{task_id}", 400)
    assert line["trace_id"] == trace
    assert line["bytes"] == len(answer.content)
    assert re.fullmatch("[0-9a-f]{16}", line["user"])
    assert {each["user"] for each in map(json.loads, site.web.log.splitlines()) if "user" in each} == {line["user"]}


def test_what_the_server_refuses_by_itself_has_a_line_too(metered: Metered) -> None:
    with connect(metered.site.web.port) as client:
        client.sendall(b"nonsense\r\n\r\n")
        answer = all_from(client).decode()

    request_id = re.findall(r"X-Request-ID: (\S+)", answer)[0]
    eventually(lambda: request_id in metered.site.web.log)
    [line] = [json.loads(line) for line in metered.site.web.log.splitlines() if request_id in line]
    assert (line["method"], line["route"], line["status"]) == ("_OTHER", "unknown", 400)


@pytest.mark.slow
def test_a_unix_socket_serves_metrics_through_a_reload_and_a_second_server(migrated_dsn: Dsn, tmp_path: Path) -> None:
    socket = tmp_path / "metrics.sock"
    transport = httpx.HTTPTransport(uds=str(socket))
    with (
        running_site(migrated_dsn, tmp_path, kind=InstalledServer, METRICS_BIND=f"unix:{socket}") as site,
        httpx.Client(base_url="http://metrics", transport=transport, headers={"Connection": "close"}) as http,
    ):
        metered = Metered(site, http)
        eventually(lambda: metered.value("todo_workers") == WORKERS)
        site.web.process.send_signal(signal.SIGHUP)
        eventually(lambda: metered.value("todo_worker_starts_total") == 2 * WORKERS)
        eventually(lambda: metered.value("todo_workers") == WORKERS)
        eventually(lambda: site.listening == 2 * WORKERS)
        old = site.workers
        site.web.process.send_signal(signal.SIGUSR2)
        eventually(lambda: site.listening == 3 * WORKERS)
        [second] = [process for process in site.workers if process not in old]
        try:
            assert {site.web.http.get("/v1/live").status_code for _ in range(10)} == {200}
            assert site.web.stop() == 0
            metered.ask(10)
            eventually(lambda: metered.count() == 10)
        finally:
            second.send_signal(signal.SIGINT)
            second.wait(LONG)
