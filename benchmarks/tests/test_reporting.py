"""Goals, tables and the page say what was measured."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks import __main__ as command
from benchmarks import capacity, contenders, machine, report, side_by_side, sign_in, spread, tables
from benchmarks.calls import CALLS
from benchmarks.contenders import TITLES
from benchmarks.operations import OPERATIONS
from benchmarks.options import Options


def cells(this_project: float, other: float) -> dict[str, Any]:
    """Returns figures for all contenders, as if each other contender needed the same CPU time."""
    each = dict.fromkeys(TITLES, other) | {"this_project": this_project}
    return {
        name: {"rate": 1000 / cpu, "p50": 1, "p99": 2, "server_cpu": cpu, "postgres_cpu": 1, "round_trips": 1.0}
        for name, cpu in each.items()
    }


def found(this_project: float, other: float) -> dict[str, Any]:
    return {
        "operations": {each.name: cells(this_project, other) for each in OPERATIONS},
        "memory": dict.fromkeys(TITLES, 3 << 20),
    }


def test_ratios_have_a_geometric_mean() -> None:
    assert tables.geometric_mean([2, 8]) == pytest.approx(4)


@pytest.mark.parametrize(
    ("this_project", "other", "met"),
    [(1, 5.1, "11111"), (1, 4.9, "01111"), (1, 1.1, "00011"), (1.9, 1, "00001")],
)
def test_only_figures_that_meet_a_goal_meet_it(this_project: float, other: float, met: str) -> None:
    assert "".join(f"{goal.met:d}" for goal in side_by_side.goals(found(this_project, other))) == met


def test_every_operation_and_contender_has_a_row() -> None:
    lines = side_by_side.table(found(1, 4)).splitlines()

    assert "| get one | this project | 1,000 | 1.0 | 2.0 | 1.000 | 1.000 | 1 |" in lines
    assert sum(" 250 | 1.0 | 2.0 | 4.000 " in line for line in lines) == len(OPERATIONS) * 7
    assert f"| **geometric mean** |{' **4.00** |' * 7}" in lines
    assert "| FastAPI + SQLModel | 3 |" in lines
    assert "- Faster than this project: none." in lines
    assert "- Faster than this project: FastAPI + SQLModel (0.50)" in side_by_side.table(found(2, 1))


def signed_in(ratios: tuple[float, ...], first: float, round_trips: float) -> dict[str, Any]:
    """Returns figures of the study of sign-in, with a ratio for each round. `first` is in milliseconds."""
    rounds = {
        "alone": [{"server_cpu": 0.2}, {"server_cpu": 0.4}, {"server_cpu": 0.8}],
        "signed_in": [{"server_cpu": cpu * ratio} for cpu, ratio in zip((0.2, 0.4, 0.8), ratios, strict=True)],
    }
    cells = {name: {"server_cpu": each[1]["server_cpu"], "rounds": each} for name, each in rounds.items()}
    later = {"p50": 0.5, "server_cpu": 0.2}
    return {
        "operations": {each.name: cells for each in OPERATIONS},
        "round_trips": {each.name: round_trips for each in OPERATIONS},
        "first": [{"first": {"p50": 0.5 + first, "server_cpu": 0.2}, "later": later}] * 3,
    }


@pytest.mark.parametrize(
    ("ratios", "first", "round_trips", "met"),
    [
        # One round that was disturbed does not matter.
        ((1.05, 9.0, 1.0), 0.2, 1.0, "111"),
        ((1.07, 9.0, 1.0), 0.2, 1.0, "011"),
        ((1.0, 1.0, 1.0), 0.3, 1.0, "101"),
        ((1.0, 1.0, 1.0), 0.2, 1.1, "110"),
    ],
)
def test_sign_in_meets_only_the_goals_that_its_figures_meet(
    ratios: tuple[float, ...], first: float, round_trips: float, met: str
) -> None:
    assert "".join(f"{goal.met:d}" for goal in sign_in.goals(signed_in(ratios, first, round_trips))) == met


def test_sign_in_shows_costs_ratios_and_the_first_request() -> None:
    lines = sign_in.table(signed_in((1.05, 1.1, 1.0), 0.2, 1.0)).splitlines()

    assert "| get one | 0.400 | 0.440 | 1.05 | 1 |" in lines
    assert "| **geometric mean** |  |  | **1.050** |  |" in lines
    assert "| first | 0.700 | 0.200 |" in lines
    assert "| **more** | **0.200** | **0.000** |" in lines


ROUTED = {"plain": 100.0, "router": 200.0, "owner": 200.0, "direct": 200.0}


def test_capacity_counts_the_operations_that_come_to_the_node_of_their_owner() -> None:
    assert [capacity.on_nodes(ROUTED, nodes) for nodes in (1, 2, 4)] == [200, 300, 350]
    assert capacity.machines(ROUTED, 4) == pytest.approx(4 / 3.5)
    assert capacity.pays_from(ROUTED) == 4
    free = dict.fromkeys(ROUTED, 0.0)
    assert capacity.share({"get": ROUTED, "create": free}, {"get": 25, "create": 75}) == pytest.approx(
        {name: each / 4 for name, each in ROUTED.items()}
    )


def test_a_spread_database_shows_each_operation_and_each_number_of_nodes() -> None:
    found = {"operations": dict.fromkeys(CALLS, ROUTED), "mix": {"plain": 90.0, "2": 180.0, "4": 450.0}}
    lines = spread.table(found).splitlines()

    assert "| get | 100 | 200 | 200 | 200 | 4.0 | 2.0 | 4 |" in lines
    assert "| **mix, calculated** | 100 | 200 | 200 | 200 | 4.0 | 2.0 | 4 |" in lines
    assert "| 2 | 90 | 180 | 3.00 | 2.00 | 0.67 | 1.00 |" in lines
    assert lines[-1] == "| 4 | 90 | 450 | 3.50 | 5.00 | 1.14 | 0.80 |"
    assert [(goal.measured, goal.met) for goal in spread.goals(found)] == [("0.67 to 1.43", False)]
    assert [goal.met for goal in spread.goals(found | {"mix": {"plain": 90.0, "2": 270.0}})] == [True]


def test_the_report_changes_only_what_was_measured() -> None:
    page = "a\n<!-- begin x -->\nold\n<!-- end x -->\nb\n<!-- begin y -->\nold\n<!-- end y -->\n"

    assert report.fill(page, {"x": "| new |"}) == page.replace("old", "| new |", 1)
    with pytest.raises(ValueError, match="no place for z"):
        report.fill(page, {"z": ""})


def test_the_page_has_a_place_for_every_study() -> None:
    names = [name for study in command.STUDIES + command.BY_REQUEST for name in (study, f"goals of {study}")]

    report.fill(report.PAGE.read_text(), dict.fromkeys([*names, "machine"], ""))


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Makes a page for two studies, of which the second fails."""

    def fail(_: Options) -> dict[str, Any]:
        raise RuntimeError("no such luck")

    def table(result: dict[str, Any]) -> str:
        return f"seconds: {result['seconds']}"

    def run(options: Options) -> dict[str, Any]:
        return {"seconds": options.seconds}

    monkeypatch.setattr(machine, "describe", dict)
    monkeypatch.setattr(machine, "table", str)
    monkeypatch.setattr(contenders, "missing", list)
    monkeypatch.setattr(command, "STUDIES", ("good", "bad"))
    for name, how in (("good", run), ("bad", fail)):
        monkeypatch.setitem(sys.modules, f"benchmarks.{name}", SimpleNamespace(run=how, table=table))
    path = tmp_path / "page.md"
    path.write_text("".join(f"<!-- begin {name} -->\n<!-- end {name} -->\n" for name in ("good", "bad", "machine")))
    monkeypatch.setattr(report, "PAGE", path)
    monkeypatch.setattr(command, "ROOT", tmp_path)
    monkeypatch.setattr(command, "RESULTS", tmp_path / "results")
    return path


def test_a_failure_does_not_lose_the_results_of_other_studies(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="failed: bad"):
        command.main(["--seconds", "7"])

    assert "no such luck" in capsys.readouterr().err
    assert "<!-- begin good -->\nseconds: 7.0\n<!-- end good -->\n<!-- begin bad -->\n<!-- end" in page.read_text()
    assert "    python -m benchmarks --seconds 7\n" in page.read_text()


def test_results_of_a_quick_run_reach_the_page_only_by_request(page: Path) -> None:
    before = page.read_text()
    command.main(["good", "--quick"])
    assert page.read_text() == before

    [first] = command.RESULTS.glob("*.json")
    second = page.parent / "second.json"
    second.write_text(json.dumps(json.loads(first.read_text()) | {"studies": {"bad": {"seconds": 1}}}))
    command.main(["--from", str(first), str(second)])
    assert f"<!-- begin good -->\nseconds: {command.QUICK['seconds']}\n" in page.read_text()
    assert "<!-- begin bad -->\nseconds: 1\n" in page.read_text()
