"""What the steps of a run share: two users and their tasks, and requests that go to the API and to its model."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from hypothesis import strategies as st
from hypothesis.stateful import Bundle, MultipleResults, RuleBasedStateMachine, initialize, multiple

from tests.api.model import requests
from tests.api.model.client import Api
from tests.support.contract import Json
from tests.support.model.answers import Answer, Choice
from tests.support.model.operations import Model
from tests.support.model.tasks import Key, Task
from tests.support.model.values import DEFAULTS, values_of

NOBODY = str(UUID(int=0))


class Steps(RuleBasedStateMachine):
    tasks: Bundle[Key] = Bundle("tasks")
    """Tasks that exist or existed."""

    def __init__(self, api: Api) -> None:
        super().__init__()
        self._api = api
        self._alice, self._bob = api.new_user(), api.new_user()
        self._model = Model([self._alice, self._bob])
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

    def _send(
        self,
        op: str,
        user: str,
        task_id: str,
        condition: str | None,
        key: str | None,
        body: Any = None,
        *,
        misplaced: bool = False,
    ) -> None:
        """A request about a task, with the condition that is for it, or is not; it may tell the version of the task."""
        task = self._model.tasks.get((user.lower(), task_id))
        version, right, wrong = task.version if task else 7, "If-Match", "If-None-Match"
        if op in ("GET", "HEAD"):
            right, wrong = wrong, right
        headers = {} if key is None else {"Idempotency-Key": key}
        if condition is not None and (misplaced or op not in ("ERASE", "EMPTY")):
            headers[wrong if misplaced else right] = condition.format(now=version, before=version - 1)
        operations: dict[str, tuple[str, str, Callable[..., Answer]]] = {
            "PUT": ("PUT", f"tasks/{task_id}", self._model.replace_task),
            "PATCH": ("PATCH", f"tasks/{task_id}", self._model.change_task),
            "DELETE": ("DELETE", f"tasks/{task_id}", self._model.delete_task),
            "RESTORE": ("POST", f"trash/{task_id}/restore", self._model.restore_task),
            "ERASE": ("DELETE", f"trash/{task_id}", self._model.erase_task),
            "EMPTY": ("DELETE", "trash", self._model.empty_trash),
        }
        method, path, operation = operations.get(op, (op, f"tasks/{task_id}", self._model.get_task))
        asked = [user, *([task_id] if op != "EMPTY" else []), *([body] if op in ("PUT", "PATCH") else []), headers]

        def expected(choice: Choice) -> Answer:
            # The answer to an erasure does not tell the versions of the tombstones.
            return operation(*asked, self._api.choices_about(user) if op in ("ERASE", "EMPTY") else choice)

        sent = {"body": body} if op in ("PUT", "PATCH") else {}
        self._check(method, f"{user}/{path}", expected, headers=headers, **sent)

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
