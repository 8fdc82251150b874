"""Fixtures for tests on Citus (`tests.support.citus`). Each test has a database of its own on all nodes."""

import fcntl
from collections.abc import Iterator
from pathlib import Path

import pytest

from persistence import migrator
from persistence.postgres.dsn import Dsn

# The fixtures of these names, as pytest finds them in a `conftest.py`.
from tests.database.conftest import files, revisions
from tests.support import citus

__all__ = ["files", "revisions"]


@pytest.fixture(scope="session")
def servers() -> list[Dsn]:
    """The nodes, the coordinator first, with the database that `CITUS_TEST_URL` names."""
    if not (servers := citus.servers()):
        pytest.skip(citus.MISSING)
    return servers


@pytest.fixture
def _alone(servers: list[Dsn], run_folder: Path) -> Iterator[None]:
    """One test at a time: the replication slots of two databases that are spread at once have the same names."""
    with (run_folder / "citus.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@pytest.fixture
def nodes(servers: list[Dsn], _alone: None) -> Iterator[list[Dsn]]:
    """A database of the test's own on all nodes, empty, and known to the coordinator, which comes first."""
    with citus.new_database(servers) as nodes:
        yield nodes


@pytest.fixture
def coordinator(nodes: list[Dsn]) -> Dsn:
    """The coordinator, with a migrated database that is not spread yet."""
    migrator.migrate(nodes[0])
    return nodes[0]


@pytest.fixture
def role(coordinator: Dsn) -> Iterator[str]:
    """A role on all nodes, as that of a server, with no rights yet."""
    with citus.new_role(coordinator) as role:
        yield role
