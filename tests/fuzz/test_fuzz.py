"""The server keeps its contract, whatever is sent; `make fuzz` sends a hundred times as much."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from persistence.postgres.dsn import Dsn
from tests.fuzz import grammar
from tests.fuzz.answers import Report
from tests.fuzz.site import harm, web_server
from tests.fuzz.storm import storm
from tests.support.contract import OPERATIONS
from tests.support.databases import temporary_database
from tests.support.servers import WebServer

type Site = tuple[WebServer, Dsn]

PHASES = [("examples", "coverage"), ("fuzzing",), ("stateful",)]


OF_ACCOUNTS = {"GET /api/v1/me", "DELETE /api/v1/me"}
"""There is an account only where tokens are asked for, which they are not here."""


@pytest.fixture
def seed(pytestconfig: pytest.Config) -> int:
    """The seed of pytest-randomly, so that `--randomly-seed` repeats a run."""
    return int(pytestconfig.getoption("randomly_seed", 1))


@pytest.fixture(scope="module")
def shared(server: Dsn, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A server for the short attacks."""
    with temporary_database(server, template) as dsn, web_server(tmp_path_factory.mktemp("web"), dsn) as web:
        yield web, dsn


@pytest.fixture
def own(migrated_dsn: Dsn, tmp_path: Path) -> Iterator[Site]:
    with web_server(tmp_path, migrated_dsn) as web:
        yield web, migrated_dsn


def contract_round(site: Site, seed: int, examples: int, phases: tuple[str, ...]) -> set[str]:
    """Returns the operations that never answered with success."""
    # Only here, as it takes half a second that every process of pytest would spend.
    from tests.fuzz.rounds import fuzz

    web, dsn = site
    report = fuzz(web.url, dsn, seed, examples, phases)

    assert not report.failures, "\n\n".join([f"--randomly-seed={seed}", *report.failures])
    assert "Traceback" not in web.log
    assert report.answers
    return {name for name, _ in report.answers} - {name for name, status in report.answers if status < 400}


def survive(site: Site, seed: int, cases: int) -> Report:
    web, dsn = site
    report = storm(web.port, dsn, seed, cases)
    failures = [*report.failures, *harm(web, dsn)]

    assert not failures, "\n\n".join([f"--randomly-seed={seed}", *failures])
    assert report.answers.total() >= cases
    assert {kind.split()[0] for kind, _ in report.answers} == {"plain", "quiet", "values", "body", "wire"}
    return report


def test_a_few_requests_are_answered_as_the_contract_says(seed: int, shared: Site) -> None:
    contract_round(shared, seed, 2, ("fuzzing",))


def test_the_server_survives_a_squall(seed: int, shared: Site) -> None:
    survive(shared, seed, 300)


@pytest.mark.slow
@pytest.mark.parametrize("phases", PHASES, ids=", ".join)
def test_the_server_keeps_its_contract(phases: tuple[str, ...], seed: int, own: Site) -> None:
    assert contract_round(own, seed, 30, phases) <= OF_ACCOUNTS


@pytest.mark.slow
def test_the_server_survives_a_storm(seed: int, own: Site) -> None:
    report = survive(own, seed, 8000)

    successful = {label.split(maxsplit=1)[1] for label, status in report.answers if 200 <= status < 300}
    assert successful >= {grammar.label(operation) for operation in OPERATIONS.values()} - OF_ACCOUNTS
