"""The query of a list, read as strictly as a body."""

from typing import Annotated, Any, Literal, cast

from pydantic import BaseModel, BeforeValidator, Field, WithJsonSchema

from persistence.models import Priority, Status
from persistence.task_lists import SortKey
from todos import cursors
from todos.types import QueryBool, QueryTimestamp, Repeatable, SearchTerms, Tags, whole_number

DEFAULT_LIMIT = 100
MAX_LIMIT = 500

type Sort = Annotated[
    Literal[
        "created_at", "-created_at", "updated_at", "-updated_at", "due_date", "-due_date",
        "priority", "-priority", "title", "-title",
    ],
    Field(description="An order of tasks; `-` reverses it."),
]  # fmt: skip


_CURSOR = WithJsonSchema({"type": "string", "maxLength": cursors.MAX_LENGTH, "pattern": cursors.PATTERN})


class PageQuery(BaseModel):
    """How many tasks, and from where on."""

    limit: Annotated[
        int,
        Field(ge=1, le=MAX_LIMIT, description="How many tasks a page has at most."),
        BeforeValidator(whole_number),
    ] = DEFAULT_LIMIT
    cursor: Annotated[str | None, _CURSOR, Field(description="`next_cursor` of the page before, unchanged.")] = None


class ChangeQuery(PageQuery):
    """How many changes, and since when."""

    cursor: Annotated[
        str | None,
        _CURSOR,
        Field(description="`next_cursor` of the answer before, unchanged. Without it, the answer has all tasks."),
    ] = None


class TaskQuery(PageQuery):
    """Which tasks, in which order, and how many. All filters must be met."""

    cursor: Annotated[
        str | None,
        _CURSOR,
        Field(description="`next_cursor` of the page before, unchanged, with the same filters and the same `sort`."),
    ] = None
    sort: Annotated[
        Sort,
        Field(
            description="The order; `-` reverses it. Tasks without a due date are last in both directions; titles are "
            "compared in capitals, by code points; priorities are low, medium, high."
        ),
    ] = "-created_at"
    status: Annotated[Status | None, Field(description="Only tasks of this status.")] = None
    completed: Annotated[QueryBool | None, Field(description="Another way to say `status`.")] = None
    priority: Annotated[
        list[Priority],
        Field(max_length=3, description="Only tasks of this priority; repeated: of one of these."),
        Repeatable,
    ] = []
    tag: Annotated[Tags, Field(description="Only tasks with this tag; repeated: with all of these."), Repeatable] = []
    due_before: Annotated[QueryTimestamp | None, Field(description="Only tasks due before this moment, not at it.")] = (
        None
    )
    due_after: Annotated[QueryTimestamp | None, Field(description="Only tasks due after this moment, not at it.")] = (
        None
    )
    overdue: Annotated[
        QueryBool | None,
        Field(description="`true`: only pending tasks whose due date has passed; `false`: only all others."),
    ] = None
    has_due_date: Annotated[
        QueryBool | None, Field(description="Only tasks with a due date (`true`) or without one (`false`).")
    ] = None
    created_before: Annotated[QueryTimestamp | None, Field(description="Only tasks created before this moment.")] = None
    created_after: Annotated[QueryTimestamp | None, Field(description="Only tasks created after this moment.")] = None
    updated_before: Annotated[
        QueryTimestamp | None, Field(description="Only tasks last changed before this moment.")
    ] = None
    updated_after: Annotated[QueryTimestamp | None, Field(description="Only tasks last changed after this moment.")] = (
        None
    )
    q: Annotated[
        SearchTerms | None,
        Field(
            description="1 to 10 words to look for in title and description. Each must occur, also as a part of a "
            "longer word; case makes no difference, and `ß` is like `ss`."
        ),
    ] = None

    @property
    def sort_key(self) -> SortKey:
        return cast("SortKey", self.sort.removeprefix("-"))

    @property
    def descending(self) -> bool:
        return self.sort.startswith("-")

    def filters(self) -> dict[str, Any]:
        """For `persistence.task_lists`, each list in one order."""
        filters: dict[str, Any] = {
            "status": self.status,
            "priorities": sorted(set(self.priority)) or None,
            "tags": sorted(self.tag) or None,
            "due_before": self.due_before,
            "due_after": self.due_after,
            "created_before": self.created_before,
            "created_after": self.created_after,
            "updated_before": self.updated_before,
            "updated_after": self.updated_after,
            "words": sorted(self.q) if self.q else None,
        }
        filters = {name: value for name, value in filters.items() if value is not None}
        if self.completed is not None:
            said = "completed" if self.completed else "pending"
            # No task is both; a filter that no task can meet is not a mistake.
            filters |= {"status": said} if self.status in (None, said) else {"nothing": None}
        if self.overdue is not None:
            filters["overdue" if self.overdue else "not_overdue"] = None
        if self.has_due_date is not None:
            filters["with_due_date" if self.has_due_date else "without_due_date"] = None
        return filters
