"""The nodes of a Citus cluster, for tests on a spread database.

With `TEST_SPREAD` all tests run on one, and `TEST_DATABASE_URL` names the coordinator, as a superuser.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import psycopg

from persistence import distribution
from persistence.postgres.dsn import Dsn

IS_SPREAD = bool(os.environ.get("TEST_SPREAD"))
_SPREADING = 0x63697475
"""The key of an advisory lock, which counts in the database of `TEST_DATABASE_URL`: "citu" in ASCII."""

SHARD = r"(_\d+)?" if IS_SPREAD else ""
"""A regular expression for what follows the name of a table or a rule in a message: the number of a shard, if any."""


def is_one_moment(first: datetime, second: datetime) -> bool:
    """Tells if two times of one change are the same. In a spread database the second may be taken later, elsewhere."""
    return first <= second if IS_SPREAD else first == second


def without_nodes(state: dict[str, Any]) -> dict[str, Any]:
    """The answer of a probe, without the nodes of a spread database while all of them answer."""
    nodes = state.get("nodes")
    if IS_SPREAD and nodes and nodes["known"] == nodes["answering"]:
        return {name: value for name, value in state.items() if name != "nodes"}
    return state


def nodes_of(coordinator: Dsn) -> list[Dsn]:
    """The nodes of a database, the coordinator first."""
    with psycopg.connect(coordinator.conninfo) as connection:
        found = connection.execute("SELECT nodename, nodeport FROM pg_dist_node ORDER BY groupid").fetchall()
    workers = (Dsn(coordinator.parameters | {"host": host, "port": str(port)}) for host, port in found[1:])
    return [coordinator, *workers]


def connect_nodes(nodes: Sequence[Dsn], known: int | None = None) -> None:
    """Makes one database of those on all nodes, which are empty. The first one knows as many of them as `known` says.

    Two of them must not be spread, nor have shards moved, at once (`alone`).
    """
    for node in nodes:
        with psycopg.connect(node.conninfo, autocommit=True) as connection:
            connection.execute("CREATE EXTENSION citus")
    with psycopg.connect(nodes[0].conninfo, autocommit=True) as connection:
        for number, node in enumerate(nodes[:known]):
            add = "citus_add_node" if number else "citus_set_coordinator_host"
            connection.execute(f"SELECT {add}(%s, %s)".encode(), [node.host, int(node.parameters["port"])])


@contextmanager
def alone(coordinator: Dsn) -> Iterator[None]:
    """One at a time in this cluster: the replication slots of two databases that are spread have the same names."""
    with psycopg.connect(coordinator.conninfo, autocommit=True) as connection:
        connection.execute("SELECT pg_advisory_lock(%s)", [_SPREADING])
        yield


def make_template(servers: Sequence[Dsn], dsn: Dsn) -> None:
    """Spreads a migrated database, and closes it, so that it can be copied on each node."""
    with alone(servers[0]):
        distribution.distribute(dsn)
    with psycopg.connect(dsn.conninfo, autocommit=True) as connection:
        # Citus would do it later, in each copy.
        connection.execute("CALL citus_cleanup_orphaned_resources()")
    for server in servers:
        with psycopg.connect(server.conninfo, autocommit=True) as admin:
            admin.execute(f"ALTER DATABASE {dsn.database} ALLOW_CONNECTIONS false".encode())
            # Citus has a process in each database, and starts it again for the next connection.
            admin.execute(
                "SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity WHERE datname = %s", [dsn.database]
            )
