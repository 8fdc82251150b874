"""The benchmarks measure what they say: requests, answers, costs and distances; and the shortest whole run of them."""

import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from benchmarks import __main__ as command
from benchmarks import (
    contenders,
    data,
    delayed,
    load,
    machine,
    operations,
    processes,
    report,
    sameness,
    side_by_side,
    state,
    tables,
)
from benchmarks.contenders import PEERS_PYTHON, TITLES
from benchmarks.delay import Proxy
from benchmarks.operations import MIX, OPERATIONS, Request
from benchmarks.options import Options
from benchmarks.turns import Turn, medians
from persistence import migrations
from tests.servers import PostgresServer

DONE = '{"requests": 300, "microseconds": 2000000, "p50": 1500, "p99": 9000, "statuses": %d, "others": %d}'


def test_it_reads_what_wrk_has_measured() -> None:
    assert load.parse(f"Running 1s test\n\n{DONE % (0, 0)}\n", 200) == load.Load(300, rate=150.0, p50=1.5, p99=9.0)


@pytest.mark.parametrize("output", [DONE % (1, 0), DONE % (0, 1), DONE.replace("300", "0") % (0, 0), "no such host"])
def test_it_refuses_a_turn_in_which_anything_failed(output: str) -> None:
    with pytest.raises(load.LoadFailed) as failure:
        load.parse(output, 300)

    assert not isinstance(failure.value, load.RanOut)


def test_it_knows_when_requests_that_can_be_sent_once_have_run_out() -> None:
    with pytest.raises(load.RanOut):
        load.parse(DONE % (1, 0), 299)
    with pytest.raises(load.LoadFailed) as failure:
        load.parse(DONE % (0, 1), 299)
    assert not isinstance(failure.value, load.RanOut)


def test_a_request_is_whole_on_the_wire() -> None:
    head, body = Request("POST", "/api/x/tasks", {"title": "Ä"}).encode(8000).split(b"\r\n\r\n")

    assert head.startswith(b"POST /api/x/tasks HTTP/1.1\r\nHost: 127.0.0.1:8000\r\n")
    assert f"Content-Length: {len(body)}".encode() in head
    assert json.loads(body) == {"title": "Ä"}


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.name)
def test_every_contender_is_asked_the_same(operation: operations.Operation) -> None:
    requests = operation.requests(500, seed=1)

    assert requests == operation.requests(500, seed=1)
    assert requests != operation.requests(500, seed=2) or operation is operations.DELETE
    # Nobody's answer comes from what the request before has left in a cache.
    assert len({request.path.split("/")[2] for request in requests}) >= 30


def test_the_mix_has_the_shares_that_it_says() -> None:
    requests = MIX.requests(10_000, seed=3)
    methods = [request.method for request in requests]

    assert 0.57 < sum("limit=20" in request.path for request in requests) / 10_000 < 0.63
    assert {name: 100 * methods.count(name) // 10_000 for name in set(methods)} == {
        "GET": pytest.approx(80, abs=2),
        "POST": pytest.approx(8, abs=2),
        "PATCH": pytest.approx(8, abs=2),
        "DELETE": pytest.approx(4, abs=2),
    }


def test_no_task_is_deleted_twice() -> None:
    paths = [request.path for request in MIX.requests(5000, seed=4) if request.method == "DELETE"]

    assert len(paths) == len(set(paths)) > 100


def a_task(**changes: Any) -> dict[str, Any]:
    then = "2020-01-01T10:00:00.123456Z"
    return {"id": str(uuid4()), "created_at": then, "updated_at": then, "completed_at": None, "version": 7} | changes


def test_answers_are_the_same_however_they_write_a_time() -> None:
    task = a_task()
    written_otherwise = task | {"created_at": "2020-01-01T11:00:00.123+01:00"}

    assert sameness.normal(task) == sameness.normal(written_otherwise)


@pytest.mark.parametrize(
    "changes",
    [
        {"created_at": "2020-01-01T10:00:00.124Z"},
        {"completed_at": "2020-01-01T10:00:00.123Z"},
        {"version": 8},
        {"id": str(uuid4())},
        {"more": 1},
    ],
)
def test_answers_that_say_something_else_differ(changes: dict[str, Any]) -> None:
    task = a_task()

    assert sameness.normal(task) != sameness.normal(task | changes)
    page = {"items": [task], "next_cursor": None}
    assert sameness.normal(page) != sameness.normal(page | {"items": [task | changes]})
    assert sameness.normal(page) != sameness.normal(page | {"next_cursor": "abc"})


def test_what_was_just_made_may_have_another_id_and_moment() -> None:
    now = datetime.now(UTC)
    made = [
        a_task(created_at=moment.isoformat(), updated_at=moment.isoformat(), version=moment.microsecond)
        for moment in (now, now - timedelta(seconds=3, microseconds=1))
    ]

    assert sameness.normal(made[0]) == sameness.normal(made[1])
    assert sameness.normal(made[0]) != sameness.normal(made[1] | {"version": "1"})


def test_each_contender_may_write_cursors_as_it_likes() -> None:
    assert sameness.normal({"items": [], "next_cursor": "abc"}) == sameness.normal({"items": [], "next_cursor": "xyz"})


def test_each_figure_has_its_own_median() -> None:
    turns = [Turn(3, 1, 1, 1, 9), Turn(1, 2, 1, 2, 8), Turn(2, 3, 1, 9, 7)]

    assert medians(turns) == {"rate": 2, "p50": 2, "p99": 1, "server_cpu": 2, "postgres_cpu": 8}


def test_ratios_have_a_geometric_mean() -> None:
    assert tables.geometric_mean([2, 8]) == pytest.approx(4)


def cells(product: float, other: float) -> dict[str, Any]:
    """As if everybody but the product took as long as the other."""
    each = dict.fromkeys(TITLES, other) | {"product": product}
    return {
        name: {"rate": 1000 / cpu, "p50": 1, "p99": 2, "server_cpu": cpu, "postgres_cpu": 1, "round_trips": 1.0}
        for name, cpu in each.items()
    }


def test_goals_are_met_only_by_numbers_that_meet_them() -> None:
    def met(product: float, other: float) -> list[bool]:
        found = {"operations": {each.name: cells(product, other) for each in OPERATIONS}, "memory": {}}
        return [goal.met for goal in side_by_side.goals(found)]

    assert met(1, 5.1) == [True, True, True, True, True]
    assert met(1, 4.9) == [False, True, True, True, True]
    assert met(1, 1.1) == [False, False, False, True, True]
    assert met(1.9, 1) == [False, False, False, False, True]


def test_every_operation_and_contender_has_a_row() -> None:
    found = {"operations": {each.name: cells(1, 4) for each in OPERATIONS}, "memory": dict.fromkeys(TITLES, 3 << 20)}

    lines = side_by_side.table(found).splitlines()

    assert "| get one | this product | 1,000 | 1.0 | 2.0 | 1.000 | 1.000 | 1 |" in lines
    assert sum(line.startswith(("| ", "|  |")) and " 250 | " in line for line in lines) == len(OPERATIONS) * 7
    assert f"| **geometric mean** |{' **4.00** |' * 7}" in lines
    assert "| FastAPI + SQLModel | 3 |" in lines


def test_a_short_run_has_a_table_of_what_it_ran() -> None:
    found = {"delays": {"20": {MIX.name: cells(1, 4)}}}

    assert delayed.table(found).splitlines()[2:] == [f"| {MIX.title} | 20 | 1,000 |{' 250 |' * 7} 4.0 |"]
    assert [goal.met for goal in delayed.goals(found)] == [True]
    assert delayed.goals({"delays": {"1": {MIX.name: cells(1, 4)}}}) == []


def test_the_report_changes_only_what_was_measured() -> None:
    page = "a\n<!-- begin x -->\nold\n<!-- end x -->\nb\n<!-- begin y -->\nold\n<!-- end y -->\n"

    assert report.fill(page, {"x": "| new |"}) == page.replace("old", "| new |", 1)
    with pytest.raises(ValueError, match="no place for z"):
        report.fill(page, {"z": ""})


def test_the_page_has_a_place_for_every_study() -> None:
    names = [name for study in command.STUDIES for name in (study, f"goals of {study}")]

    report.fill(report.PAGE.read_text(), dict.fromkeys([*names, "machine"], ""))


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A page for two made-up studies, of which the second fails."""

    def fail(_: Options) -> dict[str, Any]:
        raise RuntimeError("no such luck")

    def table(result: dict[str, Any]) -> str:
        return f"seconds: {result['seconds']}"

    def run(options: Options) -> dict[str, Any]:
        return {"seconds": options.seconds}

    found = {
        "processor": "P",
        "cores": 2,
        "memory": 1 << 30,
        "system": "S",
        "python": "3",
        "node": "20",
        "postgresql": "18",
    }
    monkeypatch.setattr(machine, "describe", lambda: found | {"wrk": "4", "packages": {}})
    monkeypatch.setattr(contenders, "missing", list)
    monkeypatch.setattr(command, "STUDIES", ("good", "bad"))
    for name, how in (("good", run), ("bad", fail)):
        monkeypatch.setitem(sys.modules, f"benchmarks.{name}", SimpleNamespace(run=how, table=table))
    path = tmp_path / "page.md"
    path.write_text("".join(f"<!-- begin {name} -->\n<!-- end {name} -->\n" for name in ("good", "bad", "machine")))
    monkeypatch.setattr(report, "PAGE", path)
    monkeypatch.setattr(command, "ROOT", tmp_path)
    return path


def test_a_study_that_fails_loses_nothing_of_the_others(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="failed: bad"):
        command.main(["--seconds", "7", "--output", str(page.parent / "results")])

    assert "no such luck" in capsys.readouterr().err
    assert (
        "<!-- begin good -->\nseconds: 7.0\n<!-- end good -->\n<!-- begin bad -->\n<!-- end bad -->" in page.read_text()
    )
    assert "    python -m benchmarks --seconds 7\n" in page.read_text()


def test_a_quick_run_leaves_the_page_alone(page: Path) -> None:
    before, results = page.read_text(), page.parent / "results"
    command.main(["good", "--quick", "--output", str(results)])

    assert page.read_text() == before
    [written] = results.glob("*.md")
    assert f"seconds: {command.QUICK['seconds']}" in written.read_text()


def test_results_can_be_reported_later_and_together(page: Path) -> None:
    output = page.parent / "results"
    command.main(["good", "--quick", "--output", str(output)])
    [first] = output.glob("*.json")
    second = page.parent / "second.json"
    second.write_text(json.dumps(json.loads(first.read_text()) | {"studies": {"bad": {"seconds": 1}}}))
    command.main(["--from", str(first), str(second), "--output", str(output)])

    assert f"<!-- begin good -->\nseconds: {command.QUICK['seconds']}\n" in page.read_text()
    assert "<!-- begin bad -->\nseconds: 1\n" in page.read_text()


def test_nothing_is_measured_while_something_is_missing(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contenders, "missing", lambda: [load.HOW_TO_GET_WRK])
    with pytest.raises(SystemExit, match="apt install wrk"):
        command.main(["good"])


@pytest.fixture
def far_echo() -> Iterator[tuple[Proxy, socket.socket]]:
    """A server behind the proxy that sends back what it gets, "split" in two parts, and a connection to it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def echo() -> None:
            connection, _ = listener.accept()
            with connection:
                while received := connection.recv(65536):
                    if received == b"split":
                        connection.sendall(b"s")
                        time.sleep(0.05)
                        received = b"plit"
                    connection.sendall(received)

        thread = threading.Thread(target=echo, daemon=True)
        thread.start()
        with Proxy(listener.getsockname()[1]) as proxy:
            with socket.create_connection(("127.0.0.1", proxy.port), timeout=10) as connection:
                yield proxy, connection
            thread.join(10)


def test_the_proxy_counts_round_trips_and_makes_them_longer(far_echo: tuple[Proxy, socket.socket]) -> None:
    proxy, connection = far_echo
    for milliseconds in (0, 40):
        proxy.delay(milliseconds)
        before, started = proxy.turns, time.monotonic()
        for number in range(3):
            connection.sendall(b"%d" % number)
            assert connection.recv(10) == b"%d" % number
        assert proxy.turns - before == 3
        assert time.monotonic() - started >= 3 * milliseconds / 1000


def test_an_answer_in_parts_is_one_round_trip(far_echo: tuple[Proxy, socket.socket]) -> None:
    proxy, connection = far_echo
    connection.sendall(b"split")
    received = b""
    while received != b"split":
        received += connection.recv(10)

    assert proxy.turns == 1


def test_the_proxy_keeps_the_order(far_echo: tuple[Proxy, socket.socket]) -> None:
    proxy, connection = far_echo
    proxy.delay(2)
    sent = b"".join(b"%06d" % number for number in range(20_000))
    for start in range(0, len(sent), 1000):
        connection.sendall(sent[start : start + 1000])
    received = b""
    while len(received) < len(sent):
        received += connection.recv(65536)

    assert received == sent


def test_the_cpu_time_of_ended_children_counts() -> None:
    burn = "import time\nwhile time.process_time() < 0.3: pass"
    start_and_wait = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {burn!r}]); print(); input()"
    with subprocess.Popen(
        [sys.executable, "-c", start_and_wait], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout
        process.stdout.readline()

        assert processes.cpu_seconds(process.pid) >= 0.3
        assert processes.memory_bytes(process.pid) > 1 << 20
        process.communicate(b"\n")


def test_there_are_the_tasks_that_the_operations_ask_for(
    postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with psycopg.connect(postgres.dsn.conninfo, autocommit=True) as connection:

        def indexes() -> list[Any]:
            return connection.execute(
                "SELECT indexdef FROM pg_indexes WHERE schemaname = 'public' ORDER BY 1"
            ).fetchall()

        before = indexes()
        data.fill(postgres.dsn, users=3, tasks=5)
        monkeypatch.setattr(data, "MANY", 1)
        data.fill(postgres.dsn, users=2, tasks=400, first_user=4)

        assert indexes() == before
        oldest_first = connection.execute(
            "SELECT id FROM tasks WHERE user_id = %s ORDER BY created_at", [data.user_id(4)]
        ).fetchall()
        assert oldest_first == [(data.task_id(4, number),) for number in range(1, 401)]
        # A page of 100 that is filtered by both is full for whoever has 1,000 tasks.
        [matching] = connection.execute(
            "SELECT count(*) FROM tasks WHERE user_id = %s AND status = 'pending' AND 'work' = ANY(tags)",
            [data.user_id(4)],
        ).fetchall()
        assert matching[0] > 40

        state.prepare(connection, spares=7, users=5)
        state.prepare(connection, spares=4, users=5)
        spares = connection.execute(
            "SELECT user_id, id FROM tasks WHERE title LIKE %s ORDER BY created_at, user_id", [f"%{state.MARK}"]
        ).fetchall()
        assert {(data.user_id(user), task) for user, task in (state.spare(n, 5) for n in range(4))} == set(spares)
        state.prepare(connection, spares=0, users=5)
        assert connection.execute("SELECT count(*) FROM tasks").fetchone() == (815,)
        with pytest.raises(psycopg.errors.ForeignKeyViolation):
            connection.execute("INSERT INTO tasks (id, user_id, title) VALUES (%s, %s, 'x')", [uuid4(), uuid4()])
    assert migrations.current(postgres.dsn) == migrations.head()


MISSING = "; ".join(contenders.missing())


@pytest.mark.slow
@pytest.mark.skipif(bool(MISSING), reason=MISSING)
def test_the_shortest_run_has_every_cell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delayed, "SECONDS", 0.5)
    monkeypatch.setattr(delayed, "QUICK_OPERATIONS", (MIX,))
    options = Options(quick=True, rounds=1, seconds=0.3, delays=(2.0,), clients=4)

    # Both raise when contenders answer differently, or anybody answers with an error.
    found = {"side_by_side": side_by_side.run(options), "delayed": delayed.run(options)}

    assert set(found["side_by_side"]["memory"]) == set(TITLES)
    for operation in OPERATIONS:
        row = found["side_by_side"]["operations"][operation.name]
        assert set(row) == set(TITLES)
        for name, cell in row.items():
            assert all(cell[figure] > 0 for figure in ("rate", "p50", "p99", "server_cpu")), (operation, name)
        assert row["product"]["round_trips"] == 1
        assert row["fastapi"]["round_trips"] > 5
    assert set(found["delayed"]["delays"]["2"][MIX.name]) == set(TITLES)
    assert side_by_side.table(found["side_by_side"])
    assert delayed.table(found["delayed"])

    results, picture = tmp_path / "found.json", tmp_path / "plot.svg"
    results.write_text(json.dumps(found))
    draw = (
        "import json, pathlib, sys; from benchmarks import plot; found = json.load(open(sys.argv[1]));"
        "plot.draw(found['side_by_side'], found['delayed'], pathlib.Path(sys.argv[2]))"
    )
    subprocess.run([PEERS_PYTHON, "-c", draw, str(results), str(picture)], cwd=processes.ROOT, check=True)
    assert all(title in picture.read_text() for title in TITLES.values())
