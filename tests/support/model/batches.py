"""Batches in the model: each item is what a request of its own would be, and has a result of its own."""

from typing import Any

from tests.support.contract import Json
from tests.support.model.answers import Answer, Choice, Refused
from tests.support.model.refusals import Headers, answering, idempotency_key, refuse_conditions_but, refuse_faults
from tests.support.model.state import State, deleted, edited, restored
from tests.support.model.values import DEFAULTS, faults, faults_of, is_right, uuid, values_of

_MOST = 100
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
            status, task = self._apply(item["op"], owner, task_id, item, choice.of(task_id))
        except Refused as refused:
            answer = refused.answer
            shown |= {"status": answer.status, "problem": {"kind": answer.problem, "fields": sorted(answer.fields)}}
            there = self.tasks.get((owner, shown["id"] or ""))
            if there and not there.is_erased and answer.status in (409, 412):
                # A client can merge without another request.
                shown["task"] = there.shown()
            return shown
        return shown | {"status": status, "task": task}

    def _apply(self, op: str, owner: str, task_id: str, item: Json, choice: Choice) -> tuple[int, Json]:
        values = values_of({name: value for name, value in item.items() if name not in _NOT_VALUES})
        if op == "create":
            task, replayed = self.create(owner, task_id, DEFAULTS | values, choice)
            return 200 if replayed else 201, task.shown()
        edit = {
            "replace": edited(DEFAULTS | values), "patch": edited(values), "delete": deleted, "restore": restored,
        }[op]  # fmt: skip
        version = item.get("if_version")
        if_match = None if version is None else [f'"{version}"']
        task, _ = self.change(op, (owner, task_id), edit, if_match, item.get("key"), choice)
        return 200, task.shown_as_trash() if op == "delete" else task.shown()


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
    ids = [each for each in map(_id_of, items) if each]
    return unknown | ({"items"} if len(ids) > len(set(ids)) else set())


def _faults_of_item(item: Any) -> set[str]:
    if not isinstance(item, dict):
        return {"body"}
    op = item.get("op")
    if op not in ("create", "replace", "patch", "delete", "restore"):
        return {"op"}
    values = {name: value for name, value in item.items() if name not in _NOT_VALUES}
    found = faults("id", uuid, item.get("id")) | faults("key", idempotency_key, item.get("key"))
    if op in ("delete", "restore"):
        return found | set(values)
    return found | faults_of(values, required=["title"] if op in ("create", "replace") else [])
