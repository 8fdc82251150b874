"""The units of systemd."""

import re
from pathlib import Path

import pytest

from tests.deploy.files import DEPLOY, run
from tests.docs.pages import DOCS, text
from tests.support.servers import ROOT

UNITS = sorted(file.name for file in (DEPLOY / "systemd").glob("todo*.*"))
LONGEST_REQUEST = 60
"""The largest REQUEST_TIMEOUT."""


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """A folder with the units for the code of this project."""
    for name in UNITS:
        unit = (DEPLOY / "systemd" / name).read_text(encoding="utf-8")
        (tmp_path / name).write_text(unit.replace("/opt/todo", str(ROOT)), encoding="utf-8")
    return tmp_path


def test_systemd_understands_every_line_of_the_units(units: Path) -> None:
    complaints = run("systemd-analyze", "verify", *(units / name for name in UNITS))

    # It also looks at the units of the machine that these ones name.
    assert not [line for line in complaints.splitlines() if "todo" in line], complaints


@pytest.mark.parametrize("name", ["todo.service", "todo-purge.service"])
def test_a_service_may_do_little(units: Path, name: str) -> None:
    report = run("systemd-analyze", "security", "--offline=true", "--threshold=15", "--no-pager", units / name)

    assert "Overall exposure level" in report


def test_the_supervisor_waits_for_the_longest_stop() -> None:
    unit = (DEPLOY / "systemd" / "todo.service").read_text(encoding="utf-8")
    wait = re.search(r"^TimeoutStopSec=(\d+)$", unit, re.MULTILINE)

    assert wait
    assert int(wait[1]) > LONGEST_REQUEST + 4


def test_the_sockets_are_those_that_the_server_would_make() -> None:
    sockets, unit = (
        (DEPLOY / "systemd" / name).read_text(encoding="utf-8") for name in ("todo.socket", "todo.service")
    )
    bind = re.search(r"--bind (\S+)", unit)
    metrics = re.search(r"^METRICS_BIND=(\S+)$", text(DOCS / "operations.md"), re.MULTILINE)

    assert bind
    assert metrics
    # The last one has to be that of the metrics.
    assert re.findall(r"^ListenStream=(\S+)$", sockets, re.MULTILINE) == [bind[1], metrics[1]]


def test_both_services_have_the_same_rights() -> None:
    server, purge = (
        {line for line in (DEPLOY / "systemd" / name).read_text().splitlines() if re.match(r"[A-Z]\w+=", line)}
        for name in ("todo.service", "todo-purge.service")
    )

    assert {line.partition("=")[0] for line in purge - server} == {
        "Description", "Documentation", "Type", "ExecStart", "TimeoutStartSec",
    }  # fmt: skip
