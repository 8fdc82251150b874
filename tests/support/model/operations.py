"""The operations of the API in the model."""

from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

from tests.support.contract import Json
from tests.support.model import lists
from tests.support.model.answers import NO_STORE, Answer, Choice, Refused
from tests.support.model.batches import BatchOperations
from tests.support.model.changes import ChangeOperations
from tests.support.model.lists import Listing, Query
from tests.support.model.refusals import (
    Headers,
    answering,
    condition,
    idempotency_key,
    refuse_conditions_but,
    refuse_faults,
)
from tests.support.model.state import Edit, deleted, edited, headers_of, refuse_other_versions
from tests.support.model.trash import TrashOperations
from tests.support.model.values import DEFAULTS, PRIORITIES, STATUSES, faults, faults_of, uuid, values_of


class Model(TrashOperations, ChangeOperations, BatchOperations):
    """The API. These are the operations on tasks that are live."""

    @answering
    def create_task(self, user: str, body: Any, headers: Headers, choice: Choice) -> Answer:
        refuse_conditions_but(None, headers)
        key = headers.get("Idempotency-Key")
        refuse_faults(
            faults("user_id", uuid, user),
            faults("Idempotency-Key", idempotency_key, key),
            faults_of(body, required=["title"], is_new=True),
        )
        owner = uuid(user)
        if key is not None and "id" in body:
            raise Refused(400, "invalid-input", "Idempotency-Key")
        task_id = self._keys.get((owner, key)) if key is not None else body.get("id", "").lower() or None
        values = DEFAULTS | values_of(body)
        is_late = values["due_date"] and values["due_date"] < datetime.now(UTC)
        # A repeat may come when the due date of what it repeats has passed.
        if is_late and (owner, task_id or "") not in self.tasks:
            raise Refused(400, "invalid-input", "due_date")
        task, replayed = self.create(owner, task_id, values, choice)
        if key is not None:
            # It stays the key's even when the task is gone, so that a repeat then makes it again.
            self._keys[owner, key] = task.key[1]
        location = f"/api/{owner}/tasks/{task.key[1]}"
        return Answer(
            200 if replayed else 201, task.shown(), headers_of(task, replayed=replayed) | {"Location": location}
        )

    @answering
    def get_task(self, user: str, task_id: str, headers: Headers, _choice: Choice) -> Answer:
        if_none_match = condition("If-None-Match", headers, user, task_id)
        task = self.live(user, task_id)
        # A client may keep the answer, and ask with If-None-Match whether it is still good.
        answered = {"ETag": task.etag, "Cache-Control": "private, no-cache"}
        if if_none_match is not None and {tag.removeprefix("W/") for tag in if_none_match} & {"*", task.etag}:
            return Answer(304, headers=answered)
        return Answer(200, task.shown(), answered)

    @answering
    def replace_task(self, user: str, task_id: str, body: Any, headers: Headers, choice: Choice) -> Answer:
        if_match = condition("If-Match", headers, user, task_id, faults_of(body, required=["title"]), is_write=True)
        return self._write("replace", user, task_id, edited(DEFAULTS | values_of(body)), if_match, headers, choice)

    @answering
    def change_task(self, user: str, task_id: str, body: Any, headers: Headers, choice: Choice) -> Answer:
        if_match = condition("If-Match", headers, user, task_id, faults_of(body), is_write=True)
        if not body:
            # Only reads, so there is nothing to remember a key for.
            task = self.live(user, task_id)
            refuse_other_versions(task, if_match)
            return Answer(200, task.shown(), headers_of(task))
        return self._write("patch", user, task_id, edited(values_of(body)), if_match, headers, choice)

    @answering
    def delete_task(self, user: str, task_id: str, headers: Headers, choice: Choice) -> Answer:
        """Moves the task to the trash."""
        if_match = condition("If-Match", headers, user, task_id, is_write=True)
        return self._write("delete", user, task_id, deleted, if_match, headers, choice)

    @answering
    def list_tasks(self, user: str, query: Query, choice: Choice) -> Answer:
        """A page: what comes after the position of the cursor now, whatever was there when the cursor was given out."""
        parameters = lists.parameters_of(query)
        refuse_faults(faults("user_id", uuid, user))
        listing = Listing(uuid(user), lists.filters_of(parameters), parameters.get("sort", "-created_at"))
        found = [task for task in self.live_of(listing.user) if lists.meets_all(task, listing.filters)]
        positions = lists.in_order((lists.position_of(task, listing.sort) for task in found), listing.sort)
        if "cursor" in parameters:
            last = self.position(parameters["cursor"], listing)
            with_last = lists.in_order({*positions, last}, listing.sort)
            positions = with_last[with_last.index(last) + 1 :]
        size = parameters.get("limit", 100)
        page, is_last = positions[:size], len(positions) <= size
        headers, cursor = NO_STORE, None
        if not is_last:
            cursor = self.point_at(choice.cursor or "a cursor", listing, page[-1])
            following = [(name, value) for name, value in query if name != "cursor"]
            link = f'</api/{user}/tasks?{urlencode([*following, ("cursor", cursor)])}>; rel="next"'
            headers = NO_STORE | {"Link": link}
        items = [self.tasks[listing.user, position.id].shown() for position in page]
        return Answer(200, {"items": items, "next_cursor": cursor}, headers)

    @answering
    def get_task_summary(self, user: str) -> Answer:
        """`tags` has every tag that occurs, the most frequent first, and those alike by code points."""
        refuse_faults(faults("user_id", uuid, user))
        tasks = self.live_of(uuid(user))
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

    def _write(
        self,
        op: str,
        user: str,
        task_id: str,
        edit: Edit,
        if_match: list[str] | None,
        headers: Headers,
        choice: Choice,
    ) -> Answer:
        key, sent = (uuid(user), uuid(task_id)), headers.get("Idempotency-Key")
        task, replayed = self.change(op, key, edit, if_match, sent, choice)
        shown = task.shown_as_trash() if op == "delete" else task.shown()
        return Answer(200, shown, headers_of(task, replayed=replayed))
