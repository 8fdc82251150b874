"""The log of clients that share tasks and keep copies of them: their requests, and each state of a task they saw."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, override
from uuid import UUID

import orjson

from tests.faults.history import History, Operation, State
from tests.faults.http import Answer, Cut, Http, Unsent
from tests.sync.rows import Row

PROBLEM = {"content-type": "application/problem+json"}


class Log(History):
    """A history of clients that change each other's tasks, so that only the database can tell which change was last.

    An operation that was acknowledged stays so, whatever a repeat is answered.
    """

    def __init__(self) -> None:
        super().__init__()
        self.seen: dict[tuple[UUID, UUID, int], Row] = {}
        """The state that clients saw in each version of a task, by its owner, its id and the version."""
        self.latest: defaultdict[UUID, dict[UUID, Row]] = defaultdict(dict)
        """The newest state that any client saw of each task of a user that was not erased, which others then change."""
        self.acknowledged = 0
        """Writes that were answered with success."""
        self.faults: list[str] = []
        """Answers that contradict another one, and those that no fault explains."""

    def see(self, item: Mapping[str, Any]) -> Row:
        """Logs the state of a task in an answer."""
        row = Row.of_item(item)
        first = self.seen.setdefault((row.user_id, row.id, row.version), row)
        if first != row:
            self.faults.append(f"the same version with other content: {first}, {row}")
        latest = self.latest[row.user_id]
        if row.erased:
            latest.pop(row.id, None)
        elif row.id not in latest or latest[row.id].version < row.version:
            latest[row.id] = row
        return row

    async def send_batch(self, http: Http, operations: Sequence[Operation]) -> Answer | Cut | Unsent:
        """Sends operations of one user as one batch, and logs the outcome of each."""
        for operation in operations:
            operation.attempts += 1
        body = {"items": [_item(operation) for operation in operations]}
        try:
            answer = await http.request("POST", f"/api/{operations[0].user_id}/tasks/batch", body)
        except Cut as error:
            for operation in operations:
                self.mark_unknown(operation)
            return error
        except Unsent as error:
            for operation in operations:
                self.refuse(operation)
            return error
        if answer.status == 200:
            results = answer.json["results"]
            if [result["id"] for result in results] != [str(operation.task_id) for operation in operations]:
                self.faults.append(
                    f"a batch of {len(operations)} items got {len(results)} results, or in another order"
                )
            for operation, result in zip(operations, results, strict=False):
                self.record(operation, _answer(result, answer.seconds))
                if result["status"] >= 400 and result.get("task"):
                    self.see(result["task"])
        else:
            for operation in operations:
                self.record(operation, answer)
        return answer

    @override
    def record(self, operation: Operation, answer: Answer) -> None:
        if operation.kind in {"delete", "erase"} and answer.status == 404:
            # Another client may have done it.
            self.refuse(operation)
            operation.status = 404
            return
        super().record(operation, answer)

    @override
    def mark_unknown(self, operation: Operation) -> None:
        is_done = operation.state is State.ACKNOWLEDGED
        super().mark_unknown(operation)
        if is_done:
            operation.state = State.ACKNOWLEDGED

    @override
    def refuse(self, operation: Operation) -> None:
        if operation.state is not State.ACKNOWLEDGED:
            super().refuse(operation)

    @override
    def _acknowledge(self, operation: Operation, answer: Answer) -> None:
        before = operation.version
        self.acknowledged += operation.is_write and operation.state is not State.ACKNOWLEDGED
        super()._acknowledge(operation, answer)
        if answer.status == 204:
            return
        for task in answer.json["items"] if operation.kind == "list" else [answer.json]:
            self.see(task)
        # A repeat is answered with a later version, too. The first one is the one to look for.
        operation.version = before or operation.version


def _item(operation: Operation) -> dict[str, Any]:
    item = {"op": operation.kind, "id": str(operation.task_id), **(operation.body or {})}
    if operation.key is not None:
        item["key"] = operation.key
    if operation.expected is not None:
        item["if_version"] = operation.expected
    return item


def _answer(result: Mapping[str, Any], seconds: float) -> Answer:
    """The answer that the item would have got in a request of its own."""
    if result["status"] < 300:
        return Answer(result["status"], {}, orjson.dumps(result["task"]), seconds)
    return Answer(result["status"], PROBLEM, orjson.dumps(result.get("problem") or {}), seconds)
