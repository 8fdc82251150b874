"""Batches in the model: each item is what a request of its own would be, and has a result of its own."""

from functools import partial
from typing import Any

from tests.support.contract import SCHEMAS, Json
from tests.support.model.answers import Answer, Choice, Refused
from tests.support.model.refusals import Headers, answering, refuse_conditions_but, refuse_faults
from tests.support.model.state import State, deleted, edited, refuse_other_versions, restored
from tests.support.model.tasks import Task
from tests.support.model.values import DEFAULTS, faults, faults_of, fitting, is_right, uuid, values_of

_MOST = 100
_KEY, _VERSION = (partial(fitting, SCHEMAS["BatchPatch"]["properties"][name]) for name in ("key", "if_version"))
_NOT_VALUES = ("op", "id", "if_version", "key")


class BatchOperations(State):
    @answering
    def apply_batch(self, user: str, body: Any, headers: Headers, choice: Choice) -> Answer:
        """The whole is refused only for what is wrong with it as a whole; each id may stand in it once."""
        refuse_conditions_but(None, headers)
        refuse_faults(faults("user_id", uuid, user), _faults_of_whole(body))
        # The order in which the server writes them is its own, but each has a greater version than the one before.
        items = sorted(enumerate(body["items"]), key=lambda each: choice.of(_id_of(each[1])).version)
        results = {number: self._result(uuid(user), item, choice) for number, item in items}
        return Answer(200, {"results": [results[number] for number in range(len(items))]})

    def _result(self, owner: str, item: Any, choice: Choice) -> Json:
        shown: Json = {"id": _id_of(item) or None}
        try:
            refuse_faults(_faults_of_item(item))
            task_id = _id_of(item)
            result = self._apply(item["op"], owner, task_id, item, choice.of(task_id))
        except Refused as refused:
            answer = refused.answer
            shown |= {"status": answer.status, "problem": {"kind": answer.problem, "fields": sorted(answer.fields)}}
            there = self.tasks.get((owner, shown["id"] or ""))
            if there and not there.is_erased and answer.status in (409, 412):
                # A client can merge without another request.
                shown["task"] = there.shown_as_trash()
            return shown
        return shown | result

    def _apply(self, op: str, owner: str, task_id: str, item: Json, choice: Choice) -> Json:
        values = values_of({name: value for name, value in item.items() if name not in _NOT_VALUES})
        status, if_match, key = 200, None, item.get("key")
        if "if_version" in item:
            if_match = [f'"{item["if_version"]}"']
        if op == "create":
            task, replayed = self.create(owner, task_id, DEFAULTS | values, choice)
            status = 200 if replayed else 201
        elif op == "patch" and not values:
            task, replayed = self._read(owner, task_id, if_match, key)
        else:
            edit = {
                "replace": edited(DEFAULTS | values), "patch": edited(values), "delete": deleted, "restore": restored,
            }[op]  # fmt: skip
            task, replayed = self.change(op, (owner, task_id), edit, if_match, key, choice)
        return {"status": status, "task": task.shown_as_trash()} | ({"replayed": True} if replayed else {})

    def _read(self, owner: str, task_id: str, if_match: list[str] | None, key: str | None) -> tuple[Task, bool]:
        """A patch without changes, which may be a repeat of one that had some."""
        task = self.live(owner, task_id)
        if f"patch {key}" in task.applied:
            return task, True
        refuse_other_versions(task, if_match)
        return task, False


def _id_of(item: Any) -> str:
    """The id of an item, or nothing if it has none."""
    sent = item.get("id") if isinstance(item, dict) else None
    return uuid(sent) if is_right(uuid, sent) else ""


def _faults_of_whole(body: Any) -> set[str]:
    if not isinstance(body, dict):
        return {"body"}
    unknown = set(body) - {"items"}
    items = body.get("items")
    if not isinstance(items, list) or not 1 <= len(items) <= _MOST:
        return unknown | {"items"}
    ids = [_id_of(item) for item in items]
    if unknown:
        return unknown
    return {f"items.{number}.id" for number, each in enumerate(ids) if each and each in ids[:number]}


def _faults_of_item(item: Any) -> set[str]:
    if not isinstance(item, dict):
        return {"body"}
    op = item.get("op")
    if op not in ("create", "replace", "patch", "delete", "restore"):
        return {"op"}
    values = {name: value for name, value in item.items() if name not in _NOT_VALUES}
    found = faults("id", uuid, item.get("id"))
    if "key" in item:
        found |= faults("key", _KEY, item["key"])
    if "if_version" in item:
        found |= {"if_version"} if op == "create" else faults("if_version", _VERSION, item["if_version"])
    if op in ("delete", "restore"):
        return found | set(values)
    return found | faults_of(values, required=["title"] if op in ("create", "replace") else [])
