"""Two users in runs of many steps. A failure shows the requests of one run."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, override
from uuid import uuid4

from hypothesis import strategies as st
from hypothesis.stateful import Bundle, MultipleResults, multiple, rule

from tests.api.model import requests
from tests.api.model.client import Api
from tests.api.model.requests import (
    AGO,
    FUTURE,
    KEYS,
    MICROSECOND,
    NOT_IDS,
    NOT_JSON,
    OPS_ON_A_TASK,
    PAST,
    TAGS,
    Near,
    spelled,
)
from tests.api.model.steps import NOBODY, Steps
from tests.api.model.sync import SyncSteps
from tests.support.contract import Json
from tests.support.model.answers import Answer, Refused
from tests.support.model.lists import SORTS, Query
from tests.support.model.tasks import Key


@dataclass(frozen=True)
class NextPage:
    user: str
    query: Query
    cursor: str | None
    """None for the first page."""


class Machine(SyncSteps):
    pages: Bundle[NextPage] = Bundle("pages")

    def __init__(self, api: Api) -> None:
        super().__init__(api)
        self._pages: list[NextPage] = []

    def _query(self, user: str, filters: Mapping[str, Any], sort: str | None = None) -> list[tuple[str, str]]:
        query = [] if sort is None else [("sort", sort)]
        for name, value in filters.items():
            values = value if isinstance(value, list) else [value]
            query += [(name, self._at(user, each) if isinstance(each, Near) else each) for each in values]
        return query

    def _at(self, user: str, near: Near) -> str:
        tasks = self._model.live_of(user)
        time = tasks[near.number % len(tasks)].row[near.which] if tasks else None
        if time in (None, PAST[-1], FUTURE[-1]):
            # There is no such time, or none beside it.
            return spelled(time or AGO)
        return spelled(time + near.microseconds * MICROSECOND)

    def _create(self, user: str, body: Json, headers: Mapping[str, str] | None = None) -> MultipleResults[Key]:
        known = set(self._model.tasks)
        headers = headers or {}
        expected = partial(self._model.create_task, user, body, headers)
        self._check("POST", f"{user}/tasks", expected, body=body, headers=headers)
        return multiple(*(key for key in self._model.tasks if key not in known))

    @rule(
        target=Steps.tasks,
        who=requests.people,
        body=requests.new_tasks | requests.replacements,
        by=st.sampled_from(["nothing", "key", "new id", "id", "ID", "key and id"]),
        key=st.sampled_from(KEYS),
        task=Steps.tasks,
        is_late=st.sampled_from([False, False, True]),
    )
    def post(self, who: str, body: Json, by: str, key: str, task: Key, is_late: bool) -> MultipleResults[Key]:
        user, task_id = self._user(who), task[1]
        if is_late and by != "nothing":
            # This is wrong unless the request is a repeat.
            body |= {"due_date": spelled(PAST[0])}
        ids = {"new id": str(uuid4()), "id": task_id, "ID": task_id.upper(), "key and id": task_id}
        body |= {"id": ids[by]} if by in ids else {}
        return self._create(user, body, {"Idempotency-Key": key} if "key" in by else None)

    @rule(
        who=requests.people_of_a_task,
        task=Steps.tasks,
        ops=st.sampled_from(OPS_ON_A_TASK),
        body=requests.changes,
        condition=requests.few_conditions,
        key=requests.keys,
        repeats=st.sampled_from([0, 0, 1]),
    )
    def work_on_a_task(
        self,
        who: str,
        task: Key,
        ops: str,
        body: Json,
        condition: str | None,
        key: str | None,
        repeats: int,
    ) -> None:
        """Does some things to one task; a client that has lost the answers does them again."""
        user, task_id = self._user_of(task, who), task[1]
        for op in ops.split() * (1 + repeats):
            sent = {"title": "milk"} | body if op in ("PUT", "POST") else body
            if op == "POST":
                self._create(user, sent | {"id": task_id})
            elif op == "MANY":
                self._repeat_late(user, task_id)
            else:
                self._send(op.rstrip("*"), user, task_id, condition, None if "*" in op else key, sent)

    @rule(
        target=Steps.tasks,
        op=st.sampled_from(["POST", "PUT", "PATCH"] * 2 + ["GET", "DELETE", "RESTORE", "ERASE", "EMPTY"]),
        who=requests.people_of_a_task,
        task=Steps.tasks,
        not_ids=st.sampled_from(NOT_IDS),
        condition=requests.conditions,
        misplaced=st.sampled_from([False] * 5 + [True]),
        body=requests.wrong_bodies,
    )
    def send_what_is_wrong(
        self,
        op: str,
        who: str,
        task: Key,
        not_ids: tuple[str | None, str | None],
        condition: str | None,
        misplaced: bool,
        body: Any,
    ) -> MultipleResults[Key]:
        owner, task_id = task
        if body in NOT_JSON and op in ("POST", "PUT", "PATCH"):
            path = f"{owner}/tasks" + f"/{task_id}" * (op != "POST")
            self._check(op, path, lambda _: Refused(400, "malformed-json").answer, body=body)
            return multiple()
        user, task_id = not_ids[0] or self._user_of(task, who), not_ids[1] or task_id
        if op == "POST":
            return self._create(user, body, {} if condition is None else {"Idempotency-Key": condition})
        self._send(op, user, task_id, condition, None, body, misplaced=misplaced)
        return multiple()

    def _list(self, user: str, query: Query, limit: int | None, cursor: str | None = None) -> Answer:
        asked = [*query, *([("limit", str(limit))] if limit else []), *([("cursor", cursor)] if cursor else [])]
        return self._check("GET", f"{user}/tasks", partial(self._model.list_tasks, user, asked), query=asked)

    def _page(self, user: str, query: Query, limit: int | None, cursor: str | None = None) -> NextPage:
        """After the last page comes the first, as Hypothesis must find as many pages when it does the same again."""
        body = self._list(user, query, limit, cursor).body
        page = NextPage(user, query, body["next_cursor"] if body else None)
        self._pages.append(page)
        return page

    @rule(
        target=pages,
        who=requests.people,
        several=requests.several_filters,
        sort=requests.sorts,
        limit=requests.limits,
        faults=requests.few_faults,
    )
    def list_tasks(
        self, who: str, several: Sequence[Json], sort: str | None, limit: int | None, faults: Json
    ) -> NextPage:
        user, (filters, *others) = self._user(who), several
        self._count(user)
        for other in others:
            self._list(user, self._query(user, other), limit)
        return self._page(user, self._query(user, filters | faults, sort), limit)

    @rule(
        target=pages,
        page=pages,
        limit=requests.limits,
        other=st.sampled_from([None] * 6 + ["user", "nobody", "sort", "filters", "filters", "filters"]),
        filters=requests.filters,
        sort=st.sampled_from(SORTS),
    )
    def list_next_page(
        self, page: NextPage, limit: int | None, other: str | None, filters: Json, sort: str
    ) -> NextPage:
        """Sends a cursor for its list, or for another list."""
        user, query = page.user, page.query
        match other:
            case "user":
                user = self._other(user)
            case "nobody":
                user = NOBODY
            case "sort":
                query = [("sort", sort), *((name, value) for name, value in query if name != "sort")]
            case "filters":
                query = self._query(user, filters, sort)
        return self._page(user, query, limit, page.cursor)

    def _count(self, user: str) -> None:
        self._check("GET", f"{user}/tasks/summary", lambda _: self._model.get_task_summary(user))

    def _telling_filters(self, user: str) -> Iterator[Json]:
        """Those that show where a filter begins and ends: what a task is itself, and what it is not."""
        yield from ({name: value} for name in ("completed", "overdue", "has_due_date") for value in ("true", "false"))
        for what, which in (("due", "due_date"), ("created", "created_at"), ("updated", "updated_at")):
            yield from ({f"{what}_{side}": Near(which, self._requests, 0)} for side in ("before", "after"))
        if tasks := self._model.live_of(user):
            values = tasks[self._requests % len(tasks)].values
            yield from ({"q": values["title"].swapcase()}, {"q": "litres"}, {"tag": [TAGS[0], *values["tags"]]})

    @override
    def teardown(self) -> None:
        """Asks for everything at the end: in all orders, by filters, by pages, and after old cursors."""
        if not self._agrees:
            return
        self._read_to_the_end()
        queries = [*([("sort", sort)] for sort in SORTS)]
        queries += [self._query(self._alice, filters) for filters in self._telling_filters(self._alice)]
        for query in queries:
            self._list(self._alice, query, None)
        # The orders that are walked differ from run to run, but follow from the run.
        some, due = SORTS[self._requests % len(SORTS)], ("due_date", "-due_date")[self._requests // 2 % 2]
        for user, sort in ((self._alice, due), (self._alice, some), (self._bob, some)):
            self._count(user)
            cursor: str | None = None
            while (body := self._list(user, [("sort", sort)], 1, cursor).body) and body["next_cursor"]:
                cursor = body["next_cursor"]
        for page in [page for page in self._pages if page.cursor][:4]:
            sort = dict(page.query).get("sort", "-created_at")
            back = sort.removeprefix("-") if sort.startswith("-") else f"-{sort}"
            others = [parameter for parameter in page.query if parameter[0] != "sort"]
            self._list(page.user, page.query, 3, page.cursor)
            self._list(page.user, [*page.query, ("due_after", spelled(AGO))], 3, page.cursor)
            self._list(self._other(page.user), page.query, 3, page.cursor)
            self._list(page.user, [*others, ("sort", back)], 3, page.cursor)
