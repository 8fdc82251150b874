"""The shortest run of the studies that compare, with all contenders."""

import json
import subprocess
from pathlib import Path

import pytest

from benchmarks import contenders, delayed, processes, side_by_side, sign_in
from benchmarks.calls import CALLS
from benchmarks.contenders import PEERS_PYTHON, TITLES
from benchmarks.operations import MIX, OPERATIONS
from benchmarks.options import Options

MISSING = "; ".join(contenders.missing())


@pytest.mark.slow
@pytest.mark.skipif(bool(MISSING), reason=MISSING)
def test_the_shortest_run_has_every_figure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delayed, "SECONDS", 1.0)
    monkeypatch.setattr(delayed, "QUICK_OPERATIONS", (MIX,))
    options = Options(quick=True, rounds=1, seconds=1.0, delays=(2.0,), clients=4)

    # Both raise when contenders answer differently, and for every answer with an error status.
    found = {"side_by_side": side_by_side.run(options), "delayed": delayed.run(options)}

    for operation in OPERATIONS:
        row = found["side_by_side"]["operations"][operation.name]
        assert set(row) == set(TITLES)
        for name, cell in row.items():
            assert all(cell[figure] > 0 for figure in ("rate", "p50", "p99", "server_cpu")), (operation, name)
        assert row["this_project"]["round_trips"] == 1
        assert row["fastapi"]["round_trips"] > 5
    assert delayed.table(found["delayed"]).count("\n") == 2
    results, picture = tmp_path / "found.json", tmp_path / "plot.svg"
    results.write_text(json.dumps(found))
    draw = (
        "import json, pathlib, sys; from benchmarks import plot; found = json.load(open(sys.argv[1]));"
        "plot.draw(found['side_by_side'], found['delayed'], pathlib.Path(sys.argv[2]))"
    )
    command = [PEERS_PYTHON, "-c", draw, str(results), str(picture)]
    subprocess.run(command, cwd=processes.ROOT, check=True)  # noqa: S603 - the command is our own
    assert all(title in picture.read_text() for title in TITLES.values())


@pytest.mark.slow
@pytest.mark.skipif(bool(MISSING), reason=MISSING)
def test_the_plot_of_several_nodes_shows_each_call(tmp_path: Path) -> None:
    cost = {"plain": 100, "router": 200, "owner": 300, "direct": 400}
    results, picture = tmp_path / "found.json", tmp_path / "plot.svg"
    results.write_text(json.dumps({"operations": dict.fromkeys(CALLS, cost), "mix": {"plain": 100, "2": 450}}))
    draw = (
        "import json, pathlib, sys; from benchmarks import plot;"
        "plot.draw_nodes(json.load(open(sys.argv[1])), pathlib.Path(sys.argv[2]))"
    )
    command = [PEERS_PYTHON, "-c", draw, str(results), str(picture)]
    subprocess.run(command, cwd=processes.ROOT, check=True)  # noqa: S603 - the command is our own
    assert all(word in picture.read_text() for name in CALLS for word in name.split())


@pytest.mark.slow
@pytest.mark.skipif(bool(MISSING), reason=MISSING)
def test_the_shortest_run_of_sign_in_has_every_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sign_in, "QUICK_TOKENS", 50)

    # It raises when the answers differ with and without a token, and for every answer with an error status.
    found = sign_in.run(Options(quick=True, rounds=1, seconds=1.0, clients=4))

    assert found["round_trips"] == {operation.name: 1 for operation in OPERATIONS}
    for operation in OPERATIONS:
        for name in ("alone", "signed_in"):
            assert found["operations"][operation.name][name]["server_cpu"] > 0, (operation, name)
    assert all(found["first"][0][name]["server_cpu"] > 0 for name in ("first", "later"))
