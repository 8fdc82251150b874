"""Statements as the API runs them, with values to run them with."""

import random
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from persistence import task_lists
from persistence.postgres.statement import Statement
from persistence.task_lists import SortKey, Start
from persistence.tasks import TaskRow

LIMIT = 101
"""What the API asks for to answer with 100."""

# The same for all, whatever day it is: the tasks of `benchmarks.data` lead up to now.
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
"""What each filter that needs a value is given."""


def a_list(
    *filters: str, sort: SortKey = "created_at", descending: bool = True, start: Start = "first"
) -> Statement[TaskRow]:
    return task_lists.list_statement(frozenset(filters), sort, descending=descending, start=start)


def a_new_task(dice: random.Random, user_id: UUID, task_id: UUID | None = None) -> dict[str, Any]:
    """What `tasks.CREATE` needs; as long and as tagged as those of `benchmarks.data`."""
    tags = dice.choice(([], ["work"], ["home"])) + dice.choice(([], [], ["urgent"]))
    return {
        "id": task_id or uuid4(),
        "user_id": user_id,
        "title": f"Call the landlord about the heating, {dice.randrange(1000)}",
        "description": "Remember what was said about it last time. " * dice.choice((0, 0, 0, 2, 4)) or None,
        "status": "pending",
        "priority": dice.choice(("low", "medium", "medium", "high")),
        "due_date": _NOW + timedelta(days=dice.randrange(99)) if dice.random() < 0.4 else None,
        "tags": f"{{{','.join(tags)}}}",
    }
