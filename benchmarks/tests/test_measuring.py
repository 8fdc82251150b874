"""Requests, answers, costs and delays are measured as the page says. A mistake that stops a run has no test here."""

import asyncio
import random
import socket
import subprocess
import sys
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from benchmarks import calls, data, operations, postgres, processes, sameness, state, wrk
from benchmarks.calls import CALLS, Call, Target
from benchmarks.delay import Proxy
from benchmarks.environment import Measurement, medians
from benchmarks.operations import MIX, OPERATIONS
from benchmarks.spread import Meter, Way
from persistence.postgres.database import open_database
from persistence.postgres.dsn import Dsn

DONE = '{"requests": 300, "microseconds": 2000000, "p50": 1500, "p99": 9000, "statuses": %d, "others": %d}'
TIMES = dict.fromkeys(("created_at", "updated_at"), "2020-01-01T10:00:00.123456Z")
TASK: dict[str, Any] = {"id": str(uuid4()), "completed_at": None, "version": 7} | TIMES


def test_it_reads_the_figures_of_wrk() -> None:
    assert wrk.parse(f"Running 1s test\n\n{DONE % (0, 0)}\n", 200) == wrk.Result(300, rate=150.0, p50=1.5, p99=9.0)


@pytest.mark.parametrize("output", [DONE % (1, 0), DONE % (0, 1), DONE.replace("300", "0") % (0, 0), "no such host"])
def test_it_refuses_a_measurement_with_any_failure(output: str) -> None:
    with pytest.raises(wrk.LoadFailed):
        wrk.parse(output, 300)


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.name)
def test_every_contender_gets_the_same_requests_of_many_users(operation: operations.Operation) -> None:
    requests = operation.requests(500, seed=1)

    assert requests == operation.requests(500, seed=1)
    assert len({request.path.split("/")[2] for request in requests}) >= 30


def test_only_a_request_with_a_token_says_who_sends_it() -> None:
    request = operations.Request("GET", "/api/a/tasks")

    assert b"authorization" not in request.encode(80).lower()
    assert b"\r\nAuthorization: Bearer a.b.c\r\n" in replace(request, token="a.b.c").encode(80)  # noqa: S106 - made up


def test_the_mix_has_the_shares_of_its_title() -> None:
    requests = MIX.requests(10_000, seed=3)
    methods = [request.method for request in requests]
    shares = {name: methods.count(name) / 100 for name in set(methods)}
    shares["list"] = sum("limit=20" in request.path for request in requests) / 100

    assert shares == pytest.approx({"list": 60, "GET": 80, "POST": 8, "PATCH": 8, "DELETE": 4}, abs=2)


def a_page(task: dict[str, Any], cursor: str | None = None) -> dict[str, Any]:
    return {"items": [task], "next_cursor": cursor}


def test_answers_may_differ_in_the_form_of_times_and_in_cursors() -> None:
    written_otherwise = TASK | {"created_at": "2020-01-01T11:00:00.123+01:00"}

    assert sameness.normal(a_page(TASK, "a")) == sameness.normal(a_page(written_otherwise, "b"))
    assert sameness.normal(TASK) == sameness.normal(TASK | {"deleted_at": "2026-07-01T12:00:00Z"})


@pytest.mark.parametrize("change", ["created_at", "completed_at", "version", "id", "more"])
def test_answers_may_not_differ_otherwise(change: str) -> None:
    changed = TASK | {change: 8 if change == "version" else "2020-01-01T10:00:00.124Z"}

    assert sameness.normal(TASK) != sameness.normal(changed)
    assert sameness.normal(a_page(TASK)) != sameness.normal(a_page(changed))
    assert sameness.normal(a_page(TASK)) != sameness.normal(a_page(TASK, "a"))


def test_a_new_task_may_have_another_id_time_and_version() -> None:
    now = datetime.now(UTC)
    first, second = (
        TASK | dict.fromkeys(TIMES, time.isoformat()) | {"id": str(uuid4()), "version": time.microsecond}
        for time in (now, now - timedelta(seconds=3))
    )

    assert sameness.normal(first) == sameness.normal(second) != sameness.normal(second | {"version": "1"})


def test_each_figure_has_its_own_median() -> None:
    rounds = [Measurement(3, 1, 1, 1, 9), Measurement(1, 2, 1, 2, 8), Measurement(2, 3, 1, 9, 7)]

    assert medians(rounds) == {"rate": 2, "p50": 2, "p99": 1, "server_cpu": 2, "postgres_cpu": 8}


def test_every_call_finds_its_tasks_and_takes_the_time_of_a_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "USERS", 2)
    found: dict[str, Any] = {}

    async def call_all(dsn: Dsn) -> Way:
        async with open_database(dsn) as database:
            way = Way({"all": [meter]}, Target(lambda _: database))
            for name, call in CALLS.items():

                async def work(call: Call = call, name: str = name) -> None:
                    found[name] = await call(way.target, random.Random(name))  # noqa: S311 - users are not secret

                await way.measure(name, 1, work())
        return way

    with postgres.temporary() as server, Meter(server.dsn) as meter:
        data.fill(server.dsn, users=2, tasks=100)
        way = asyncio.run(call_all(server.dsn))

    assert all(found.values()), found
    assert not any(outcome.refusal for outcome in found["batch of 20"])
    assert all(0 < way.taken[name]["all"][0] < 1_000_000 for name in CALLS)


@pytest.mark.parametrize("milliseconds", [0, 40])
def test_the_proxy_counts_and_delays_round_trips(milliseconds: int) -> None:
    def serve() -> None:
        with listener.accept()[0] as connection:
            while received := connection.recv(10):
                connection.sendall(received[:1])  # An answer in two parts is one round trip.
                time.sleep(0.05)
                connection.sendall(received[1:])

    with socket.create_server(("127.0.0.1", 0)) as listener, Proxy(listener.getsockname()[1]) as proxy:
        threading.Thread(target=serve, daemon=True).start()
        with socket.create_connection(("127.0.0.1", proxy.port)) as connection, connection.makefile("rb") as answers:
            proxy.delay(milliseconds)
            for number in range(4):
                if number == 1:  # The first round trip has no delay while the proxy still connects.
                    started = time.monotonic()
                connection.sendall(b"ping")
                assert answers.read(4) == b"ping"
            assert proxy.round_trips == 4
            assert time.monotonic() - started >= 3 * (0.05 + milliseconds / 1000)


def test_the_cpu_time_of_ended_children_counts() -> None:
    burn = "import time\nwhile time.process_time() < 0.3: pass"
    program = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {burn!r}]); print(); input()"
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:  # noqa: S603 - our own
        assert process.stdout
        process.stdout.readline()

        assert processes.cpu_seconds(process.pid) >= 0.3
        assert processes.memory_bytes(process.pid) > 1 << 20
        process.communicate(b"\n")


def test_every_measurement_finds_the_same_rows_and_indexes(monkeypatch: pytest.MonkeyPatch) -> None:
    with postgres.temporary() as server, psycopg.connect(server.dsn.conninfo, autocommit=True) as connection:

        def rows(query: str, *values: Any) -> list[Any]:
            return connection.execute(query.encode(), values).fetchall()

        indexes = "SELECT indexdef FROM pg_indexes WHERE schemaname = 'public' ORDER BY 1"
        before = rows(indexes)
        monkeypatch.setattr(data, "MANY", 1)
        data.fill(server.dsn, users=2, tasks=400)
        assert rows(indexes) == before

        filtered = "SELECT id FROM tasks WHERE user_id = %s AND status = 'pending' AND 'work' = ANY(tags)"
        assert len(rows(filtered, data.user_id(2))) > 40, "a user with 1,000 tasks fills a page of 100"

        data.fill(server.dsn, users=1, tasks=20, first_user=3, has_trash=True)
        feed = "SELECT count(*), count(deleted_at), count(*) FILTER (WHERE is_erased) FROM tasks WHERE user_id = %s"
        assert rows(feed, data.user_id(3)) == [(24, 4, 2)]
        assert rows("SELECT count(*) FROM tasks JOIN users ON users.id = user_id WHERE version > revision") == [(0,)]
        connection.execute("DELETE FROM tasks WHERE user_id = %s", [data.user_id(3)])

        for spares in (7, 4, 0):
            state.prepare(connection, spares, users=2)
            assert rows("SELECT count(*) FROM tasks") == [(800 + spares,)]
