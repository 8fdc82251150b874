"""The API and its model (`tests/support/model.py`) never disagree, whatever two users do in whatever order.

Hypothesis makes up the requests, in runs of many steps; both get them, and both must say the same. A failure shows the
shortest run that it found. MODEL_EXAMPLES in the environment asks for so many runs, which are longer then.
"""

import asyncio
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any, override
from uuid import UUID, uuid4

import httpx
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.configuration import set_hypothesis_home_dir
from hypothesis.stateful import (
    Bundle,
    MultipleResults,
    RuleBasedStateMachine,
    initialize,
    multiple,
    rule,
    run_state_machine_as_test,
)

from persistence import users
from persistence.postgres.database import Database, open_database
from persistence.postgres.dsn import Dsn
from persistence.postgres.options import DatabaseOptions, PoolLimits
from tests.conftest import client_of
from tests.support.helpers import PROBLEM, Json
from tests.support.model import (
    DEFAULTS,
    PRIORITIES,
    SORTS,
    STATUSES,
    Answer,
    Choice,
    Model,
    Query,
    Refused,
    Task,
    values_of,
)

EXAMPLES, STEPS = 70, 40
LONG_STEPS = 80

NO_BODY: Any = object()
NOBODY = str(UUID(int=0))
HEADERS = ("Cache-Control", "ETag", "Idempotency-Replayed", "Link", "Location")
MICROSECOND = timedelta(microseconds=1)

# --- What is sent ---------------------------------------------------------------------------------------------------

# Few values, so that many tasks share them; and no letter whose lower case Python and PostgreSQL may see differently.
TITLES = ["milk", "Milk", "MILK bread", "Äpfel", "äpfel 2", "_", "%", "a\\b", 'it\'s "it"', "\U0001f95b", "e\u0301 é"]
LETTERS = "abAB äÄéЖж√\U0001f95b%_\\'\"0"
DESCRIPTIONS = ["", " two\nlitres ", "LITRES, äpfel", "100%", "a_b", "\\", "\t", "x" * 1000]
WORDS = [
    "milk",
    "MIL",
    "ILK",
    "ÄPFEL",
    "äpf",
    "Litres",
    "litre",
    "two\nlitres",
    "2",
    "%",
    "_",
    "\\",
    "'",
    '"',
    "é",
    "\u0301",
    "\U0001f95b",
]
TAGS = ["home", " Home ", "WORK", "ärger", "ÄRGER", "a b", "\U0001f95b", '"', "\\", "null", "{}", ",", "%"]
KEYS = ["1", "2", "!~", "a,b"]

_AGO, _AHEAD = datetime(2001, 2, 3, 4, 5, 6, tzinfo=UTC), datetime(2999, 12, 31, 23, 30, tzinfo=UTC)
PAST = [_AGO, _AGO + MICROSECOND, datetime.min.replace(tzinfo=UTC)]
FUTURE = [_AHEAD, _AHEAD + MICROSECOND, _AHEAD + timedelta(hours=1), datetime.max.replace(tzinfo=UTC)]


def spelled(moment: datetime, form: str) -> str:
    """One of the ways to write a moment in RFC 3339."""
    east = timezone(timedelta(hours=5, minutes=30))
    if form == "east" and moment.year in range(2, 9999):
        return moment.astimezone(east).isoformat()
    text = moment.isoformat().replace("+00:00", "Z")
    return text.lower().replace("t", " ") if form == "lower" else text


def moments(among: Sequence[datetime]) -> st.SearchStrategy[str]:
    return st.builds(spelled, st.sampled_from(among), st.sampled_from(["Z", "east", "lower"]))


texts = st.text(LETTERS, min_size=1, max_size=6).filter(str.strip)
titles = st.one_of(*[st.sampled_from(TITLES)] * 3, texts.map(" {} ".format))
tags = st.lists(st.sampled_from(TAGS[:3] * 4 + TAGS), max_size=4)
descriptions = st.one_of(
    st.none(), *[st.sampled_from(DESCRIPTIONS[:3] * 2 + DESCRIPTIONS)] * 2, texts.map(" {}\n".format)
)
states = st.sampled_from(
    [
        *({"status": status} for status in STATUSES),
        *({"completed": completed} for completed in (True, False)),
        {"status": "completed", "completed": True},
        {"status": "pending", "completed": False},
        {},
        {},
    ]
)


def bodies(due: Sequence[datetime], required: Mapping[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[Json]:
    """Bodies without faults, with any fields beyond the required ones."""
    optional = {
        "title": titles,
        "description": descriptions,
        "priority": st.sampled_from(PRIORITIES),
        "due_date": st.none() | moments(due),
        "tags": tags,
    }
    others = {name: values for name, values in optional.items() if name not in required}
    fields = st.fixed_dictionaries(dict(required), optional=others)
    return st.builds(lambda fields, state: fields | state, fields, states)


new_tasks = bodies(FUTURE, {"title": titles})
replacements = bodies(PAST + FUTURE, {"title": titles})
changes = bodies(PAST + FUTURE, {}) | st.sampled_from(
    [{}, {"description": None}, {"due_date": None}, {"completed": True}, {"completed": False}]
)


def each(name: str, *values: Any) -> list[Json]:
    return [{name: value} for value in values]


FAULTS: list[Json] = [
    *each("title", None, "", " \n", "x" * 201, 5, ["x"], "a\0", "\ud800"),
    *each("description", "x" * 1001, 5, {}, "\0", "\udfff"),
    *[*each("title", "x" * 201), *each("description", "x" * 1001), *each("tags", ["x" * 11])] * 2,
    *each("status", None, "", "done", "Pending", True),
    *each("completed", None, 0, 1, "true"),
    *each("priority", None, "", "urgent", 1),
    *each("due_date", "", "tomorrow", "2999-12-31", "2999-12-31T00:00:00", "2999-02-30T00:00:00Z"),
    *each("due_date", 0, "2999-12-31T00:00:00+0100", "2999-12-31T00:00:00.1234567Z"),
    *each("due_date", "0001-01-01T00:00:00+00:01", "9999-12-31T23:59:59-00:01"),
    *each("tags", None, "x", {}, [""], ["ok", 5], [" ", None], ["x" * 11], ["x" * 10 + " "]),
    *({"tags": [f"{number}" for number in range(count)] + ["1"] * 5} for count in (20, 21)),
    *[{"status": status, "completed": status == "pending"} for status in STATUSES] * 3,
    *({name: "x"} for name in ("colour", "Title", "user_id", "created_at", "updated_at", "completed_at")),
    {"version": 1},
    *each("id", None, "", "1", 1, "3fa85f6457174562b3fc2c963f66afa6"),
]
"""What makes a body wrong, or nearly so: the model knows."""
NO_OBJECTS: list[Any] = [None, [], "x", 5, True, b""]
NO_JSON = [b" ", b"{", b"'title'", b'{"title": "a", "title": "b"}', b'{"title": NaN}', b'"\xff"', b"{} {}"]
NO_IDS = [(None, None)] * 5 + [("null", None), (None, "1"), (None, "3fa85f6457174562b3fc2c963f66afa6"), ("x", "y")]
"""In place of the user and the task."""

CONDITIONS = [
    '"{now}"',
    '"{before}"',
    "*",
    'W/"{now}"',
    '"x,", "{now}"',
    '"{before}",W/"{now}"',
    ' , "{now}" ,,',
    '"0{now}"',
]
NO_HEADERS = [
    "",
    "{now}",
    '"{now}',
    '*, "{now}"',
    '"{before}" "{now}"',
    ",",
    'w/"{now}"',
    "a b",
    "x" * 256,
    "\x7f",
    "a,b",
]
"""For If-Match and If-None-Match; `{now}` is the task's version and `{before}` the one before."""
headers = st.sampled_from([None] * 20 + CONDITIONS * 3 + NO_HEADERS)


def with_faults(body: Json, faults: Sequence[Json]) -> Json:
    return body | {name: value for fault in faults for name, value in fault.items()}


wrong_bodies = st.one_of(
    st.sampled_from(NO_OBJECTS + NO_JSON),
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


FILTERS: dict[str, st.SearchStrategy[Any]] = {
    "status": st.sampled_from(STATUSES),
    "completed": st.sampled_from(["true", "false"]),
    "overdue": st.sampled_from(["true", "false"]),
    "has_due_date": st.sampled_from(["true", "false"]),
    "priority": st.sampled_from([["low"], ["high", "low"], ["medium", "high"], ["medium", "medium"], [*PRIORITIES]]),
    "tag": st.lists(st.sampled_from(TAGS[:4]), min_size=1, max_size=2),
    "q": st.lists(st.sampled_from(WORDS), min_size=1, max_size=2).map(" ".join),
    "due_before": near("due_date") | moments(PAST + FUTURE),
    "due_after": near("due_date") | moments(PAST + FUTURE),
    **{f"{which}_{side}": near(f"{which}_at") for which in ("created", "updated") for side in ("before", "after")},
}
one_filter = [st.tuples(st.just(name), values) for name, values in FILTERS.items()]
filters: st.SearchStrategy[Json] = st.one_of(
    *[st.lists(st.one_of(one_filter), min_size=1, max_size=2, unique_by=lambda each: each[0]).map(dict)] * 4,
    st.fixed_dictionaries({"priority": FILTERS["priority"]}, optional={"tag": FILTERS["tag"]}),
    st.fixed_dictionaries({"status": FILTERS["status"], "completed": FILTERS["completed"]}),
    st.fixed_dictionaries({"q": FILTERS["q"]}),
)
few_filters: st.SearchStrategy[Json] = st.just({}) | filters
sorts = st.none() | st.sampled_from(SORTS)
limits = st.sampled_from([1, 1, 1, 2, 2, 2, 3, 3, None, 500, 501])

QUERY_FAULTS: list[tuple[str, Any]] = [
    *(("limit", value) for value in ("", "0", "501", "-1", "5.0", " 5", "1_0", "x")),
    *(("sort", value) for value in ("", "name", "+title", "Title", "--title")),
    *(("status", value) for value in ("", "done", ["pending", "pending"])),
    *((name, value) for name in ("completed", "overdue", "has_due_date") for value in ("1", "True", "")),
    *(("priority", value) for value in ("", "urgent", ["low", "x"], ["low"] * 4, ["low"] * 3)),
    *(("tag", value) for value in ("", " ", "x" * 11, [str(number) for number in range(21)], ["a"] * 21)),
    *(("q", value) for value in ("", " \t", "x" * 101, "a b c d e f g h i j k", "a " * 50, "a\0", ["a", "b"])),
    *((f"{what}_before", value) for what in ("due", "created", "updated") for value in ("", "1", "2999-12-31")),
    *((f"{what}_after", "2999-12-31T00:00:00 01:00") for what in ("due", "created", "updated")),
    *(("cursor", value) for value in ("", "x", "A" * 43, "A" * 2000)),
    *((name, "1") for name in ("offset", "tags", "priority[]", "Status", "")),
]

few_faults = st.one_of(
    st.just({}), st.just({}), st.lists(st.sampled_from(QUERY_FAULTS), min_size=1, max_size=2).map(dict)
)

# --- Who answers ----------------------------------------------------------------------------------------------------


class Api:
    """The application in this process, on an event loop of its own that runs only while it answers."""

    def __init__(self, runner: asyncio.Runner, database: Database, client: httpx.AsyncClient) -> None:
        self._runner = runner
        self._database = database
        self._client = client

    def new_user(self) -> str:
        return str(self._runner.run(users.create(self._database, f"{uuid4()}@example.com")))

    def insert(self, tasks: Sequence[Task]) -> None:
        """Tasks with times that no client could choose, as an import would leave them."""
        rows = [{**vars(task), "tags": [*task.tags]} for task in tasks]
        names = ", ".join(rows[0])
        places = ", ".join(f"%({name})s" for name in rows[0])

        async def insert() -> None:
            async with self._database.connection() as connection, connection.cursor() as cursor:
                await cursor.executemany(f"INSERT INTO tasks ({names}) VALUES ({places})".encode(), rows)

        self._runner.run(insert())

    def __call__(
        self,
        method: str,
        path: str,
        *,
        body: Any = NO_BODY,
        query: Query = (),
        headers: Mapping[str, str] | None = None,
    ) -> tuple[Answer, Choice]:
        """Its answer in the model's terms, and what it chose. A body of bytes is sent as it is."""
        content = None if body is NO_BODY else body if isinstance(body, bytes) else json.dumps(body).encode()
        response = self._runner.run(
            self._client.request(
                method,
                path,
                content=content,
                params=list(query) or None,
                headers={"Content-Type": "application/json"} | dict(headers or {}),
            )
        )
        return _answer(response)


def _answer(response: httpx.Response) -> tuple[Answer, Choice]:
    body: Json | None = response.json() if response.content else None
    headers = {name: response.headers[name] for name in HEADERS if name in response.headers}
    if body is None or response.is_error:
        assert body is None or body["type"].startswith(PROBLEM)
        return Answer(
            response.status_code,
            headers=headers,
            problem=body["type"].removeprefix(PROBLEM) if body else None,
            fields=frozenset(error["field"] for error in (body or {}).get("errors", ())),
        ), Choice()
    choice = Choice(cursor=body.get("next_cursor"))
    if "version" in body:
        choice = Choice(body["id"], datetime.fromisoformat(body["updated_at"]), body["version"])
    return Answer(response.status_code, body, headers), choice


# --- What happens ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class NextPage:
    user: str
    query: Query
    cursor: str | None
    """None for the first page."""


class Machine(RuleBasedStateMachine):
    tasks: Bundle[str] = Bundle("tasks")
    """Ids of tasks that are there or were."""
    pages: Bundle[NextPage] = Bundle("pages")

    def __init__(self, api: Api) -> None:
        super().__init__()
        self._api = api
        self._alice, self._bob = api.new_user(), api.new_user()
        self._model = Model([self._alice, self._bob])
        self._owners: dict[str, str] = {}
        """Of all tasks that there ever were."""
        self._pages: list[NextPage] = []
        self._requests = 0
        self._agrees = True

    def _agree(self, answer: Answer, expected: Answer) -> Answer:
        self._requests += 1
        self._agrees = answer == expected
        assert answer == expected, f"The API says {answer}, but the model {expected}"
        # Equal objects may have another order.
        if expected.body and "tags" in expected.body:
            assert answer.body
            assert list(answer.body["tags"]) == list(expected.body["tags"])
        return answer

    def _user(self, who: str) -> str:
        return {"alice": self._alice, "bob": self._bob, "nobody": NOBODY}[who]

    def _user_of(self, task: str, who: str) -> str:
        owner = self._owners[task]
        return {
            "owner": owner,
            "OWNER": owner.upper(),
            "other": self._bob if owner == self._alice else self._alice,
            "nobody": NOBODY,
        }[who]

    def _query(self, user: str, filters: Mapping[str, Any], sort: str | None = None) -> list[tuple[str, str]]:
        query = [] if sort is None else [("sort", sort)]
        for name, value in filters.items():
            values = value if isinstance(value, list) else [value]
            query += [(name, self._at(user, each) if isinstance(each, Near) else each) for each in values]
        return query

    def _at(self, user: str, near: Near) -> str:
        tasks = self._model.owned_by(user)
        moment = getattr(tasks[near.number % len(tasks)], near.which) if tasks else None
        if moment in (None, PAST[-1], FUTURE[-1]):
            # There is none, or nothing beside it.
            return spelled(moment or _AGO, "Z")
        return spelled(moment + near.microseconds * MICROSECOND, "Z")

    @initialize(
        target=tasks,
        alices=st.lists(replacements, min_size=2, max_size=6),
        bobs=st.lists(replacements, min_size=1, max_size=2),
    )
    def begin(self, alices: Sequence[Json], bobs: Sequence[Json]) -> MultipleResults[str]:
        """With tasks of which some were made and changed in one moment, so that only their ids tell them apart."""
        for number, (user, body) in enumerate(
            [(self._alice, body) for body in alices] + [(self._bob, b) for b in bobs]
        ):
            values = DEFAULTS | values_of(body)
            made, changed = (datetime(2020, 1, 1, tzinfo=UTC) + timedelta(days=number // n) for n in (3, 2))
            done = changed if values["status"] == "completed" else None
            task = Task(str(uuid4()), user, **values, created_at=made, updated_at=changed, completed_at=done, version=7)
            self._model.keep(task)
            self._owners[task.id] = user
        self._api.insert(list(self._model.tasks.values()))
        return multiple(*self._owners)

    def _create(self, user: str, body: Json, headers: Mapping[str, str] | None = None) -> MultipleResults[str]:
        answer, choice = self._api("POST", f"{user}/tasks", body=body, headers=headers or {})
        self._agree(answer, self._model.create_task(user, body, headers or {}, choice))
        if answer.status != 201 or answer.body is None:
            return multiple()
        task_id: str = answer.body["id"]
        is_known = task_id in self._owners
        self._owners[task_id] = user
        return multiple() if is_known else multiple(task_id)

    people = st.sampled_from(["alice", "alice", "alice", "bob", "bob", "nobody"])
    people_of = st.sampled_from(["owner"] * 9 + ["OWNER", "other", "nobody"])

    @rule(
        target=tasks,
        who=people,
        body=new_tasks | replacements,
        by=st.sampled_from(["nothing", "key", "new id", "id", "ID", "key and id", "taking back"]),
        key=st.sampled_from(KEYS),
        task=tasks,
        is_late=st.sampled_from([False, False, True]),
    )
    def post(self, who: str, body: Json, by: str, key: str, task: str, is_late: bool) -> MultipleResults[str]:
        user = self._user(who)
        if is_late and by != "nothing":
            # Which is wrong unless it is a repeat.
            body |= {"due_date": spelled(PAST[0], "Z")}
        match by:
            case "nothing":
                return self._create(user, body)
            case "key":
                return self._create(user, body, {"Idempotency-Key": key})
            case "new id":
                return self._create(user, body | {"id": str(uuid4())})
            case "taking back":
                # As a client does that offers undo; a due date in the past would have to wait for a PATCH.
                user = self._owners[task]
                self._send("DELETE", NO_BODY, user, task, None)
                return self._create(user, body | {"id": task, "due_date": None})
            case "key and id":
                return self._create(user, body | {"id": task}, {"Idempotency-Key": key})
            case _:
                return self._create(user, body | {"id": task.upper() if by == "ID" else task})

    @rule(who=people_of, task=tasks, method=st.sampled_from(["GET", "GET", "HEAD", "DELETE"]), header=headers)
    def get_or_delete(self, who: str, task: str, method: str, header: str | None) -> None:
        self._send(method, NO_BODY, self._user_of(task, who), task, header)

    @rule(who=people_of, task=tasks, body=replacements, header=headers)
    def put(self, who: str, task: str, body: Json, header: str | None) -> None:
        self._send("PUT", body, self._user_of(task, who), task, header)

    @rule(who=people_of, task=tasks, body=changes, header=headers)
    def patch(self, who: str, task: str, body: Json, header: str | None) -> None:
        self._send("PATCH", body, self._user_of(task, who), task, header)

    @rule(
        target=tasks,
        method=st.sampled_from(["POST", "PUT", "PATCH"] * 2 + ["GET", "DELETE"]),
        who=people_of,
        task=tasks,
        no_ids=st.sampled_from(NO_IDS),
        header=headers,
        misplaced=st.sampled_from([False] * 5 + [True]),
        body=wrong_bodies,
    )
    def send_what_is_wrong(
        self,
        method: str,
        who: str,
        task: str,
        no_ids: tuple[str | None, str | None],
        header: str | None,
        misplaced: bool,
        body: Any,
    ) -> MultipleResults[str]:
        if body in NO_JSON and method in ("POST", "PUT", "PATCH"):
            path = f"{self._owners[task]}/tasks" + f"/{task}" * (method != "POST")
            self._agree(self._api(method, path, body=body)[0], Refused(400, "malformed-json").answer)
            return multiple()
        user, task = no_ids[0] or self._user_of(task, who), no_ids[1] or task
        return self._send(method, body, user, task, header, misplaced=misplaced)

    def _send(
        self, method: str, body: Any, user: str, task: str, header: str | None, *, misplaced: bool = False
    ) -> MultipleResults[str]:
        """A request with the header that is for this method, or is not; it may tell the version of the task."""
        version = self._model.versions.get(task, 7)
        right, wrong = ("If-None-Match", "If-Match") if method in ("GET", "HEAD") else ("If-Match", "If-None-Match")
        if method == "POST":
            right = "Idempotency-Key"
        name = wrong if misplaced else right
        headers = {} if header is None else {name: header.format(now=version, before=version - 1)}
        if method == "POST":
            return self._create(user, body, headers)
        if method in ("GET", "HEAD", "DELETE"):
            body = NO_BODY
        answer, choice = self._api(method, f"{user}/tasks/{task}", body=body, headers=headers)
        match method:
            case "PUT":
                expected = self._model.replace_task(user, task, body, headers, choice)
            case "PATCH":
                expected = self._model.change_task(user, task, body, headers, choice)
            case "DELETE":
                expected = self._model.delete_task(user, task, headers)
            case _:
                expected = self._model.get_task(user, task, headers)
        if method == "HEAD":
            # As GET, without the body, and so without what is only there.
            expected = replace(expected, body=None, problem=None, fields=frozenset())
        self._agree(answer, expected)
        return multiple()

    def _list(self, user: str, query: Query, limit: int | None, cursor: str | None = None) -> Answer:
        asked = [*query, *([("limit", str(limit))] if limit else []), *([("cursor", cursor)] if cursor else [])]
        answer, choice = self._api("GET", f"{user}/tasks", query=asked)
        return self._agree(answer, self._model.list_tasks(user, asked, choice))

    def _page(self, user: str, query: Query, limit: int | None, cursor: str | None = None) -> NextPage:
        """After the last page comes the first, as Hypothesis must find as many pages when it does the same again."""
        body = self._list(user, query, limit, cursor).body
        page = NextPage(user, query, body["next_cursor"] if body else None)
        self._pages.append(page)
        return page

    @rule(target=pages, who=people, filters=few_filters, sort=sorts, limit=limits, faults=few_faults)
    def list_tasks(self, who: str, filters: Json, sort: str | None, limit: int | None, faults: Json) -> NextPage:
        user = self._user(who)
        self._count(user)
        return self._page(user, self._query(user, filters | faults, sort), limit)

    @rule(who=people, several=st.lists(filters, min_size=3, max_size=6), limit=st.sampled_from([None, None, 1]))
    def find(self, who: str, several: Sequence[Json], limit: int | None) -> None:
        user = self._user(who)
        for filters in several:
            self._list(user, self._query(user, filters), limit)

    @rule(
        target=pages,
        page=pages,
        limit=limits,
        other=st.sampled_from([None] * 6 + ["user", "nobody", "sort", "filters", "filters", "filters"]),
        filters=filters,
        sort=st.sampled_from(SORTS),
    )
    def list_next_page(
        self, page: NextPage, limit: int | None, other: str | None, filters: Json, sort: str
    ) -> NextPage:
        """Of this list, or of another one, whose cursor this is not."""
        user, query = page.user, page.query
        match other:
            case "user":
                user = self._bob if user == self._alice else self._alice
            case "nobody":
                user = NOBODY
            case "sort":
                query = [("sort", sort), *((name, value) for name, value in query if name != "sort")]
            case "filters":
                query = self._query(user, filters, sort)
        return self._page(user, query, limit, page.cursor)

    def _count(self, user: str) -> None:
        answer, _ = self._api("GET", f"{user}/tasks/summary")
        self._agree(answer, self._model.get_task_summary(user))

    def _telling_filters(self, user: str) -> Iterator[Json]:
        """Those that show where a filter begins and ends: what a task is itself, and what it is not."""
        for name in ("completed", "overdue", "has_due_date"):
            yield from ({name: "true"}, {name: "false"})
        for which in ("due", "created", "updated"):
            near = Near("due_date" if which == "due" else f"{which}_at", self._requests, 0)
            yield from ({f"{which}_before": near}, {f"{which}_after": near})
        tasks = self._model.owned_by(user)
        if tasks:
            task = tasks[self._requests % len(tasks)]
            yield from ({"q": task.title.swapcase()}, {"q": "litres"}, {"tag": [TAGS[0], *task.tags]})

    @override
    def teardown(self) -> None:
        """Everything once more at the end: in all orders, by filters, by pages, and what comes after old cursors."""
        if not self._agrees:
            return
        for sort in SORTS:
            self._list(self._alice, [("sort", sort)], None)
        for filters in self._telling_filters(self._alice):
            self._list(self._alice, self._query(self._alice, filters), None)
        # Which orders are walked differs from run to run, but follows from the run.
        some, due = SORTS[self._requests % len(SORTS)], ("due_date", "-due_date")[self._requests // 2 % 2]
        for user, sort in ((self._alice, due), (self._alice, some), (self._bob, some)):
            self._count(user)
            cursor: str | None = None
            while (body := self._list(user, [("sort", sort)], 1, cursor).body) and body["next_cursor"]:
                cursor = body["next_cursor"]
        for page in [page for page in self._pages if page.cursor][:4]:
            self._list(page.user, page.query, 3, page.cursor)
            self._list(page.user, [*page.query, ("due_after", spelled(_AGO, "Z"))], 3, page.cursor)
            self._list(self._bob if page.user == self._alice else self._alice, page.query, 3, page.cursor)
            sort = dict(page.query).get("sort", "-created_at")
            back = sort.removeprefix("-") if sort.startswith("-") else f"-{sort}"
            others = [parameter for parameter in page.query if parameter[0] != "sort"]
            self._list(page.user, [*others, ("sort", back)], 3, page.cursor)


@pytest.fixture
def hypothesis_home(tmp_path: Path) -> Iterator[None]:
    """Hypothesis would leave a folder in the current one."""
    set_hypothesis_home_dir(tmp_path)
    yield
    set_hypothesis_home_dir(None)


def test_the_api_and_its_model_never_disagree(dsn: Dsn, hypothesis_home: None) -> None:
    examples = int(os.environ.get("MODEL_EXAMPLES", EXAMPLES))
    options = DatabaseOptions(limits=PoolLimits(min_size=1, max_size=2))
    stack = AsyncExitStack()
    # With a factory, the runner leaves the event loop of the other tests alone.
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        try:
            database = runner.run(stack.enter_async_context(open_database(dsn, options)))
            client = runner.run(stack.enter_async_context(client_of(database)))
            run_state_machine_as_test(
                lambda: Machine(Api(runner, database, client)),  # type: ignore[arg-type] # a function will do, it says
                settings=settings(
                    max_examples=examples,
                    stateful_step_count=STEPS if examples <= EXAMPLES else LONG_STEPS,
                    deadline=None,
                    database=None,
                    print_blob=True,
                    # Explaining takes minutes, and the shortest run says enough.
                    phases=[Phase.generate, Phase.shrink],
                    # They complain of slow and large examples, which these are meant to be.
                    suppress_health_check=list(HealthCheck),
                ),
            )
        finally:
            runner.run(stack.aclose())
