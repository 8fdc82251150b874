"""The operations of the API in the model."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial, wraps
from typing import Any, Concatenate
from urllib.parse import urlencode

from tests.support.contract import OPERATIONS, Json
from tests.support.model import lists
from tests.support.model.answers import NO_STORE, Answer, Choice, Refused
from tests.support.model.lists import Listing, Position, Query
from tests.support.model.tasks import Key, Task
from tests.support.model.values import (
    DEFAULTS,
    PRIORITIES,
    STATUSES,
    entity_tags,
    faults,
    faults_of,
    fitting,
    is_right,
    or_null,
    uuid,
    values_of,
)

type Headers = Mapping[str, str]
"""Idempotency-Key, If-Match and If-None-Match, so far as a request has them."""

_KEY = OPERATIONS["create_task"].parameters["Idempotency-Key"]["schema"]
_A_MICROSECOND = timedelta(microseconds=1)


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
        self.tasks: dict[Key, Task] = {}
        self.versions: dict[Key, int] = {}
        """The last version of every task that ever was."""
        self._keys: dict[tuple[str, str], str] = {}
        """The id that an Idempotency-Key of a user stands for."""
        self._cursors: dict[str, tuple[Listing, Position]] = {}

    def keep(self, task: Task) -> None:
        self.tasks[task.key] = task
        self.versions[task.key] = task.version

    def tasks_of(self, user: str) -> list[Task]:
        return [task for (owner, _), task in self.tasks.items() if owner == user]

    @_answering
    def create_task(self, user: str, body: Any, headers: Headers, choice: Choice) -> Answer:
        _refuse_conditions_but(None, headers)
        key = headers.get("Idempotency-Key")
        _refuse_faults(
            faults("user_id", uuid, user),
            faults("Idempotency-Key", partial(or_null, partial(fitting, _KEY)), key),
            faults_of(body, required=["title"], is_new=True),
        )
        owner = uuid(user)
        if key is not None and "id" in body:
            raise Refused(400, "invalid-input", "Idempotency-Key")
        task_id = self._keys.get((owner, key)) if key is not None else body.get("id", "").lower() or None
        if there := self.tasks.get((owner, task_id or "")):
            # A repeat shows the task as it is now and changes nothing, whatever else its body says.
            return _created(200, there, {"Idempotency-Replayed": "true"})
        values = DEFAULTS | values_of(body)
        if values["due_date"] and values["due_date"] < datetime.now(UTC):
            raise Refused(400, "invalid-input", "due_date")
        if owner not in self.users:
            raise Refused(404, "user-not-found")
        task_id = task_id or self._new_id(owner, choice)
        if key is not None:
            # It stays the key's even when the task is deleted, so that a repeat then makes it again.
            self._keys[owner, key] = task_id
        at = choice.time
        completed_at = at if values["status"] == "completed" else None
        version = self._new_version((owner, task_id), choice)
        task = Task((owner, task_id), values, at, at, completed_at, version)
        self.keep(task)
        return _created(201, task, {})

    @_answering
    def get_task(self, user: str, task_id: str, headers: Headers, _choice: Choice) -> Answer:
        if_none_match = _condition("If-None-Match", headers, user, task_id)
        task = self._task(user, task_id)
        # A client may keep the answer, and ask with If-None-Match whether it is still good.
        answered = {"ETag": task.etag, "Cache-Control": "private, no-cache"}
        if if_none_match is not None and {tag.removeprefix("W/") for tag in if_none_match} & {"*", task.etag}:
            return Answer(304, headers=answered)
        return Answer(200, task.shown(), answered)

    @_answering
    def replace_task(self, user: str, task_id: str, body: Any, headers: Headers, choice: Choice) -> Answer:
        task = self._task_to_write(user, task_id, headers, faults_of(body, required=["title"]))
        return self._write(task, DEFAULTS | values_of(body), choice)

    @_answering
    def change_task(self, user: str, task_id: str, body: Any, headers: Headers, choice: Choice) -> Answer:
        task = self._task_to_write(user, task_id, headers, faults_of(body))
        if not body:
            return Answer(200, task.shown(), NO_STORE | {"ETag": task.etag})
        return self._write(task, values_of(body), choice)

    @_answering
    def delete_task(self, user: str, task_id: str, headers: Headers, _choice: Choice) -> Answer:
        """Answers with the task as it was, so that a client can offer undo; it has no entity tag any more."""
        task = self._task_to_write(user, task_id, headers, set())
        del self.tasks[task.key]
        return Answer(200, task.shown())

    @_answering
    def list_tasks(self, user: str, query: Query, choice: Choice) -> Answer:
        """A page: what comes after the position of the cursor now, whatever was there when the cursor was given out."""
        parameters = lists.parameters_of(query)
        _refuse_faults(faults("user_id", uuid, user))
        listing = Listing(uuid(user), lists.filters_of(parameters), parameters.get("sort", "-created_at"))
        found = [task for task in self.tasks_of(listing.user) if lists.meets_all(task, listing.filters)]
        positions = lists.in_order((lists.position_of(task, listing.sort) for task in found), listing.sort)
        if "cursor" in parameters:
            cursor_of, last = self._cursors.get(parameters["cursor"], (None, None))
            if cursor_of != listing or last is None:
                raise Refused(400, "invalid-input", "cursor")
            with_last = lists.in_order({*positions, last}, listing.sort)
            positions = with_last[with_last.index(last) + 1 :]
        size = parameters.get("limit", 100)
        page, is_last = positions[:size], len(positions) <= size
        headers, cursor = NO_STORE, None
        if not is_last:
            cursor = choice.cursor or "a cursor"
            self._cursors[cursor] = listing, page[-1]
            following = [(name, value) for name, value in query if name != "cursor"]
            link = f'</api/{user}/tasks?{urlencode([*following, ("cursor", cursor)])}>; rel="next"'
            headers = NO_STORE | {"Link": link}
        items = [self.tasks[listing.user, position.id].shown() for position in page]
        return Answer(200, {"items": items, "next_cursor": cursor}, headers)

    @_answering
    def get_task_summary(self, user: str) -> Answer:
        """`tags` has every tag that occurs, the most frequent first, and those alike by code points."""
        _refuse_faults(faults("user_id", uuid, user))
        tasks = self.tasks_of(uuid(user))
        used = Counter(tag for task in tasks for tag in task.values["tags"])

        def count(name: str, values: Iterable[str]) -> Json:
            return {value: sum(task.values[name] == value for task in tasks) for value in values}

        counts = {
            "total": len(tasks),
            "status": count("status", STATUSES),
            "priority": count("priority", PRIORITIES),
            "tags": {tag: used[tag] for tag in sorted(used, key=lambda tag: (-used[tag], tag))},
            "overdue": sum(task.is_overdue for task in tasks),
        }
        return Answer(200, counts)

    def _task(self, user: str, task_id: str) -> Task:
        task = self.tasks.get((uuid(user), uuid(task_id)))
        if task is None:
            # Another user's task and a missing one look the same.
            raise Refused(404, "task-not-found")
        return task

    def _task_to_write(self, user: str, task_id: str, headers: Headers, body_faults: set[str]) -> Task:
        if_match = _condition("If-Match", headers, user, task_id, body_faults)
        task = self._task(user, task_id)
        # Without the header the last write wins. Weak tags never match here.
        if if_match is not None and not {"*", task.etag} & set(if_match):
            raise Refused(412, "precondition-failed", headers={"ETag": task.etag})
        return task

    def _write(self, task: Task, values: Json, choice: Choice) -> Answer:
        """Every write counts, also one that says what was there already."""
        at = max(choice.time, task.updated_at + _A_MICROSECOND)
        new = replace(task, values=task.values | values, updated_at=at, version=self._new_version(task.key, choice))
        # Set when the task becomes completed, kept while it stays so, cleared when it is reopened.
        new = replace(new, completed_at=(task.completed_at or at) if new.completed else None)
        self.keep(new)
        return Answer(200, new.shown(), NO_STORE | {"ETag": new.etag})

    def _new_id(self, owner: str, choice: Choice) -> str:
        is_free = is_right(uuid, choice.id) and (owner, choice.id) not in self.versions
        return choice.id if choice.id and is_free else "a new id"

    def _new_version(self, key: Key, choice: Choice) -> int:
        """It grows with every write, even from a deleted task to one that is made again under its id."""
        return max(choice.version, self.versions.get(key, 0) + 1)


def _created(status: int, task: Task, headers: Mapping[str, str]) -> Answer:
    user, task_id = task.key
    location = f"/api/{user}/tasks/{task_id}"
    return Answer(status, task.shown(), NO_STORE | {"ETag": task.etag, "Location": location} | dict(headers))


def _condition(
    name: str, headers: Headers, user: str, task_id: str, body_faults: Iterable[str] = ()
) -> list[str] | None:
    """The entity tags of the one condition that an operation on a task knows. All faults are told at once."""
    _refuse_conditions_but(name, headers)
    condition = headers.get(name)
    _refuse_faults(
        faults("user_id", uuid, user),
        faults("task_id", uuid, task_id),
        faults(name, partial(or_null, entity_tags), condition),
        set(body_faults),
    )
    return None if condition is None else entity_tags(condition)


def _refuse_conditions_but(name: str | None, headers: Headers) -> None:
    """A condition that an operation does not know is never ignored."""
    if others := {"If-Match", "If-None-Match"} & set(headers) - {name}:
        raise Refused(400, "invalid-input", *others)


def _refuse_faults(*found: set[str]) -> None:
    if everything := set[str]().union(*found):
        raise Refused(400, "invalid-input", *everything)
