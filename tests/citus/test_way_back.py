"""The statements of docs/scaling.md make a plain database again of one that is spread, or was left half-way."""

from typing import Any

import pytest

from persistence import distribution
from persistence.distribution import DistributionError
from persistence.postgres.dsn import Dsn
from tests.citus.test_distribute import NAMES, SPREADING, content, failing_at, fill, rows
from tests.citus.test_migrations import SCHEMA
from tests.docs.pages import DOCS, FENCE, section
from tests.support.databases import execute


def schema_of(dsn: Dsn) -> set[tuple[Any, ...]]:
    return {row for table in ("users", "tasks") for query in SCHEMA for row in rows(dsn, query.format(table))}


def test_a_spread_database_becomes_what_it_was_after_any_step(
    coordinator: Dsn, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(coordinator)
    before, schema = content(coordinator), schema_of(coordinator)
    [statements] = FENCE.findall(section(DOCS / "scaling.md", "Back to one machine"))
    # With users known, tasks spread, users spread as well, and all done.
    for number in (SPREADING - 1, SPREADING, SPREADING + 2, len(NAMES) - 1):
        monkeypatch.setattr(distribution, "STEPS", failing_at(number))
        with pytest.raises(DistributionError, match=rf"^{NAMES[number]}: division by zero\."):
            distribution.distribute(coordinator)
        execute(coordinator, statements)
        assert content(coordinator) == before
        assert schema_of(coordinator) == schema
        assert rows(coordinator, "SELECT FROM pg_dist_partition") == []
