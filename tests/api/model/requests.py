"""The requests that the API and its model get: values that many tasks share, and values at the edge of each rule."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import UUID

from hypothesis import strategies as st

from tests.api.test_queries import REFUSED
from tests.api.test_types import NOT_TIMESTAMPS
from tests.support.contract import EXAMPLE, FIELDS, NULLABLE, READ_ONLY, SCHEMAS, Json
from tests.support.model.lists import PAGE, SORTS, Query
from tests.support.model.values import PRIORITIES, READ, STATUSES, is_right

MICROSECOND = timedelta(microseconds=1)

# Few values, so that many tasks share them; and no letter whose lower case Python and PostgreSQL may see differently.
TITLES = [
    "milk",
    "Milk",
    "MILK bread",
    "Äpfel",
    "a\u0308pfel 2",
    "_",
    "%",
    "a\\b",
    'it\'s "it"',
    "\U0001f95b",
    "e\u0301 é",
]
LETTERS = "abAB äÄéЖж√\U0001f95b%_\\'\"0"
TEXTS = ["", " two\nlitres ", "LITRES, äpfel", "100%", "a_b", "\\", "\t", "x" * 1000]
WORDS = [
    "milk", "MIL", "ILK", "A\u0308PFEL", "äpf", "Litres", "litre", "two\nlitres", "2", "%", "_", "\\", "'", '"', "é",
    "\u0301", "\U0001f95b",
]  # fmt: skip
TAGS = ["home", " Home ", "WORK", "ärger", "A\u0308RGER", "a b", "\U0001f95b", '"', "\\", "null", "{}", ";", "%"]
KEYS = ["1", "2", "!~", "a,b"]
keys = st.sampled_from([None] * 6 + KEYS)

AGO, _AHEAD = datetime(2001, 2, 3, 4, 5, 6, tzinfo=UTC), datetime(2999, 12, 31, 23, 30, tzinfo=UTC)
PAST = [AGO, AGO + MICROSECOND, datetime.min.replace(tzinfo=UTC)]
FUTURE = [_AHEAD, _AHEAD + MICROSECOND, _AHEAD + timedelta(hours=1), datetime.max.replace(tzinfo=UTC)]


def spelled(time: datetime, form: str = "Z") -> str:
    """One of the ways to write a time in RFC 3339."""
    east = timezone(timedelta(hours=5, minutes=30))
    if form == "east" and time.year in range(2, 9999):
        return time.astimezone(east).isoformat()
    text = time.isoformat().replace("+00:00", "Z")
    return text.lower().replace("t", " ") if form == "lower" else text


def times(among: Sequence[datetime]) -> st.SearchStrategy[str]:
    return st.builds(spelled, st.sampled_from(among), st.sampled_from(["Z", "east", "lower"]))


def right_values(name: str) -> st.SearchStrategy[Any]:
    """Values of any field of which the contract says all."""
    named = SCHEMAS.get(FIELDS[name].get("$ref", "").rpartition("/")[2], {})
    if "enum" in named:
        return st.sampled_from(named["enum"])
    some = [value for value in [*TEXTS[:3] * 2, *TEXTS, EXAMPLE[name], None] if is_right(READ[name], value)]
    made_up = st.text(LETTERS, min_size=1, max_size=6).map(" {}\n".format)
    return st.one_of(*[st.sampled_from(some)] * 3, *[made_up] * is_right(READ[name], " a\n"))


titles = st.one_of(
    *[st.sampled_from(TITLES)] * 3, st.text(LETTERS, min_size=1, max_size=6).filter(str.strip).map(" {} ".format)
)
tags = st.lists(st.sampled_from(TAGS[:3] * 4 + TAGS), max_size=4)
BY_HAND = {"id", "title", "status", "completed", "due_date", "tags"}
"""The fields of which the contract cannot say all."""
others = {name: right_values(name) for name in FIELDS if name not in BY_HAND}
states = st.sampled_from(
    [
        *({"status": status} for status in STATUSES),
        *({"completed": completed} for completed in (True, False)),
        *({"status": status, "completed": status == "completed"} for status in STATUSES),
        {},
        {},
    ]
)


def bodies(due: Sequence[datetime], *required: str) -> st.SearchStrategy[Json]:
    """Bodies without faults, with any fields beyond the required ones."""
    values = {"title": titles, "due_date": st.none() | times(due), "tags": tags, **others}
    fields = st.fixed_dictionaries(
        {name: values[name] for name in required}, optional={name: values[name] for name in values.keys() - {*required}}
    )
    return st.builds(lambda fields, state: fields | state, fields, states)


new_tasks = bodies(FUTURE, "title")
replacements = bodies(PAST + FUTURE, "title")
changes = bodies(PAST + FUTURE) | st.sampled_from(
    [{}, *({name: None} for name in NULLABLE), {"completed": True}, {"completed": False}]
)


def each(name: str, *values: Any) -> list[Json]:
    return [{name: value} for value in values]


def longest(name: str) -> list[int]:
    """The length that the contract allows to a text in this field, if it names one."""
    parts = [FIELDS[name], *FIELDS[name].get("anyOf", ())]
    return [part["maxLength"] for part in parts if "maxLength" in part]


WRONG_IN_MOST: tuple[Any, ...] = (None, "", " \n", 0, 1, 5, True, {}, [], ["x"], "x", "a\0", "\udfff")
FAULTS: list[Json] = [
    *(fault for name in FIELDS for fault in each(name, *WRONG_IN_MOST)),
    *[fault for name in FIELDS for length in longest(name) for fault in each(name, "x" * (length + 1))] * 3,
    *each("status", "done", "Pending"),
    *each("due_date", *NOT_TIMESTAMPS[::3]),
    *each("tags", [""], ["ok", 5], [" ", None], *[["x" * 11]] * 3, ["x" * 10 + " "], ["ok", "a,b"], ["\u0301"]),
    *each("title", "\u200b", "e\u0301" * 200, "e\u0301" * 201),
    *each("tags", *([f"{number}" for number in range(count)] + ["1"] * 5 for count in (20, 21))),
    *[{"status": status, "completed": status == "pending"} for status in STATUSES] * 3,
    *({name: "x"} for name in ("colour", "Title", *READ_ONLY)),
    *each("id", "1", "3fa85f6457174562b3fc2c963f66afa6"),
]
"""Parts that make a body wrong, or nearly so; the model knows."""

people = st.sampled_from(["alice", "alice", "alice", "bob", "bob", "nobody"])
people_of_a_task = st.sampled_from(["owner"] * 9 + ["OWNER", "other", "nobody"])

NOT_OBJECTS: list[Any] = [None, [], "x", 5, True, b""]
NOT_JSON = [b" ", b"{", b"'title'", b'{"title": "a", "title": "b"}', b'{"title": NaN}', b'"\xff"', b"{} {}"]
NOT_IDS = [(None, None)] * 5 + [("null", None), (None, "1"), (None, "3fa85f6457174562b3fc2c963f66afa6"), ("x", "y")]
"""Sent in place of the user and the task."""

CONDITIONS = [
    '"{now}"', '"{before}"', "*", 'W/"{now}"', '"x,", "{now}"', '"{before}",W/"{now}"', ' , "{now}" ,,', '"0{now}"',
]  # fmt: skip
NOT_CONDITIONS = [
    "", "{now}", '"{now}', '*, "{now}"', '"{before}" "{now}"', ",", 'w/"{now}"', "a b", "x" * 256, "\x7f", "a,b",
]  # fmt: skip
"""For If-Match and If-None-Match; `{now}` is the task's version and `{before}` the one before."""
few_conditions = st.sampled_from([None] * 80 + CONDITIONS * 3 + NOT_CONDITIONS)
conditions = st.sampled_from([None] * 20 + CONDITIONS * 3 + NOT_CONDITIONS)


def with_faults(body: Json, faults: Sequence[Json]) -> Json:
    return body | {name: value for fault in faults for name, value in fault.items()}


wrong_bodies = st.one_of(
    st.sampled_from(NOT_OBJECTS + NOT_JSON),
    *[st.builds(with_faults, replacements, st.lists(st.sampled_from(FAULTS), min_size=1, max_size=2))] * 3,
)


@dataclass(frozen=True)
class Near:
    """A time of one of the user's tasks, or a microsecond beside it."""

    which: str
    number: int
    microseconds: int


def near(which: str) -> st.SearchStrategy[Near]:
    return st.builds(Near, st.just(which), st.integers(0, 9), st.sampled_from([0, 0, 1, -1]))


FILTERS: Mapping[str, st.SearchStrategy[Any]] = {
    "status": st.sampled_from(STATUSES),
    **dict.fromkeys(("completed", "overdue", "has_due_date"), st.sampled_from(["true", "false"])),
    "priority": st.sampled_from([["low"], ["high", "low"], ["medium", "high"], ["medium", "medium"], [*PRIORITIES]]),
    "tag": st.lists(st.sampled_from(TAGS[:4]), min_size=1, max_size=2),
    "q": st.lists(st.sampled_from(WORDS), min_size=1, max_size=2).map(" ".join),
    **dict.fromkeys(("due_before", "due_after"), near("due_date") | times(PAST + FUTURE)),
    **{f"{which}_{side}": near(f"{which}_at") for which in ("created", "updated") for side in ("before", "after")},
}
one_filter = [st.tuples(st.just(name), values) for name, values in FILTERS.items()]
filters: st.SearchStrategy[Json] = st.one_of(
    *[st.lists(st.one_of(one_filter), min_size=1, max_size=2, unique_by=lambda each: each[0]).map(dict)] * 4,
    st.fixed_dictionaries({"priority": FILTERS["priority"]}, optional={"tag": FILTERS["tag"]}),
    st.fixed_dictionaries({"status": FILTERS["status"], "completed": FILTERS["completed"]}),
    st.fixed_dictionaries({"q": FILTERS["q"]}),
)
several_filters = st.lists(st.just({}) | filters, min_size=1, max_size=5)
sorts = st.none() | st.sampled_from(SORTS)
limits = st.sampled_from([1, 1, 1, 2, 2, 2, 3, 3, None, 500, 501])

QUERY_FAULTS: list[tuple[str, Any]] = [
    *((name, value) for name, _, values in REFUSED for value in values if len(value) < 3000),
    *((name, [value] * 2) for name, value in (("status", "pending"), ("q", "a"), ("limit", "1"))),
    *(("priority", ["low"] * 3), ("tag", ["a"] * 21), ("q", "a " * 50)),
    *((name, "1") for name in ("offset", "tags", "priority[]", "Status", "")),
]
few_faults: st.SearchStrategy[Json] = st.one_of(
    st.just({}), st.just({}), st.lists(st.sampled_from(QUERY_FAULTS), min_size=1, max_size=2).map(dict)
)

PAGE_FAULTS: list[Query] = [
    *([(name, value)] for name, _, values in REFUSED if name in PAGE for value in values if len(value) < 3000),
    *([("limit", "1"), ("limit", "1")], [("sort", "title")], [("limit", "0"), ("cursor", "")], [("status", "pending")]),
]
page_faults: st.SearchStrategy[Query] = st.sampled_from([()] * 40 + PAGE_FAULTS)


OPS_ON_A_TASK = [
    *("GET", "HEAD", "PUT", "PATCH", "DELETE", "RESTORE", "ERASE", "EMPTY", "PUT GET", "PATCH PATCH", "PATCH DELETE"),
    *("DELETE RESTORE", "DELETE RESTORE GET", "DELETE RESTORE DELETE", "DELETE ERASE", "DELETE PUT RESTORE"),
    *("PATCH DELETE RESTORE PATCH", "DELETE RESTORE DELETE* RESTORE", "PATCH PATCH* PATCH", "DELETE POST", "POST"),
    *("MANY", "PATCH DELETE ERASE", "DELETE EMPTY", "DELETE GET ERASE RESTORE"),
]
"""By their methods, or by what is done to the trash. POST creates a task of this id; a star is for a request without a
key among those that have one. MANY is more changes than a task remembers the keys of.
"""

OPS = ("create", "replace", "patch", "delete", "restore")
MISSING = object()
ITEM_FAULTS: list[Any] = [
    *[None, "x", 5, []],
    *each("op", MISSING, None, "undelete", "Create", 1),
    *each("id", MISSING, None, 7, "", "x", "3fa85f6457174562b3fc2c963f66afa6"),
    *each("if_version", "7", 1.5, True, -1, 0, None, 2**63),
    *each("key", "", "a b", "a,b", 7, None, "x" * 256),
    *each("title", MISSING, None, "", "x" * 201),
    *({"status": "done"}, {"colour": "red"}, {"due_date": "tomorrow"}, {"tags": ["a,b"]}, {"version": 1}),
]
WRONG_BATCHES: list[Any] = [
    *NOT_OBJECTS[:-1],
    *[{}, {"items": []}, {"items": None}, {"items": {}}, {"items": "x"}, {"results": []}],
    {"items": [{"op": "delete", "id": str(UUID(int=number))} for number in range(101)]},
    {"items": [{"op": "delete", "id": str(UUID(int=1))}], "atomic": True},
]


@dataclass(frozen=True)
class Item:
    """A part of a batch. `number` is that of a task, or None for a new id; `behind` tells how old its version is."""

    op: str
    number: int | None
    behind: int | None
    key: str | None
    fault: Any


items = st.lists(
    st.builds(
        Item,
        st.sampled_from(OPS),
        st.none() | st.integers(0, 9),
        st.sampled_from([None, None, 0, 0, 1]),
        st.sampled_from([None, None, *KEYS[:3]]),
        st.sampled_from([MISSING] * 6 * len(ITEM_FAULTS) + ITEM_FAULTS),
    ),
    min_size=1,
    max_size=5,
)
whole_batches: st.SearchStrategy[Any] = st.sampled_from([MISSING] * 4 * len(WRONG_BATCHES) + WRONG_BATCHES)
"""What is sent in the place of a batch, if not `MISSING`."""


def spoiled(item: Json, fault: Any) -> Any:
    """The item with the fault in it, or in its place."""
    if fault is MISSING:
        return item
    if not isinstance(fault, dict):
        return fault
    return {name: value for name, value in (item | fault).items() if value is not MISSING}
