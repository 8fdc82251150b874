"""The steps of clients that work offline: the trash, the feed of changes, batches, and repeats of what was sent."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import uuid4

from hypothesis import strategies as st
from hypothesis.stateful import rule

from tests.api.model import requests
from tests.api.model.client import Api
from tests.api.model.requests import MISSING, Item
from tests.api.model.steps import NOBODY, Steps
from tests.support.contract import Json
from tests.support.model.answers import Answer
from tests.support.model.changes import Reader
from tests.support.model.lists import Query

_PURGED_AFTER = {"trash": 30, "tombstones": 90}
"""Days."""


class SyncSteps(Steps):
    def __init__(self, api: Api) -> None:
        super().__init__(api)
        self._readers = [Reader(self._alice), Reader(self._alice), Reader(self._bob)]

    def _poll(self, reader: Reader, limit: int | None) -> bool:
        """Returns True when there is more to read. A copy that has been read to the end is exact."""
        query = [*([("limit", str(limit))] if limit else []), *([("cursor", reader.cursor)] if reader.cursor else [])]
        answer = self._changes(reader.user, query)
        if answer.status == 410:
            reader.start_anew()
            return True
        if answer.body is None:
            return False
        if not (has_more := reader.read(answer.body)):
            live = {task.key[1]: task.shown() for task in self._model.live_of(reader.user)}
            assert reader.copy == live, f"A client has {reader.copy}, but there is {live}"
        return has_more

    def _changes(self, user: str, query: Query) -> Answer:
        return self._check("GET", f"{user}/tasks/changes", partial(self._model.list_changes, user, query), query=query)

    @rule(
        number=st.integers(0, 2),
        back=st.none() | st.integers(0, 99),
        limits=st.lists(requests.limits, min_size=1, max_size=3),
        elsewhere=st.sampled_from([None] * 9 + ["other", "nobody", "altered", "trash", "tasks"]),
        faults=requests.page_faults,
    )
    def poll(
        self, number: int, back: int | None, limits: Sequence[int | None], elsewhere: str | None, faults: Query
    ) -> None:
        """Goes on, or once more from the beginning or another place that a client has kept."""
        reader = self._readers[number]
        if back is not None:
            reader.go_back(back)
        for limit in limits:
            self._poll(reader, limit)
        if faults:
            self._changes(reader.user, faults)
        if elsewhere and reader.cursor:
            self._take_elsewhere(reader.user, reader.cursor, elsewhere)

    def _take_elsewhere(self, user: str, cursor: str, where: str) -> None:
        query = [("cursor", cursor)]
        match where:
            case "other" | "nobody":
                self._changes(self._other(user) if where == "other" else NOBODY, query)
            case "altered":
                self._changes(user, [("cursor", cursor[:-1] + ("A" if cursor[-1] != "A" else "Q"))])
            case "trash":
                self._list_trash(user, query)
            case _:
                self._check("GET", f"{user}/tasks", partial(self._model.list_tasks, user, query), query=query)

    def _list_trash(self, user: str, query: Query) -> Answer:
        return self._check("GET", f"{user}/trash", partial(self._model.list_trash, user, query), query=query)

    @rule(who=requests.people, limits=st.lists(requests.limits, min_size=1, max_size=3), faults=requests.page_faults)
    def look_into_the_trash(self, who: str, limits: Sequence[int | None], faults: Query) -> None:
        cursor: list[tuple[str, str]] = []
        for limit in limits:
            size: list[tuple[str, str]] = [("limit", str(limit))] if limit else []
            body = self._list_trash(self._user(who), [*size, *cursor]).body
            if not body or not body["next_cursor"]:
                break
            cursor = [("cursor", body["next_cursor"])]
        if faults:
            self._list_trash(self._user(who), faults)
        if cursor:
            self._list_trash(self._other(self._user(who)), cursor)

    @rule(
        who=requests.people,
        items=requests.items,
        values=requests.replacements,
        keeps_twins=st.sampled_from([False] * 6 + [True]),
        repeats=st.sampled_from([0, 0, 1]),
        whole=requests.whole_batches,
    )
    def send_a_batch(
        self, who: str, items: Sequence[Item], values: Json, keeps_twins: bool, repeats: int, whole: Any
    ) -> None:
        """A repeat is of a client that has lost the answer."""
        user = self._user(who)
        known = self._model.of(user) or self._model.of(self._alice)
        sent: list[Any] = []
        for item in items:
            task = None if item.number is None else known[item.number % len(known)]
            made: Any = {"op": item.op, "id": task.key[1] if task else str(uuid4())}
            made |= values if item.op in ("create", "replace", "patch") else {}
            if item.behind is not None and item.op != "create":
                made["if_version"] = (task.version if task else 7) - item.behind
            made |= {} if item.key is None else {"key": item.key}
            sent.append(requests.spoiled(made, item.fault))
        if not keeps_twins:
            sent = list({str(each.get("id") if isinstance(each, dict) else each): each for each in sent}.values())
        for _ in range(1 + repeats):
            body = {"items": sent} if whole is MISSING else whole
            self._check("POST", f"{user}/tasks/batch", partial(self._model.apply_batch, user, body, {}), body=body)

    def _repeat_late(self, user: str, task_id: str) -> None:
        """A task remembers the last eight keys, so one from before them is like a new one."""
        for key in (*range(9), 1, 0):
            body, headers = {"title": f"By {key}"}, {"Idempotency-Key": f"late-{key}"}
            operation = partial(self._model.change_task, user, task_id, body, headers)
            self._check("PATCH", f"{user}/tasks/{task_id}", operation, body=body, headers=headers)

    @rule(who=requests.people, aged=st.integers(1, 15), is_new_era=st.sampled_from([False] * 4 + [True]))
    def let_days_pass(self, who: str, aged: int, is_new_era: bool) -> None:
        """Purges what is old enough then, or lets all feeds begin anew, as after a restore of a backup."""
        user = self._user(who)
        if user == NOBODY:
            return
        if is_new_era:
            self._model.revisions[user] = self._model.horizons[user] = self._api.start_anew(user)
            return
        deleted = [task for task in self._model.of(user) if not task.is_live]
        old = [task for number, task in enumerate(deleted) if aged >> number % 4 & 1]
        days = timedelta(days=max(_PURGED_AFTER.values()) + 1)
        self._api.age([task.key for task in old], days)
        for task in old:
            assert task.deleted_at
            changed = task.updated_at - days if task.is_erased else task.updated_at
            self._model.tasks[task.key] = replace(task, deleted_at=task.deleted_at - days, updated_at=changed)
        self._api.purge()
        self._model.bury(self._model.tasks[task.key] for task in old if task.is_erased)
        self._model.erase(
            [self._model.tasks[task.key] for task in old if task.is_trashed], self._api.choices_about(user)
        )

    def _walk_trash(self) -> None:
        cursor: list[tuple[str, str]] = []
        while (body := self._list_trash(self._alice, [("limit", "1"), *cursor]).body) and body["next_cursor"]:
            cursor = [("cursor", body["next_cursor"])]

    def _read_to_the_end(self) -> None:
        """In the end each client has what there is, wherever it goes on from."""
        for reader in self._readers:
            for back in (None, self._requests, 0):
                if back is not None:
                    reader.go_back(back)
                while self._poll(reader, 3):
                    pass
        self._walk_trash()
