"""Fixtures for tests on Citus (`tests.support.citus`). Each test has a database of its own on all nodes."""

from collections.abc import Iterator

import pytest

from persistence import migrator
from persistence.postgres.dsn import Dsn

# The fixtures of these names, as pytest finds them in a `conftest.py`.
from tests.database.conftest import files, revisions
from tests.support import citus
from tests.support.nodes import alone

__all__ = ["files", "revisions"]


@pytest.fixture(scope="session")
def servers() -> list[Dsn]:
    """The nodes, the coordinator first, with the database that `CITUS_TEST_URL` names."""
    if not (servers := citus.servers()):
        pytest.skip(citus.MISSING)
    return servers


@pytest.fixture
def nodes(servers: list[Dsn]) -> Iterator[list[Dsn]]:
    """A database of the test's own on all nodes, empty, and known to the coordinator, which comes first."""
    with alone(servers[0]), citus.new_database(servers) as nodes:
        yield nodes


@pytest.fixture
def coordinator(nodes: list[Dsn]) -> Dsn:
    """The coordinator, with a migrated database that is not spread yet, and as if it had been alone until now."""
    migrator.migrate(Dsn(nodes[0].parameters | {"options": "-c citus.enable_ddl_propagation=off"}))
    return nodes[0]


@pytest.fixture
def role(coordinator: Dsn) -> Iterator[str]:
    """A role on all nodes, as that of a server, with no rights yet."""
    with citus.new_role(coordinator) as role:
        yield role
