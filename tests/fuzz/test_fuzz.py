"""The server keeps its contract, whatever is sent; `make fuzz` sends a hundred times as much."""

from pathlib import Path

import pytest

from persistence import migrator
from persistence.postgres.dsn import Dsn
from tests.fuzz import grammar
from tests.fuzz.site import harm, web_server
from tests.fuzz.storm import storm
from tests.support.contract import OPERATIONS

PHASES = [("examples", "coverage"), ("fuzzing",), ("stateful",)]


@pytest.fixture
def seed(pytestconfig: pytest.Config) -> int:
    """The seed of pytest-randomly, so that `--randomly-seed` repeats a run."""
    return int(pytestconfig.getoption("randomly_seed", 1))


def contract_round(folder: Path, dsn: Dsn, seed: int, examples: int, phases: tuple[str, ...]) -> set[str]:
    """Returns the operations that never answered with success."""
    migrator.migrate(dsn)
    # Only here, as it takes half a second that every process of pytest would spend.
    from tests.fuzz.rounds import fuzz

    with web_server(folder, dsn) as web:
        report = fuzz(web.url, dsn, seed, examples, phases)

    assert not report.failures, "\n\n".join([f"--randomly-seed={seed}", *report.failures])
    assert "Traceback" not in web.log
    assert report.answers
    return {name for name, _ in report.answers} - {name for name, status in report.answers if status < 400}


def test_a_few_requests_are_answered_as_the_contract_says(seed: int, empty_dsn: Dsn, tmp_path: Path) -> None:
    contract_round(tmp_path, empty_dsn, seed, 2, ("fuzzing",))


@pytest.mark.slow
@pytest.mark.parametrize("phases", PHASES, ids=", ".join)
def test_the_server_keeps_its_contract(phases: tuple[str, ...], seed: int, empty_dsn: Dsn, tmp_path: Path) -> None:
    assert not contract_round(tmp_path, empty_dsn, seed, 30, phases)


@pytest.mark.parametrize("cases", [300, pytest.param(4000, marks=pytest.mark.slow)])
def test_the_server_survives_a_storm(cases: int, seed: int, empty_dsn: Dsn, tmp_path: Path) -> None:
    migrator.migrate(empty_dsn)
    with web_server(tmp_path, empty_dsn) as web:
        report = storm(web.port, empty_dsn, seed, cases)
        failures = [*report.failures, *harm(web, empty_dsn)]

    assert not failures, "\n\n".join([f"--randomly-seed={seed}", *failures])
    assert report.answers.total() >= cases
    assert {kind.split()[0] for kind, _ in report.answers} == {"plain", "quiet", "values", "body", "wire"}
    if cases >= 4000:
        successful = {label.split(maxsplit=1)[1] for label, status in report.answers if 200 <= status < 300}
        assert successful >= {grammar.label(operation) for operation in OPERATIONS.values()}
