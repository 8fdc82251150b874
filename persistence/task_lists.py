"""All SQL about many tasks of one user: pages of a list, filtered and sorted, and counts.

A list has a shape: which filters it uses, how it is sorted, and whether it goes on from an earlier page. There is one
statement for each shape, built when it is first asked for and then kept. Which index serves which shape, and what the
others cost, is in docs/scaling.md; tests/database/test_plans.py holds PostgreSQL to it.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Literal, TypeAliasType
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY

from persistence.models import Priority, Status, values_of
from persistence.postgres.database import Database
from persistence.postgres.statement import Statement
from persistence.tasks import COLUMNS, LIVE, MINE, PENDING, TABLE, TaskRow

type SortKey = Literal["created_at", "updated_at", "due_date", "priority", "title"]
type Start = Literal["first", "after", "after-null"]
"""At the beginning, or after a row with a sort value, or after one without: the last one seen had no due date."""

type Filters = Mapping[str, Any]
"""Names of `CONDITIONS`, each with what it binds, or None."""

TAGS_COUNTED = 1000
"""Tags in the counts of a user: the most frequent ones. Each task may have others than all others have."""
SHAPES_KEPT = 1000
"""Statements kept, of more than 100,000 possible; building a new one takes as long as several creates."""


def _bound(name: str, column: str) -> sa.ColumnElement[Any]:
    return sa.bindparam(name, type_=TABLE.c[column].type)


def _folded(text: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
    """Without a difference of case, and by code points: alike in every database, so that a cursor stays good."""
    return sa.func.folded(text, type_=sa.Text()).collate("C")


_TEXT = _folded(
    TABLE.c.title + sa.literal_column("E'\\n'") + sa.func.coalesce(TABLE.c.description, sa.literal_column("''"))
)
_WORD = sa.func.unnest(sa.cast(sa.bindparam("words"), ARRAY(sa.Text()))).column_valued("word")
# What LIKE would take for more than itself is escaped. PostgreSQL makes the patterns once for all texts.
_ESCAPED = sa.func.regexp_replace(
    _folded(_WORD), sa.literal_column(r"E'([\\\\%_])'"), sa.literal_column(r"E'\\\\\\1'"), sa.literal_column("'g'")
)
_PATTERNS = sa.select(sa.func.concat(sa.literal_column("'%'"), _ESCAPED, sa.literal_column("'%'")))
_HAS_WORDS = _TEXT.like(sa.all_(sa.func.array(_PATTERNS.scalar_subquery(), type_=ARRAY(sa.Text()))))
_OVERDUE = sa.and_(TABLE.c.due_date < sa.func.now(), TABLE.c.status == PENDING)
# The keys find the user's tasks by the index, which has no tasks without tags; they are hashes, so the tags decide.
_WANTED = sa.cast(sa.bindparam("tags"), ARRAY(sa.Text()))
_TAGGED_WITH = sa.and_(
    TABLE.c.tags != sa.literal_column("'{}'"),
    sa.func.tag_keys(TABLE.c.user_id, TABLE.c.tags, type_=ARRAY(sa.BigInteger())).contains(
        sa.func.tag_keys(_bound("user_id", "user_id"), _WANTED, type_=ARRAY(sa.BigInteger()))
    ),
    TABLE.c.tags.contains(_WANTED),
)

# Waits until no other such statement of the user runs, in any process; the lock ends with the statement.
# `current_schema` is there because PostgreSQL makes no parallel plan for a statement that calls it.
_USER = sa.func.concat(sa.func.current_schema(), _bound("user_id", "user_id"))
_LOCK = sa.func.pg_advisory_xact_lock(sa.func.hashtextextended(_USER, sa.literal_column("0")))
ALONE = sa.select(sa.cast(_LOCK, sa.Text())).scalar_subquery().is_not(None)

CONDITIONS: dict[str, sa.ColumnElement[bool]] = {
    # Written out, because SQLAlchemy would make it the only condition, and leave out the owner.
    "nothing": sa.literal_column("false", sa.Boolean()),
    "status": TABLE.c.status == sa.cast(sa.bindparam("status"), TABLE.c.status.type),
    "priority": TABLE.c.priority == sa.cast(sa.bindparam("priority"), TABLE.c.priority.type),
    "priorities": TABLE.c.priority == sa.any_(sa.cast(sa.bindparam("priorities"), ARRAY(TABLE.c.priority.type))),
    "tags": _TAGGED_WITH,
    "due_before": TABLE.c.due_date < _bound("due_before", "due_date"),
    "due_after": TABLE.c.due_date > _bound("due_after", "due_date"),
    "overdue": _OVERDUE,
    # Without a due date it is neither true nor false that the date has passed.
    "not_overdue": sa.not_(sa.func.coalesce(_OVERDUE, sa.false())),
    "with_due_date": TABLE.c.due_date.is_not(None),
    "without_due_date": TABLE.c.due_date.is_(None),
    "created_before": TABLE.c.created_at < _bound("created_before", "created_at"),
    "created_after": TABLE.c.created_at > _bound("created_after", "created_at"),
    "updated_before": TABLE.c.updated_at < _bound("updated_before", "updated_at"),
    "updated_after": TABLE.c.updated_at > _bound("updated_after", "updated_at"),
    # In coalesce, as PostgreSQL takes what has all of several patterns for rare, and would read and sort all tasks.
    "words": sa.func.coalesce(_HAS_WORDS, sa.false()),
}
"""Each filter by name; one that needs a value binds it under the same name."""

_KEYS: dict[SortKey, sa.ColumnElement[Any]] = {
    "created_at": TABLE.c.created_at,
    "updated_at": TABLE.c.updated_at,
    "due_date": TABLE.c.due_date,
    "priority": TABLE.c.priority,
    "title": _folded(TABLE.c.title),
}

_RANGES: dict[SortKey, frozenset[str]] = {
    "created_at": frozenset({"created_before", "created_after"}),
    "due_date": frozenset({"due_before", "due_after", "with_due_date", "without_due_date"}),
}
"""The filters that only say where to begin and end in the index that has this order."""


def is_in_index_order(filters: frozenset[str], sort: SortKey) -> bool:
    """Tells if an index has the page in its order, so that its cost does not grow with the number of the tasks."""
    others = filters - _RANGES.get(sort, frozenset())
    return sort in _RANGES and (not others or (sort == "created_at" and others in ({"status"}, {"priority"})))


@lru_cache(maxsize=SHAPES_KEPT)
def list_statement(filters: frozenset[str], sort: SortKey, *, descending: bool, start: Start) -> Statement:
    """The statement of one shape. Tasks without a due date come last in both directions; the id makes a total order."""
    limit: sa.ColumnElement[Any] = sa.bindparam("limit", type_=sa.BigInteger())
    if not filters or is_in_index_order(filters, sort):
        # One plan is the best for all users and values; otherwise that depends on how rare the matches are. PostgreSQL
        # knows how many tasks a user has on average. Where that is less than the limit, it would read and
        # sort all of them; when it cannot see the limit, it reads in order and stops.
        limit = sa.select(limit).scalar_subquery()
    clause = sa.select(*COLUMNS).where(MINE, LIVE, *(CONDITIONS[name] for name in sorted(filters)))
    if not is_in_index_order(filters, sort):
        clause = clause.where(ALONE)
    if sort == "due_date":
        return Statement("list", _by_due_date(clause, limit, descending=descending, start=start))
    if start != "first":
        clause = clause.where(_after(sort, descending=descending))
    return Statement("list", clause.order_by(*_order(sort, descending=descending)).limit(limit))


def _by_due_date(
    clause: sa.Select[*tuple[Any, ...]], limit: sa.ColumnElement[Any], *, descending: bool, start: Start
) -> sa.Select[*tuple[Any, ...]] | sa.CompoundSelect[*tuple[Any, ...]]:
    """Tasks with a due date, then those without: two ranges of one index, read no further than the page needs."""
    due_date, order = TABLE.c.due_date, _order("due_date", descending=descending)
    undated = clause.where(due_date.is_(None)).order_by(*order)
    if start == "after-null":
        last_id, task_id = sa.bindparam("after_id", type_=sa.Uuid()), TABLE.c.id
        return undated.where(task_id < last_id if descending else task_id > last_id).limit(limit)
    dated = clause.where(due_date.is_not(None)).order_by(*order).limit(limit)
    if start == "after":
        dated = dated.where(_after("due_date", descending=descending))
    first = dated.cte("dated")
    rest = undated.limit(limit - sa.select(sa.func.count()).select_from(first).scalar_subquery()).cte("undated")
    both = sa.union_all(sa.select(first), sa.select(rest))
    due_date, task_id = both.selected_columns.due_date, both.selected_columns.id
    return both.order_by(
        (due_date.desc() if descending else due_date.asc()).nulls_last(),
        task_id.desc() if descending else task_id.asc(),
    )


def _order(sort: SortKey, *, descending: bool) -> tuple[sa.ColumnElement[Any], sa.ColumnElement[Any]]:
    key, task_id = _KEYS[sort], TABLE.c.id
    return (key.desc(), task_id.desc()) if descending else (key.asc(), task_id.asc())


def _after(sort: SortKey, *, descending: bool) -> sa.ColumnElement[bool]:
    """The condition for what follows the last row of the page before, which is bound as `after` and `after_id`."""
    last: sa.ColumnElement[Any] = sa.cast(sa.bindparam("after"), TABLE.c[sort].type)
    if sort == "title":
        last = _folded(last)
    here, there = sa.tuple_(_KEYS[sort], TABLE.c.id), sa.tuple_(last, sa.bindparam("after_id", type_=sa.Uuid()))
    return here < there if descending else here > there


async def page(
    database: Database,
    user_id: UUID,
    limit: int,
    filters: Filters | None = None,
    sort: SortKey = "created_at",
    *,
    descending: bool = True,
    after: tuple[Any, UUID] | None = None,
) -> list[TaskRow]:
    """At most `limit` tasks that meet all filters, from the one `after` this sort value and id. One round trip."""
    filters = dict(filters or {})
    if len(filters.get("priorities", ())) == 1:
        # Of one priority an index has them in order, of a set of them it has not.
        [filters["priority"]] = filters.pop("priorities")
    values: dict[str, Any] = {"user_id": user_id, "limit": limit, **filters}
    start: Start = "first"
    if after is not None:
        values["after"], values["after_id"] = after
        start = "after-null" if after[0] is None else "after"
    shape = list_statement(frozenset(filters), sort, descending=descending, start=start)
    if is_in_index_order(frozenset(filters), sort):
        return await database.rows(shape, values)
    return await database.long_rows(shape, values, user_id)


def _count(condition: sa.ColumnElement[bool]) -> sa.ColumnElement[Any]:
    return sa.func.count().filter(condition)


def _counts(column: sa.ColumnElement[Any], enum: TypeAliasType) -> sa.ColumnElement[Any]:
    """A JSON object with the number of rows for each value of an enum."""
    literals: list[sa.ColumnElement[Any]] = [sa.literal_column(f"'{value}'") for value in values_of(enum)]
    return sa.func.json_build_object(*(part for value in literals for part in (value, _count(column == value))))


_TASKS = (
    sa.select(TABLE.c.status, TABLE.c.priority, TABLE.c.tags, _OVERDUE.label("overdue"))
    .where(MINE, LIVE, ALONE)
    .cte("mine")
)
_TAGGED = sa.select(sa.func.unnest(_TASKS.c.tags).label("tag")).subquery("tagged")
_TAG, _NUMBER = _TAGGED.c.tag, sa.func.count()
_USES = (
    sa.select(_TAG, _NUMBER.label("uses"))
    .group_by(_TAG)
    .order_by(_NUMBER.desc(), _TAG.collate("C"))
    .limit(sa.literal_column(str(TAGS_COUNTED)))
    .subquery("used")
)
# Written by hand, because `json_object_agg` puts space around everything, and the text goes out as it is.
_MEMBER = sa.cast(sa.func.to_json(_USES.c.tag), sa.Text()) + sa.literal_column("':'") + sa.cast(_USES.c.uses, sa.Text())
_TAGS = sa.select(
    sa.func.concat(
        sa.literal_column("'{'"),
        sa.func.string_agg(_MEMBER, sa.literal_column("','")).aggregate_order_by(
            _USES.c.uses.desc(), _USES.c.tag.collate("C")
        ),
        sa.literal_column("'}'"),
    )
).scalar_subquery()

SUMMARY = Statement(
    "summary",
    sa.select(
        sa.func.count().label("total"),
        _counts(_TASKS.c.status, Status).label("status"),
        _counts(_TASKS.c.priority, Priority).label("priority"),
        _TAGS.label("tags"),
        _count(_TASKS.c.overdue).label("overdue"),
    ).select_from(_TASKS),
)


async def summary(database: Database, user_id: UUID) -> dict[str, Any]:
    """The counts of all the user's tasks at one moment; `tags` is JSON text, the most frequent tag first, up to 1,000.

    One round trip, which reads all of them.
    """
    [row] = await database.long_rows(SUMMARY, {"user_id": user_id}, user_id)
    return row
