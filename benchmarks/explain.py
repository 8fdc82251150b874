"""PostgreSQL's own account of a statement: how long it took, and what it read."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg

from persistence.postgres.dsn import Dsn
from persistence.postgres.statement import Statement


@dataclass(frozen=True)
class Run:
    """One run of a statement. Microseconds include planning and the conversion of rows to text."""

    microseconds: float
    returned: int
    read: int
    """Tasks that were read."""
    pages: int
    """Accesses to pages of tables and indexes."""
    indexes: tuple[str, ...]


class Explainer:
    """Runs statements as they run on a connection of this project that has prepared them."""

    def __init__(self, connection: psycopg.Connection) -> None:
        self.connection = connection
        self._names: dict[str, str] = {}

    def run(self, statement: Statement, values: Mapping[str, Any]) -> Run:
        """Takes arrays in PostgreSQL's notation: `{one,two}`."""
        values = statement.bind(values)
        name = self._names.get(statement.text) or self._prepare(statement)
        places = ", ".join(["%s"] * len(statement.parameters))
        row = self.connection.execute(
            f"EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, SERIALIZE TEXT, FORMAT JSON) EXECUTE {name} ({places})".encode(),
            [values[parameter] for parameter in statement.parameters],
        ).fetchone()
        assert row
        [found] = row[0]
        return _run(found)

    def _prepare(self, statement: Statement) -> str:
        name = self._names[statement.text] = f"statement_{len(self._names)}"
        self.connection.execute(f"PREPARE {name} AS {statement.text}".encode())
        return name


@contextmanager
def explainer(dsn: Dsn, schema: str = "public") -> Iterator[Explainer]:
    """Yields an explainer that finds the table of tasks in this schema first."""
    with psycopg.connect(dsn.conninfo, autocommit=True, cursor_factory=psycopg.ClientCursor) as connection:
        connection.execute(f"SET search_path = {schema}, public".encode())
        yield Explainer(connection)


def _run(found: Mapping[str, Any]) -> Run:
    plan = found["Plan"]
    nodes = list(_nodes(plan))
    removed = ("Rows Removed by Filter", "Rows Removed by Index Recheck")
    scans = [node for node in nodes if node.get("Relation Name") == "tasks" and "Scan" in node["Node Type"]]
    return Run(
        microseconds=1000 * (found["Planning Time"] + found["Execution Time"]),
        returned=round(plan["Actual Rows"]),
        read=round(
            sum(
                (node["Actual Rows"] + sum(node.get(key, 0) for key in removed)) * node["Actual Loops"]
                for node in scans
            )
        ),
        pages=plan["Shared Hit Blocks"] + plan["Shared Read Blocks"],
        indexes=tuple(sorted({node["Index Name"] for node in nodes if "Index Name" in node})),
    )


def _nodes(node: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield node
    for child in node.get("Plans", ()):
        yield from _nodes(child)
