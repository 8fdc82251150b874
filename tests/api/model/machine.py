"""Two users in runs of many steps. A failure shows the requests of one run."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, override
from uuid import UUID, uuid4

from hypothesis import strategies as st
from hypothesis.stateful import Bundle, MultipleResults, RuleBasedStateMachine, initialize, multiple, rule

from tests.api.model import requests
from tests.api.model.client import NO_BODY, Api
from tests.api.model.requests import AGO, FUTURE, KEYS, MICROSECOND, NOT_IDS, NOT_JSON, PAST, TAGS, Near, spelled
from tests.support.contract import Json
from tests.support.model.answers import Answer, Choice, Refused
from tests.support.model.lists import SORTS, Query
from tests.support.model.operations import Model
from tests.support.model.tasks import Key, Task
from tests.support.model.values import DEFAULTS, values_of

NOBODY = str(UUID(int=0))


@dataclass(frozen=True)
class NextPage:
    user: str
    query: Query
    cursor: str | None
    """None for the first page."""


class Machine(RuleBasedStateMachine):
    tasks: Bundle[Key] = Bundle("tasks")
    """Tasks that exist or existed."""
    pages: Bundle[NextPage] = Bundle("pages")

    def __init__(self, api: Api) -> None:
        super().__init__()
        self._api = api
        self._alice, self._bob = api.new_user(), api.new_user()
        self._model = Model([self._alice, self._bob])
        self._pages: list[NextPage] = []
        self._requests = 0
        self._agrees = True

    def _check(self, method: str, path: str, expected_for: Callable[[Choice], Answer], **sent: Any) -> Answer:
        """Sends a request to both."""
        answer, choice = self._api(method, path, **sent)
        expected = expected_for(choice)
        if method == "HEAD":
            # The answer to GET without the body, and so without what only the body tells.
            expected = replace(expected, body=None, problem=None, fields=frozenset())
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

    def _other(self, user: str) -> str:
        return self._bob if user == self._alice else self._alice

    def _user_of(self, task: Key, who: str) -> str:
        owner, _ = task
        return {"owner": owner, "OWNER": owner.upper(), "other": self._other(owner), "nobody": NOBODY}[who]

    def _query(self, user: str, filters: Mapping[str, Any], sort: str | None = None) -> list[tuple[str, str]]:
        query = [] if sort is None else [("sort", sort)]
        for name, value in filters.items():
            values = value if isinstance(value, list) else [value]
            query += [(name, self._at(user, each) if isinstance(each, Near) else each) for each in values]
        return query

    def _at(self, user: str, near: Near) -> str:
        tasks = self._model.tasks_of(user)
        time = tasks[near.number % len(tasks)].row[near.which] if tasks else None
        if time in (None, PAST[-1], FUTURE[-1]):
            # There is no such time, or none beside it.
            return spelled(time or AGO)
        return spelled(time + near.microseconds * MICROSECOND)

    @initialize(
        target=tasks,
        alices=st.lists(requests.replacements, min_size=2, max_size=6),
        bobs=st.lists(requests.replacements, min_size=1, max_size=2),
    )
    def begin(self, alices: Sequence[Json], bobs: Sequence[Json]) -> MultipleResults[Key]:
        """Inserts tasks of which some were made and changed at one time, so that only their ids tell them apart."""
        owned = [(self._alice, body) for body in alices] + [(self._bob, body) for body in bobs]
        for number, (user, body) in enumerate(owned):
            values = DEFAULTS | values_of(body)
            made, changed = (datetime(2020, 1, 1, tzinfo=UTC) + timedelta(days=number // n) for n in (3, 2))
            done = changed if values["status"] == "completed" else None
            self._model.keep(Task((user, str(uuid4())), values, made, changed, done, version=7))
        self._api.insert(list(self._model.tasks.values()))
        return multiple(*self._model.tasks)

    def _create(self, user: str, body: Json, headers: Mapping[str, str] | None = None) -> MultipleResults[Key]:
        known = set(self._model.versions)
        headers = headers or {}
        expected = partial(self._model.create_task, user, body, headers)
        self._check("POST", f"{user}/tasks", expected, body=body, headers=headers)
        return multiple(*(key for key in self._model.versions if key not in known))

    @rule(
        target=tasks,
        who=requests.people,
        body=requests.new_tasks | requests.replacements,
        by=st.sampled_from(["nothing", "key", "new id", "id", "ID", "key and id", "taking back"]),
        key=st.sampled_from(KEYS),
        task=tasks,
        is_late=st.sampled_from([False, False, True]),
    )
    def post(self, who: str, body: Json, by: str, key: str, task: Key, is_late: bool) -> MultipleResults[Key]:
        user, (owner, task_id) = self._user(who), task
        if is_late and by != "nothing":
            # This is wrong unless the request is a repeat.
            body |= {"due_date": spelled(PAST[0])}
        if by == "taking back":
            # A client that offers undo does this; a due date in the past would have to wait for a PATCH.
            self._send("DELETE", NO_BODY, owner, task_id, None)
            return self._create(owner, body | {"id": task_id, "due_date": None})
        ids = {"new id": str(uuid4()), "id": task_id, "ID": task_id.upper(), "key and id": task_id}
        body |= {"id": ids[by]} if by in ids else {}
        return self._create(user, body, {"Idempotency-Key": key} if "key" in by else None)

    @rule(
        who=requests.people_of_a_task,
        task=tasks,
        method=st.sampled_from(["GET", "GET", "HEAD", "DELETE"]),
        header=requests.headers,
    )
    def get_or_delete(self, who: str, task: Key, method: str, header: str | None) -> None:
        self._send(method, NO_BODY, self._user_of(task, who), task[1], header)

    @rule(who=requests.people_of_a_task, task=tasks, body=requests.replacements, header=requests.headers)
    def put(self, who: str, task: Key, body: Json, header: str | None) -> None:
        self._send("PUT", body, self._user_of(task, who), task[1], header)

    @rule(who=requests.people_of_a_task, task=tasks, body=requests.changes, header=requests.headers)
    def patch(self, who: str, task: Key, body: Json, header: str | None) -> None:
        self._send("PATCH", body, self._user_of(task, who), task[1], header)

    @rule(
        target=tasks,
        method=st.sampled_from(["POST", "PUT", "PATCH"] * 2 + ["GET", "DELETE"]),
        who=requests.people_of_a_task,
        task=tasks,
        not_ids=st.sampled_from(NOT_IDS),
        header=requests.headers,
        misplaced=st.sampled_from([False] * 5 + [True]),
        body=requests.wrong_bodies,
    )
    def send_what_is_wrong(
        self,
        method: str,
        who: str,
        task: Key,
        not_ids: tuple[str | None, str | None],
        header: str | None,
        misplaced: bool,
        body: Any,
    ) -> MultipleResults[Key]:
        owner, task_id = task
        if body in NOT_JSON and method in ("POST", "PUT", "PATCH"):
            path = f"{owner}/tasks" + f"/{task_id}" * (method != "POST")
            self._check(method, path, lambda _: Refused(400, "malformed-json").answer, body=body)
            return multiple()
        user, task_id = not_ids[0] or self._user_of(task, who), not_ids[1] or task_id
        return self._send(method, body, user, task_id, header, misplaced=misplaced)

    def _send(
        self, method: str, body: Any, user: str, task_id: str, header: str | None, *, misplaced: bool = False
    ) -> MultipleResults[Key]:
        """A request with the header that is for this method, or is not; it may tell the version of the task."""
        version = self._model.versions.get((user.lower(), task_id), 7)
        right, wrong = ("If-None-Match", "If-Match") if method in ("GET", "HEAD") else ("If-Match", "If-None-Match")
        if method == "POST":
            right = "Idempotency-Key"
        name = wrong if misplaced else right
        headers = {} if header is None else {name: header.format(now=version, before=version - 1)}
        if method == "POST":
            return self._create(user, body, headers)
        if method in ("GET", "HEAD", "DELETE"):
            body = NO_BODY
        operations: dict[str, Callable[..., Answer]] = {
            "PUT": self._model.replace_task,
            "PATCH": self._model.change_task,
            "DELETE": self._model.delete_task,
        }
        asked = (headers,) if body is NO_BODY else (body, headers)
        expected = partial(operations.get(method, self._model.get_task), user, task_id, *asked)
        self._check(method, f"{user}/tasks/{task_id}", expected, body=body, headers=headers)
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
        if tasks := self._model.tasks_of(user):
            values = tasks[self._requests % len(tasks)].values
            yield from ({"q": values["title"].swapcase()}, {"q": "litres"}, {"tag": [TAGS[0], *values["tags"]]})

    @override
    def teardown(self) -> None:
        """Asks for everything at the end: in all orders, by filters, by pages, and after old cursors."""
        if not self._agrees:
            return
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
