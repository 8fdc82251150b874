"""The API once more, as a plain program without HTTP and without a database: what it must answer, and why.

It is written from the documentation and imports nothing of the application, so a mistake in the one is not one in the
other; `tests/api/test_model.py` holds them against each other. Each operation of `Model` takes a request and returns the
`Answer` to it. What only the server can choose, such as ids and times, the model takes from the server's own answer
(`Choice`), as long as the server was free to choose it; else it sticks to something that was possible.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial, wraps
from typing import Any, Concatenate
from urllib.parse import urlencode

type Json = dict[str, Any]
type Query = Sequence[tuple[str, str]]
"""The parameters of a request, in their order; those that may be repeated stand together."""

type Headers = Mapping[str, str]
"""Idempotency-Key, If-Match and If-None-Match, so far as a request has them."""

PRIORITIES = ("low", "medium", "high")
STATUSES = ("pending", "completed")
SORT_KEYS = ("created_at", "updated_at", "due_date", "priority", "title")
SORTS = tuple(sign + key for key in SORT_KEYS for sign in ("", "-"))

_CLOCKS_DIFFER = timedelta(seconds=10)
_A_MICROSECOND = timedelta(microseconds=1)
_LONG_AGO = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True)
class Task:
    id: str
    user_id: str
    title: str
    description: str | None
    status: str
    priority: str
    due_date: datetime | None
    tags: tuple[str, ...]
    created_at: datetime
    updated_at: datetime
    completed_at: datetime | None
    version: int

    @property
    def completed(self) -> bool:
        return self.status == "completed"

    @property
    def is_overdue(self) -> bool:
        return self.due_date is not None and self.due_date < datetime.now(UTC) and not self.completed

    @property
    def etag(self) -> str:
        return f'"{self.version}"'

    def shown(self) -> Json:
        return {
            "id": self.id,
            "user_id": self.user_id,
            "title": self.title,
            "description": self.description,
            "status": self.status,
            "completed": self.completed,
            "priority": self.priority,
            "due_date": _written(self.due_date),
            "tags": list(self.tags),
            "created_at": _written(self.created_at),
            "updated_at": _written(self.updated_at),
            "completed_at": _written(self.completed_at),
            "version": self.version,
        }


@dataclass(frozen=True)
class Answer:
    """`headers` are all of these that the answer has: Cache-Control, ETag, Idempotency-Replayed, Link and Location.

    Of a problem document there are only its kind and the fields that it blames, as the rest is for people.
    """

    status: int
    body: Json | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    problem: str | None = None
    fields: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Choice:
    """What the server chose, so far as its answer tells."""

    id: str | None = None
    at: datetime = _LONG_AGO
    version: int = 0
    cursor: str | None = None


@dataclass(frozen=True)
class Place:
    """Where a task stands in a sorted list; it stays a place when the task moves or goes."""

    value: Any
    id: str


@dataclass(frozen=True)
class Asked:
    """What a cursor belongs to: whose tasks, which of them, and in which order."""

    user: str
    filters: Mapping[str, Any]
    sort: str


class Refused(Exception):
    """A rule says that the answer is this problem."""

    def __init__(self, status: int, problem: str, *fields: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(problem)
        self.answer = Answer(
            status,
            headers={"Cache-Control": "no-store"} | dict(headers or {}),
            problem=problem,
            fields=frozenset(fields),
        )


class Wrong(ValueError):
    """A value breaks a rule; `within` is where in it, if it has parts."""

    def __init__(self, *within: str) -> None:
        super().__init__(*within)
        self.within = within


# --- Values ---------------------------------------------------------------------------------------------------------


def text(value: Any, longest: int) -> str:
    """Any characters but NUL and halves of surrogate pairs; `longest` counts characters."""
    if not isinstance(value, str) or len(value) > longest or re.search("[\0\ud800-\udfff]", value):
        raise Wrong
    return value


def title(value: Any) -> str:
    """1 to 200 characters, not counting space around it, which is dropped."""
    return text(_stripped(value), 200)


def tag(value: Any) -> str:
    """Trimmed and lower-cased, then 1 to 10 characters."""
    return text(_stripped(value).lower(), 10)


def tags(value: Any) -> tuple[str, ...]:
    """At most 20 that differ; repeated ones are dropped, the order stays."""
    if not isinstance(value, list):
        raise Wrong
    wrong = [f".{number}" for number, each in enumerate(value) if not _is_right(tag, each)]
    if wrong:
        raise Wrong(*wrong)
    different = tuple(dict.fromkeys(map(tag, value)))
    if len(different) > 20:
        raise Wrong
    return different


def boolean(value: Any) -> bool:
    """`true` or `false` and nothing like it."""
    if not isinstance(value, bool):
        raise Wrong
    return value


def one_of(choices: Sequence[str], value: Any) -> str:
    if value not in choices:
        raise Wrong
    return str(value)


def moment(value: Any) -> datetime:
    """RFC 3339: a date, a time with at most six digits after the second, and an offset from UTC."""
    clock = r"([01]\d|2[0-3]):[0-5]\d"
    form = rf"\d{{4}}-\d\d-\d\d[Tt ]{clock}:[0-5]\d(\.\d{{1,6}})?([Zz]|[+-]{clock})"
    if not isinstance(value, str) or not re.fullmatch(form, value, re.ASCII):
        raise Wrong
    try:
        return datetime.fromisoformat(value.upper()).astimezone(UTC)
    except (ValueError, OverflowError):
        raise Wrong from None


def uuid(value: Any) -> str:
    """In the usual form, with hyphens; lower and upper case are the same."""
    if not isinstance(value, str) or not re.fullmatch("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", value.lower()):
        raise Wrong
    return value.lower()


def idempotency_key(value: str) -> str:
    """Visible ASCII but the comma, which would separate two keys."""
    if not re.fullmatch("[!-~]{1,255}", value) or "," in value:
        raise Wrong
    return value


def flag(value: str) -> bool:
    return one_of(("true", "false"), value) == "true"


def limit(value: str) -> int:
    if not re.fullmatch("[1-9][0-9]{0,2}", value) or int(value) > 500:
        raise Wrong
    return int(value)


def words(value: str) -> tuple[str, ...]:
    """1 to 10 that differ, in at most 100 characters."""
    different = tuple(dict.fromkeys(text(value, 100).split()))
    if not 1 <= len(different) <= 10:
        raise Wrong
    return different


def entity_tags(value: str) -> list[str]:
    """The entity tags of If-Match or If-None-Match as they stand there, weak ones with their W/; or only a star."""
    one = r'(?:W/)?"[!#-~\x80-\xff]*"'
    if value.strip(" \t") == "*":
        return ["*"]
    if not re.fullmatch(rf"[ \t,]*{one}([ \t]*,[ \t,]*{one})*[ \t,]*", value):
        raise Wrong
    return re.findall(one, value)


def _stripped(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise Wrong
    return value.strip()


def _or_null[T](read: Callable[[Any], T], value: Any) -> T | None:
    return None if value is None else read(value)


def _is_right(read: Callable[[Any], Any], value: Any) -> bool:
    try:
        read(value)
    except Wrong:
        return False
    return True


def _written(moment: datetime | None) -> str | None:
    """In UTC with a Z."""
    return None if moment is None else moment.isoformat().replace("+00:00", "Z")


# --- Bodies ---------------------------------------------------------------------------------------------------------

FIELDS: dict[str, Callable[[Any], Any]] = {
    "title": title,
    "description": partial(_or_null, partial(text, longest=1000)),
    "status": partial(one_of, STATUSES),
    "completed": boolean,
    "priority": partial(one_of, PRIORITIES),
    "due_date": partial(_or_null, moment),
    "tags": tags,
}
"""What a body may say of a task. POST may also have an `id`, and any other field is wrong."""

DEFAULTS: Json = {"description": None, "status": "pending", "priority": "medium", "due_date": None, "tags": ()}
"""What POST and PUT make of a field that is left out; there is none for the title."""


def faults_of(body: Any, *, required: Iterable[str] = (), others: Iterable[str] = ()) -> set[str]:
    if not isinstance(body, dict):
        return {"body"}
    known = FIELDS | dict.fromkeys(others, uuid)
    faults = set(required) - set(body)
    for name, value in body.items():
        faults |= _faults(name, known[name], value) if name in known else {name}
    # `completed` is another way to say `status`: both may be sent if they agree.
    if not faults and {"status", "completed"} <= set(body) and body["completed"] != (body["status"] == "completed"):
        return {"body"}
    return faults


def values_of(body: Json) -> Json:
    """What a body without faults says, in the model's terms; what is left out stays left out."""
    values = {name: FIELDS[name](value) for name, value in body.items() if name in FIELDS}
    if "completed" in values:
        values["status"] = "completed" if values.pop("completed") else "pending"
    return values


def _faults(name: str, read: Callable[[Any], Any], value: Any) -> set[str]:
    try:
        read(value)
    except Wrong as wrong:
        return {name + within for within in wrong.within or ("",)}
    return set()


# --- Lists ----------------------------------------------------------------------------------------------------------

MEETS: dict[str, Callable[[Task, Any], bool]] = {
    "status": lambda task, status: task.status == status,
    "completed": lambda task, completed: task.completed == completed,
    "priority": lambda task, any_of_them: task.priority in any_of_them,
    "tag": lambda task, all_of_them: all_of_them <= set(task.tags),
    "due_before": lambda task, end: task.due_date is not None and task.due_date < end,
    "due_after": lambda task, start: task.due_date is not None and task.due_date > start,
    "overdue": lambda task, overdue: task.is_overdue == overdue,
    "has_due_date": lambda task, has: (task.due_date is not None) == has,
    "created_before": lambda task, end: task.created_at < end,
    "created_after": lambda task, start: task.created_at > start,
    "updated_before": lambda task, end: task.updated_at < end,
    "updated_after": lambda task, start: task.updated_at > start,
    "q": lambda task, words: all(
        any(word.lower() in text.lower() for text in (task.title, task.description or "")) for word in words
    ),
}
"""The filters of a list: whether a task meets one. It is in the list if it meets all of them."""

SINGLE: dict[str, Callable[[str], Any]] = {
    "limit": limit,
    "cursor": str,
    "sort": partial(one_of, SORTS),
    "status": partial(one_of, STATUSES),
    "completed": flag,
    "overdue": flag,
    "has_due_date": flag,
    "q": words,
    **{f"{what}_{side}": moment for what in ("due", "created", "updated") for side in ("before", "after")},
}
REPEATED: dict[str, Callable[[str], Any]] = {"priority": partial(one_of, PRIORITIES), "tag": tag}
"""The parameters that may be given more than once: at most 3 priorities, and at most 20 tags that differ."""


def parameters_of(query: Query) -> Json:
    """The parameters in the model's terms. Raises `Refused`: for names first, and for values if all names are right."""
    count = Counter(name for name, _ in query)
    misnamed = [name for name in count if name not in REPEATED and (name not in SINGLE or count[name] > 1)]
    if misnamed:
        raise Refused(400, "invalid-input", *misnamed)
    faults = {name for name, value in query if not _is_right((SINGLE | REPEATED)[name], value)}
    values = {name: SINGLE[name](value) for name, value in query if name in SINGLE and name not in faults}
    for name, read in REPEATED.items():
        if name in count and name not in faults:
            values[name] = frozenset(read(value) for other, value in query if other == name)
    if count["priority"] > 3:
        faults.add("priority")
    if len(values.get("tag", ())) > 20:
        faults.add("tag")
    if faults:
        raise Refused(400, "invalid-input", *faults)
    return values


def filters_of(parameters: Json) -> Json:
    """Only the filters; equal for lists that are the same, though they were asked for in other words."""
    filters = {name: value for name, value in parameters.items() if name in MEETS}
    if "completed" in filters:
        status = "completed" if filters["completed"] else "pending"
        if filters.setdefault("status", status) == status:
            del filters["completed"]
    return filters


def place_of(task: Task, sort: str) -> Place:
    key = sort.removeprefix("-")
    if key == "priority":
        return Place(PRIORITIES.index(task.priority), task.id)
    # Titles are compared in lower case, by code points.
    return Place(task.title.lower() if key == "title" else getattr(task, key), task.id)


def in_order(places: Iterable[Place], sort: str) -> list[Place]:
    """By value and then by id, both reversed by `-`; those without a value are last in both directions."""
    by_id = sorted(places, key=lambda place: place.id, reverse=sort.startswith("-"))
    valued = [place for place in by_id if place.value is not None]
    return [
        *sorted(valued, key=lambda place: place.value, reverse=sort.startswith("-")),
        *(place for place in by_id if place.value is None),
    ]


# --- The operations -------------------------------------------------------------------------------------------------


def _answering[**P](operation: Callable[Concatenate["Model", P], Answer]) -> Callable[Concatenate["Model", P], Answer]:
    @wraps(operation)
    def answer(model: "Model", /, *args: P.args, **kwargs: P.kwargs) -> Answer:
        try:
            return operation(model, *args, **kwargs)
        except Refused as refused:
            return refused.answer

    return answer


class Model:
    """All that the server must remember of these users."""

    def __init__(self, users: Iterable[str]) -> None:
        self.users = frozenset(users)
        self.tasks: dict[str, Task] = {}
        self.versions: dict[str, int] = {}
        """The last version of every task that ever was, by id."""
        self._keys: dict[tuple[str, str], str] = {}
        """The id that an Idempotency-Key of a user stands for."""
        self._cursors: dict[str, tuple[Asked, Place]] = {}

    def keep(self, task: Task) -> None:
        self.tasks[task.id] = task
        self.versions[task.id] = task.version

    @_answering
    def create_task(self, user: str, body: Any, headers: Headers, choice: Choice) -> Answer:
        _refuse_conditions_but(None, headers)
        key = headers.get("Idempotency-Key")
        _refuse_faults(
            _faults("user_id", uuid, user),
            _faults("Idempotency-Key", partial(_or_null, idempotency_key), key),
            faults_of(body, required=["title"], others=["id"]),
        )
        owner = uuid(user)
        if key is not None and "id" in body:
            raise Refused(400, "invalid-input", "Idempotency-Key")
        task_id = self._keys.get((owner, key)) if key is not None else body.get("id", "").lower() or None
        there = self.tasks.get(task_id or "")
        if there and there.user_id == owner:
            # A repeat shows the task as it is now and changes nothing, whatever else its body says.
            return _created(200, there, {"Idempotency-Replayed": "true"})
        values = DEFAULTS | values_of(body)
        if values["due_date"] and values["due_date"] < datetime.now(UTC):
            raise Refused(400, "invalid-input", "due_date")
        if owner not in self.users:
            raise Refused(404, "user-not-found")
        if there:
            raise Refused(409, "conflict")
        task_id = task_id or self._new_id(choice)
        if key is not None:
            # It stays the key's even when the task is deleted, so that a repeat then makes it again.
            self._keys[owner, key] = task_id
        at = _time(choice)
        task = Task(
            id=task_id,
            user_id=owner,
            **values,
            created_at=at,
            updated_at=at,
            completed_at=at if values["status"] == "completed" else None,
            version=self._new_version(task_id, choice),
        )
        self.keep(task)
        return _created(201, task, {})

    @_answering
    def get_task(self, user: str, task_id: str, headers: Headers) -> Answer:
        if_none_match = _refuse_conditions_but("If-None-Match", headers)
        _refuse_faults(*_faults_in_path(user, task_id), _faults_in_condition("If-None-Match", if_none_match))
        task = self._task(user, task_id)
        # A client may keep the answer, and ask with If-None-Match whether it is still good.
        answered = {"ETag": task.etag, "Cache-Control": "private, no-cache"}
        if if_none_match is not None:
            known = {tag.removeprefix("W/") for tag in entity_tags(if_none_match)}
            if known & {"*", task.etag}:
                return Answer(304, headers=answered)
        return Answer(200, task.shown(), answered)

    @_answering
    def replace_task(self, user: str, task_id: str, body: Any, headers: Headers, choice: Choice) -> Answer:
        if_match = _refuse_conditions_but("If-Match", headers)
        _refuse_faults(
            *_faults_in_path(user, task_id),
            _faults_in_condition("If-Match", if_match),
            faults_of(body, required=["title"]),
        )
        task = self._task_to_write(user, task_id, if_match)
        return self._write(task, DEFAULTS | values_of(body), choice)

    @_answering
    def change_task(self, user: str, task_id: str, body: Any, headers: Headers, choice: Choice) -> Answer:
        if_match = _refuse_conditions_but("If-Match", headers)
        _refuse_faults(*_faults_in_path(user, task_id), _faults_in_condition("If-Match", if_match), faults_of(body))
        task = self._task_to_write(user, task_id, if_match)
        if not body:
            return Answer(200, task.shown(), {"ETag": task.etag, "Cache-Control": "no-store"})
        return self._write(task, values_of(body), choice)

    @_answering
    def delete_task(self, user: str, task_id: str, headers: Headers) -> Answer:
        """Answers with the task as it was, so that a client can offer undo; it has no entity tag any more."""
        if_match = _refuse_conditions_but("If-Match", headers)
        _refuse_faults(*_faults_in_path(user, task_id), _faults_in_condition("If-Match", if_match))
        task = self._task_to_write(user, task_id, if_match)
        del self.tasks[task.id]
        return Answer(200, task.shown(), {"Cache-Control": "no-store"})

    @_answering
    def list_tasks(self, user: str, query: Query, choice: Choice) -> Answer:
        """A page: what comes after the place of the cursor now, whatever was there when the cursor was given out."""
        parameters = parameters_of(query)
        _refuse_faults(_faults("user_id", uuid, user))
        asked = Asked(uuid(user), filters_of(parameters), parameters.get("sort", "-created_at"))
        found = [task for task in self.owned_by(asked.user) if _meets_all(task, asked.filters)]
        places = in_order((place_of(task, asked.sort) for task in found), asked.sort)
        if "cursor" in parameters:
            cursor_of, last = self._cursors.get(parameters["cursor"], (None, None))
            if cursor_of != asked or last is None:
                raise Refused(400, "invalid-input", "cursor")
            line = in_order({*places, last}, asked.sort)
            places = line[line.index(last) + 1 :]
        size = parameters.get("limit", 100)
        page, is_last = places[:size], len(places) <= size
        headers, cursor = {"Cache-Control": "no-store"}, None
        if not is_last:
            cursor = choice.cursor or "a cursor"
            self._cursors[cursor] = asked, page[-1]
            following = [(name, value) for name, value in query if name != "cursor"]
            headers["Link"] = f'</api/{user}/tasks?{urlencode([*following, ("cursor", cursor)])}>; rel="next"'
        return Answer(200, {"items": [self.tasks[place.id].shown() for place in page], "next_cursor": cursor}, headers)

    @_answering
    def get_task_summary(self, user: str) -> Answer:
        """`tags` has every tag that occurs, the most frequent first, and those alike by code points."""
        _refuse_faults(_faults("user_id", uuid, user))
        tasks = self.owned_by(uuid(user))
        used = Counter(tag for task in tasks for tag in task.tags)
        counts = {
            "total": len(tasks),
            "status": {status: sum(task.status == status for task in tasks) for status in STATUSES},
            "priority": {priority: sum(task.priority == priority for task in tasks) for priority in PRIORITIES},
            "tags": {tag: used[tag] for tag in sorted(used, key=lambda tag: (-used[tag], tag))},
            "overdue": sum(task.is_overdue for task in tasks),
        }
        return Answer(200, counts, {"Cache-Control": "no-store"})

    def owned_by(self, user: str) -> list[Task]:
        return [task for task in self.tasks.values() if task.user_id == user]

    def _task(self, user: str, task_id: str) -> Task:
        task = self.tasks.get(uuid(task_id))
        if task is None or task.user_id != uuid(user):
            # Somebody else's and a missing one look the same.
            raise Refused(404, "task-not-found")
        return task

    def _task_to_write(self, user: str, task_id: str, if_match: str | None) -> Task:
        task = self._task(user, task_id)
        # Without the header the last write wins. Weak tags never match here.
        if if_match is not None and not {"*", task.etag} & set(entity_tags(if_match)):
            raise Refused(412, "precondition-failed", headers={"ETag": task.etag})
        return task

    def _write(self, task: Task, values: Json, choice: Choice) -> Answer:
        """Every write counts, also one that says what was there already."""
        at = max(_time(choice), task.updated_at + _A_MICROSECOND)
        new = replace(task, **values, updated_at=at, version=self._new_version(task.id, choice))
        # Set when the task becomes completed, kept while it stays so, cleared when it is reopened.
        new = replace(new, completed_at=(task.completed_at or at) if new.completed else None)
        self.keep(new)
        return Answer(200, new.shown(), {"ETag": new.etag, "Cache-Control": "no-store"})

    def _new_id(self, choice: Choice) -> str:
        is_free = _is_right(uuid, choice.id) and choice.id not in self.versions
        return choice.id if choice.id and is_free else "a new id"

    def _new_version(self, task_id: str, choice: Choice) -> int:
        """It grows with every write, even from a deleted task to one that is made again under its id."""
        return max(choice.version, self.versions.get(task_id, 0) + 1)


def _time(choice: Choice) -> datetime:
    """The server's if it is about now."""
    now = datetime.now(UTC)
    return min(max(choice.at, now - _CLOCKS_DIFFER), now + _CLOCKS_DIFFER)


def _created(status: int, task: Task, headers: Mapping[str, str]) -> Answer:
    location = f"/api/{task.user_id}/tasks/{task.id}"
    return Answer(
        status,
        task.shown(),
        {"ETag": task.etag, "Location": location, "Cache-Control": "no-store"} | dict(headers),
    )


def _meets_all(task: Task, filters: Mapping[str, Any]) -> bool:
    return all(MEETS[name](task, value) for name, value in filters.items())


def _refuse_conditions_but(name: str | None, headers: Headers) -> str | None:
    """The one condition that an operation knows; a condition is never ignored."""
    others = {"If-Match", "If-None-Match"} & set(headers) - {name}
    if others:
        raise Refused(400, "invalid-input", *others)
    return headers.get(name) if name else None


def _refuse_faults(*faults: set[str]) -> None:
    """All that is wrong is told at once."""
    found = set[str]().union(*faults)
    if found:
        raise Refused(400, "invalid-input", *found)


def _faults_in_path(user: str, task_id: str) -> tuple[set[str], set[str]]:
    return _faults("user_id", uuid, user), _faults("task_id", uuid, task_id)


def _faults_in_condition(name: str, value: str | None) -> set[str]:
    return _faults(name, partial(_or_null, entity_tags), value)
