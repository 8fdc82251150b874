"""Users and tasks of the server under attack, and what a schema cannot say of a request that makes sense there."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any
from unicodedata import category, normalize
from uuid import UUID

import psycopg
import schemathesis
from schemathesis import Response
from schemathesis.generation.meta import TestPhase

from persistence.postgres.dsn import Dsn
from tests.support.databases import as_owner

type Case = schemathesis.Case[Any]

_CONDITION = re.compile(r'\*|(W/)?"[!#-~\x80-\xff]*"([ \t]*,[ \t]*(W/)?"[!#-~\x80-\xff]*")*', re.ASCII)
_TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT", re.ASCII)
_IN_PAGES = ("/tasks", "/trash", "/changes")
_MOST_WORDS = 10
_LEAP_YEARS = range(2400, 10_000, 400)


class World:
    """Learns from answers and makes requests fit.

    It draws nothing itself, and what it does to a story depends on this story only: Hypothesis gives up, without a
    word, when the same choices lead elsewhere the next time.
    """

    def __init__(self, dsn: Dsn, seed: str) -> None:
        self._dsn = dsn
        self._random = Random(seed)  # noqa: S311 - it is to be predictable
        self._tags: dict[str, dict[str, str]] = {}
        """The entity tag of each task that is live, by user."""
        self._trash: dict[str, dict[str, str]] = {}
        """The same of those in the trash."""
        self._owners: dict[str, str] = {}
        """The user of each task that ever was."""
        self._pages: dict[str, tuple[str, str, Mapping[str, Any]]] = {}
        """The user, the path and the query that each cursor came from."""
        self._users = [self._new_user() for _ in range(3)]

    def _new_id(self) -> str:
        return str(UUID(int=self._random.getrandbits(128), version=4))

    def _new_user(self) -> str:
        """A user with three tasks, and two in the trash."""
        user = self._new_id()
        with psycopg.connect(as_owner(self._dsn).conninfo) as connection:
            connection.execute("INSERT INTO users (id, email) VALUES (%s, %s)", (user, f"{user}@example.com"))
        self._tags[user] = self._insert(user, 3)
        self._trash[user] = self._insert(user, 2, is_trash=True)
        return user

    def _insert(self, user: str, count: int, *, is_trash: bool = False) -> dict[str, str]:
        with psycopg.connect(as_owner(self._dsn).conninfo) as connection:
            rows = connection.execute(
                "INSERT INTO tasks (id, user_id, title, deleted_at) SELECT gen_random_uuid(), %s, 'Task ' || n,"
                " CASE WHEN %s THEN now() END FROM generate_series(1, %s) AS n RETURNING id::text, version",
                (user, is_trash, count),
            ).fetchall()
        self._owners |= dict.fromkeys((task for task, _ in rows), user)
        return {task: f'"{version}"' for task, version in rows}

    def learn(self, case: Case, response: Response) -> None:
        user, task = case.path_parameters.get("user_id"), case.path_parameters.get("task_id")
        if user not in self._tags or not 200 <= response.status_code < 300:
            return
        if case.method == "DELETE" and case.path.endswith("/trash"):
            self._trash[user].clear()
        elif case.method == "DELETE" and "/trash/" in case.path:
            self._trash[user].pop(str(task), None)
        elif etag := response.headers.get("etag"):
            self._note(user, response.json(), etag[0])
        elif case.method == "POST" and case.path.endswith("/batch"):
            for result in response.json()["results"]:
                if there := result.get("task"):
                    self._note(user, there, f'"{there["version"]}"')
        elif case.method == "GET" and case.path.endswith(_IN_PAGES) and (cursor := response.json()["next_cursor"]):
            query = {name: value for name, value in case.query.items() if name != "cursor"}
            self._pages[cursor] = user, case.path, query

    def _note(self, user: str, task: dict[str, Any], etag: str) -> None:
        self._owners[task["id"]] = user
        is_live = task.get("deleted_at") is None
        for tasks, is_there in ((self._tags[user], is_live), (self._trash[user], not is_live)):
            tasks.pop(task["id"], None)
            if is_there:
                tasks[task["id"]] = etag

    def fit(self, case: Case) -> Case:
        """The same request about users and tasks that mostly exist, and free of faults that it is not about."""
        topics, is_valid = _topics(case), _is_valid(case)
        self._fit_path(case)
        self._fit_headers(case, topics)
        self._fit_query(case, topics)
        if isinstance(case.body, dict):
            self._fit_body(case, case.body)
            _fit_texts(case.body, is_valid=is_valid)
        _fit_texts(case.query, is_valid=is_valid)
        return case

    def _fit_path(self, case: Case) -> None:
        """Seven of eight made-up ids become real ones; links bring real ones, of deleted tasks as well.

        So does `me`, which is nobody here and may well be all that is drawn; what is wrong elsewhere keeps it.
        """
        path = case.path_parameters
        user = path.get("user_id", "")
        number = _number(user)
        is_me = user == "me" and _is_valid(case) and _phase(case) in (TestPhase.FUZZING, TestPhase.STATEFUL)
        if is_me or (number and number % 8 and user not in self._tags):
            user = self._new_user() if _is_story(case) else self._users[(number or 0) % len(self._users)]
            path["user_id"] = user
        number = _number(path.get("task_id"))
        is_trash = "/trash/" in case.path
        there = self._trash if is_trash else self._tags
        if not _is_story(case) and there.get(user) == {}:
            # Those that delete, or empty the trash, would leave nothing to the others.
            there[user] = self._insert(user, 2, is_trash=is_trash)
        tasks = list(there.get(user, ()))
        if number and number % 8 and path["task_id"] not in self._owners and tasks:
            path["task_id"] = tasks[number % len(tasks)]

    def _fit_headers(self, case: Case, topics: set[str]) -> None:
        """In the coverage phase, Schemathesis knows only letters and digits for headers, and one key for all tasks."""
        user, task = (case.path_parameters.get(name, "") for name in ("user_id", "task_id"))
        etag = (self._tags.get(user, {}) | self._trash.get(user, {})).get(task)
        for name in {"If-Match", "If-None-Match"} & set(case.headers) - topics:
            if not _CONDITION.fullmatch(case.headers[name]):
                case.headers[name] = "*"
            elif etag and len(case.headers[name]) % 8:
                case.headers[name] = etag
        if _phase(case) is TestPhase.COVERAGE and "Idempotency-Key" not in topics:
            case.headers.pop("Idempotency-Key", None)

    def _fit_query(self, case: Case, topics: set[str]) -> None:
        """A cursor goes only with the user and the query that it came from, and small pages make more of them."""
        for name, value in case.query.items():
            case.query[name] = _representable(value)
        cursor, limit = case.query.get("cursor"), case.query.get("limit")
        user, path, query = self._pages.get(str(cursor), ("", "", {}))
        if user and user == case.path_parameters["user_id"] and path == case.path:
            case.query = {**query, "cursor": cursor}
        elif "cursor" not in topics or _is_valid(case):
            case.query.pop("cursor", None)
        if isinstance(limit, int) and limit % 2 and "limit" not in topics:
            case.query["limit"] = 1 + limit % 5

    def _fit_body(self, case: Case, body: dict[str, Any]) -> None:
        """A new task is not due in the past, and is told from others either by its id or by a key."""
        is_new = case.operation.method == "post"
        items = body.get("items")
        if case.path.endswith("/batch") and isinstance(items, list):
            self._fit_items(case, items)
            return
        if "due_date" in body:
            body["due_date"] = _representable(
                body["due_date"], datetime.now(UTC) + timedelta(days=1) if is_new else None
            )
        number = _number(body.get("id"))
        if is_new and number:
            case.headers.pop("Idempotency-Key", None)
            user = case.path_parameters["user_id"]
            tasks = [task for task, owner in self._owners.items() if owner == user or not _is_story(case)]
            body["id"] = self._new_id() if number % 4 or not tasks else tasks[number % len(tasks)]

    def _fit_items(self, case: Case, items: list[Any]) -> None:
        """Most ids become those of real tasks, as far as there are any, since each may be there once."""
        user = case.path_parameters.get("user_id", "")
        there = [*self._tags.get(user, ()), *self._trash.get(user, ())]
        taken = set[str]()
        for item in items:
            if not isinstance(item, dict) or not (number := _number(item.get("id"))):
                continue
            if number % 8 and there and item.get("op") != "create":
                item["id"] = there[number % len(there)]
            if item["id"].lower() in taken:
                item["id"] = self._new_id()
            taken.add(item["id"].lower())
            etag = self._tags.get(user, {}).get(item["id"])
            if number % 3 and etag and "if_version" in item:
                item["if_version"] = int(etag.strip('"'))


def _fit_texts(values: dict[str, Any], *, is_valid: bool) -> None:
    """The server drops space around texts and repeated tags before it measures, which would excuse what is too long.

    It also counts the words of a search, which no pattern could do in a readable way.
    """
    for name in {"title", "q", "tag", "tags"} & values.keys():
        value = values[name]
        if isinstance(value, list) and all(isinstance(tag, str) for tag in value):
            tags = [_settled(tag) for tag in value]
            values[name] = tags if is_valid else list({tag.strip().lower(): tag.strip() for tag in tags}.values())
        elif isinstance(value, str):
            values[name] = _settled(value) if is_valid else value.strip()
    if is_valid and len(words := str(values.get("q", "")).split()) > _MOST_WORDS:
        values["q"] = " ".join(words[:_MOST_WORDS])


def _settled(text: str) -> str:
    """Without marks, which do not count alone, and letters that grow in NFC or in lower case."""
    return "".join(
        "x" if category(char).startswith("M") or len(normalize("NFC", char.lower())) > 1 else char for char in text
    )


def _topics(case: Case) -> set[str]:
    """The parameters that a request is made for, mostly because they are wrong."""
    if case.meta is None:
        return set()
    data = case.meta.phase.data
    return {str(name) for name in (data.parameter, *(mutation.parameter for mutation in data.mutations)) if name}


def _is_valid(case: Case) -> bool:
    return case.meta is not None and case.meta.generation.mode.is_positive


def _is_story(case: Case) -> bool:
    return _phase(case) is TestPhase.STATEFUL


def _phase(case: Case) -> TestPhase | None:
    return case.meta.phase.name if case.meta else None


def _number(value: object) -> int | None:
    """The number that decides about an id, so that the same id is always treated alike; None if it is not an id."""
    try:
        return UUID(value).int if isinstance(value, str) else None
    except ValueError:
        return None


def _representable(value: object, earliest: datetime | None = None) -> object:
    """A time in a leap year ahead instead of one that is too early, or before year 1 or after 9999 in UTC."""
    if not isinstance(value, str) or not _TIMESTAMP.match(value):
        return value
    try:
        time = datetime.fromisoformat(value).astimezone(UTC)
    except ValueError:
        return value
    except OverflowError:
        time = None
    if time and (earliest is None or time >= earliest):
        return value
    return f"{_LEAP_YEARS[int(value[:4]) % len(_LEAP_YEARS)]}{value[4:]}"
