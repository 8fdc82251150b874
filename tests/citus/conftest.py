"""Fixtures for tests on Citus: `CITUS_TEST_URL` names its coordinator, as a superuser, and two workers belong to it.

Each test has a database of its own on all nodes. The nodes need `wal_level=logical`.
"""

import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql

from persistence import migrator
from persistence.postgres.dsn import Dsn

# The fixtures of these names, as pytest finds them in a `conftest.py`.
from tests.database.conftest import files, revisions
from tests.support.databases import execute

__all__ = ["files", "revisions"]

URL = os.environ.get("CITUS_TEST_URL")


@pytest.fixture(scope="session")
def servers() -> list[Dsn]:
    """The nodes, the coordinator first, with the database that `CITUS_TEST_URL` names."""
    if not URL:
        pytest.skip("CITUS_TEST_URL does not name a coordinator of Citus with two workers")
    coordinator = Dsn.parse(URL)
    with psycopg.connect(coordinator.conninfo) as connection:
        nodes = connection.execute("SELECT nodename, nodeport FROM pg_dist_node ORDER BY groupid").fetchall()
    assert len(nodes) >= 3
    return [coordinator, *(Dsn(coordinator.parameters | {"host": host, "port": str(port)}) for host, port in nodes[1:])]


@pytest.fixture
def _alone(servers: list[Dsn], run_folder: Path) -> Iterator[None]:
    """One test at a time: the replication slots of two databases that are spread at once have the same names."""
    with (run_folder / "citus.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@pytest.fixture
def nodes(servers: list[Dsn], _alone: None) -> Iterator[list[Dsn]]:
    """A database of the test's own on all nodes, empty, and known to the coordinator, which comes first."""
    name = f"test_{uuid4().hex}"
    nodes = [server.with_database(name) for server in servers]
    for server, node in zip(servers, nodes, strict=True):
        execute(server, f"CREATE DATABASE {name}")
        execute(node, "CREATE EXTENSION citus")
    with psycopg.connect(nodes[0].conninfo, autocommit=True) as connection:
        first, *others = (node.parameters for node in nodes)
        connection.execute("SELECT citus_set_coordinator_host(%s, %s)", [first["host"], int(first["port"])])
        for worker in others:
            connection.execute("SELECT citus_add_node(%s, %s)", [worker["host"], int(worker["port"])])
    yield nodes
    for server in servers:
        with psycopg.connect(server.conninfo, autocommit=True) as connection:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture
def coordinator(nodes: list[Dsn]) -> Dsn:
    """The coordinator, with a migrated database that is not spread yet."""
    migrator.migrate(nodes[0])
    return nodes[0]


@pytest.fixture
def role(coordinator: Dsn) -> Iterator[str]:
    """A role on all nodes, as that of a server, with no rights yet."""
    name = f"role_{uuid4().hex}"
    execute(coordinator, f"CREATE ROLE {name} LOGIN")
    yield name
    execute(coordinator, f"DROP OWNED BY {name}", f"DROP ROLE {name}")
