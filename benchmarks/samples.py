"""Statements of the API, with values to run them with."""

import random
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from persistence import task_lists
from persistence.postgres.statement import Statement
from persistence.task_lists import SortKey, Start

LIMIT = 101
"""The rows that the API reads to answer with 100 tasks."""

# The times of the tasks of `benchmarks.data` end at the present.
_NOW = datetime.now(UTC)
FILTERS: Mapping[str, Any] = {
    "status": "pending",
    "priority": "high",
    "priorities": "{low,high}",
    "tags": "{work}",
    "words": "{lisbon}",
    "due_before": _NOW - timedelta(days=100),
    "due_after": _NOW,
    "created_before": _NOW - timedelta(days=100),
    "created_after": _NOW - timedelta(days=100),
    "updated_before": _NOW - timedelta(days=100),
    "updated_after": _NOW - timedelta(days=100),
}
"""The value of each filter that needs one."""


def a_list(*filters: str, sort: SortKey = "created_at", descending: bool = True, start: Start = "first") -> Statement:
    return task_lists.list_statement(frozenset(filters), sort, descending=descending, start=start)


def a_new_task(rng: random.Random, user_id: UUID, task_id: UUID | None = None) -> dict[str, Any]:
    """Returns values for `tasks.CREATE`, with texts and tags like those of `benchmarks.data`."""
    tags = rng.choice(([], ["work"], ["home"])) + rng.choice(([], [], ["urgent"]))
    return {
        "id": task_id or uuid4(),
        "user_id": user_id,
        "title": f"Call the landlord about the heating, {rng.randrange(1000)}",
        "description": "Remember what was said about it last time. " * rng.choice((0, 0, 0, 2, 4)) or None,
        "status": "pending",
        "priority": rng.choice(("low", "medium", "medium", "high")),
        "due_date": _NOW + timedelta(days=rng.randrange(99)) if rng.random() < 0.4 else None,
        "tags": f"{{{','.join(tags)}}}",
    }
