"""Lists of tasks in the model: parameters, filters and orders."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from tests.support.contract import OPERATIONS, SCHEMAS, Json
from tests.support.model.refusals import refuse_faults
from tests.support.model.tasks import Task
from tests.support.model.values import PRIORITIES, Wrong, fitting, is_right, seen, tag, text, timestamp

type Query = Sequence[tuple[str, str]]
"""The parameters of a request, in their order; those that may be repeated stand together."""

SORTS: list[str] = SCHEMAS["Sort"]["enum"]
_PARAMETERS = OPERATIONS["list_tasks"].parameters


@dataclass(frozen=True)
class Position:
    """The place of a task in a sorted list. It stays a place when the task moves or is deleted."""

    value: Any
    id: str


@dataclass(frozen=True)
class Listing:
    """The list that a cursor belongs to."""

    user: str
    filters: Mapping[str, Any]
    sort: str


def _query_bool(value: str) -> bool:
    if value not in ("true", "false"):
        raise Wrong
    return value == "true"


def _limit(value: str) -> int:
    if not re.fullmatch("[1-9][0-9]{0,2}", value) or int(value) > 500:
        raise Wrong
    return int(value)


def folded(text: str) -> str:
    """Alike for texts that differ in case alone. Only small letters have all their capitals."""
    return text.lower().upper()


def _search_terms(value: str) -> tuple[str, ...]:
    """1 to 10 words that differ, in at most 100 characters."""
    different = tuple(word for word in dict.fromkeys(text(value, 100).split()) if is_right(seen, word))
    if not 1 <= len(different) <= 10:
        raise Wrong
    return different


def _is_dated(task: Task) -> bool:
    return task.values["due_date"] is not None


def _has_words(task: Task, words: Sequence[str]) -> bool:
    texts = [folded(task.values["title"]), folded(task.values["description"] or "")]
    return all(any(folded(word) in text for text in texts) for word in words)


MEETS: dict[str, Callable[[Task, Any], bool]] = {
    "status": lambda task, status: task.values["status"] == status,
    "completed": lambda task, completed: task.completed == completed,
    "priority": lambda task, any_of_them: task.values["priority"] in any_of_them,
    "tag": lambda task, all_of_them: all_of_them <= set(task.values["tags"]),
    "due_before": lambda task, end: _is_dated(task) and task.values["due_date"] < end,
    "due_after": lambda task, start: _is_dated(task) and task.values["due_date"] > start,
    "overdue": lambda task, overdue: task.is_overdue == overdue,
    "has_due_date": lambda task, has: _is_dated(task) == has,
    "created_before": lambda task, end: task.created_at < end,
    "created_after": lambda task, start: task.created_at > start,
    "updated_before": lambda task, end: task.updated_at < end,
    "updated_after": lambda task, start: task.updated_at > start,
    "q": _has_words,
}
"""The filters of a list. A task that meets all of them is in the list."""

PAGE: dict[str, Callable[[str], Any]] = {"limit": _limit, "cursor": str}
SINGLE: dict[str, Callable[[str], Any]] = {
    **PAGE,
    **{name: partial(fitting, _PARAMETERS[name]["schema"]) for name in ("sort", "status")},
    "q": _search_terms,
    **dict.fromkeys(("completed", "overdue", "has_due_date"), _query_bool),
    **{f"{what}_{side}": timestamp for what in ("due", "created", "updated") for side in ("before", "after")},
}
REPEATED: dict[str, Callable[[str], Any]] = {
    "priority": partial(fitting, _PARAMETERS["priority"]["schema"]["items"]),
    "tag": tag,
}
"""The parameters that may be given more than once: at most 3 priorities, and at most 20 tags that differ."""


def page_of(query: Query) -> Json:
    """The parameters of a list that has only pages: its cursor, and the size of the page."""
    refuse_faults(
        {name for name, number in Counter(name for name, _ in query).items() if name not in PAGE or number > 1}
    )
    refuse_faults({name for name, value in query if not is_right(PAGE[name], value)})
    return {"limit": 100} | {name: PAGE[name](value) for name, value in query}


def parameters_of(query: Query) -> Json:
    """The parameters in the model's terms. Raises `Refused`: for names first, and for values if all names are right."""
    count = Counter(name for name, _ in query)
    refuse_faults(name for name in count if name not in REPEATED and (name not in SINGLE or count[name] > 1))
    faults = {name for name, value in query if not is_right((SINGLE | REPEATED)[name], value)}
    values = {name: SINGLE[name](value) for name, value in query if name in SINGLE and name not in faults}
    for name, read in REPEATED.items():
        if name in count and name not in faults:
            values[name] = frozenset(read(value) for other, value in query if other == name)
    if count["priority"] > 3:
        faults.add("priority")
    if len(values.get("tag", ())) > 20:
        faults.add("tag")
    refuse_faults(faults)
    return values


def filters_of(parameters: Json) -> Json:
    """Only the filters; equal for lists that are the same, though they were asked for in other words."""
    filters = {name: value for name, value in parameters.items() if name in MEETS}
    if "completed" in filters:
        status = "completed" if filters["completed"] else "pending"
        if filters.setdefault("status", status) == status:
            del filters["completed"]
    return filters


def meets_all(task: Task, filters: Mapping[str, Any]) -> bool:
    return all(MEETS[name](task, value) for name, value in filters.items())


def position_of(task: Task, sort: str) -> Position:
    key = sort.removeprefix("-")
    value = task.row[key]
    if key == "priority":
        value = PRIORITIES.index(value)
    elif key == "title":
        value = folded(value)
    return Position(value, task.key[1])


def in_order(positions: Iterable[Position], sort: str) -> list[Position]:
    """By value and then by id, both reversed by `-`; those without a value are last in both directions."""
    by_id = sorted(positions, key=lambda position: position.id, reverse=sort.startswith("-"))
    valued = [position for position in by_id if position.value is not None]
    return [
        *sorted(valued, key=lambda position: position.value, reverse=sort.startswith("-")),
        *(position for position in by_id if position.value is None),
    ]
