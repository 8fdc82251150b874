"""Requests to every operation of the contract: whose and about what, most of them meaningful before they are bent."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from random import Random
from typing import Any
from uuid import UUID

from tests.fuzz.cast import TASKS, Cast
from tests.fuzz.messages import Message, encoded, to_json
from tests.fuzz.samples import IDS, Samples
from tests.support.contract import DOCUMENT
from todos.cursors import ListCursors

_OTHER_TARGETS = (
    "/", "/api", "/api/", "/api/docs", "/api/openapi.json", "/api/v1", "/api/v1/live/", "/api//v1/live", "/api/v2/live",
    "/favicon.ico", "/api/static/x", "/API/v1/live", "/api/v1/%6cive", "/api/v1/../v1/live",
)  # fmt: skip
_METHODS = (
    b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS", b"TRACE", b"CONNECT", b"get", b"PROPFIND",
)  # fmt: skip
_KEYS = ("order-66", "a", "k" * 255, "~!*'()")
_TYPES = (b"application/json", b"application/merge-patch+json", b"application/json; charset=utf-8")


@dataclass(frozen=True)
class Operation:
    label: str
    method: bytes
    path: list[str]
    parameters: list[Mapping[str, Any]]
    body: Mapping[str, Any] | None


def _operations() -> list[Operation]:
    found = []
    for path, methods in DOCUMENT["paths"].items():
        for method, operation in methods.items():
            content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
            found.append(
                Operation(
                    f"{method.upper()} {path}",
                    method.upper().encode(),
                    path.strip("/").split("/"),
                    operation["parameters"],
                    content.get("schema"),
                )
            )
    return found


class Grammar:
    """Makes requests for a cast. They follow from the random numbers alone, not from what was answered."""

    def __init__(self, cast: Cast) -> None:
        self._cast = cast
        self._samples = Samples(DOCUMENT)
        self.operations = _operations()
        # Those without a user have little to get wrong, and what is deleted cannot be found.
        self._weights = [
            1 if "{user_id}" not in operation.label else 4 if operation.method == b"DELETE" else 8
            for operation in self.operations
        ]
        self._reading = [each for each in self.operations if each.method == b"GET" and "{user_id}" in each.label]

    def quiet(self, random: Random) -> Message:
        """A bystander reads, and finds."""
        user = random.choice(self._cast.bystanders)
        return self._message(random.choice(self._reading), user, Cast.tasks(user)[random.randrange(TASKS // 2)], random)

    def any(self, random: Random) -> Message:
        if random.random() < 0.05:
            return self._elsewhere(random)
        operation = random.choices(self.operations, self._weights)[0]
        user = random.choice(self._cast.actors)
        message = self._message(operation, user, self._task(user, random), random)
        if random.random() < 0.03:
            message.path[1] = encoded(random.choice(IDS))
        if random.random() < 0.05:
            message.label, message.method = "other methods", random.choice(_METHODS)
        return message

    def _task(self, user: UUID, random: Random) -> object:
        """Mostly the user's own, or that of any other."""
        draw = random.random()
        if draw < 0.05:
            return random.choice(IDS)
        if draw < 0.4:
            user = random.choice((*self._cast.actors, *self._cast.bystanders))
        return random.choice(Cast.tasks(user))

    def _elsewhere(self, random: Random) -> Message:
        path = random.choice(_OTHER_TARGETS).encode().split(b"/")[1:]
        return Message("other targets", random.choice(_METHODS), path, headers=[(b"Host", b"test")])

    def _message(self, operation: Operation, user: UUID, task: object, random: Random) -> Message:
        places = {"{user_id}": str(user), "{task_id}": str(task)}
        path = [encoded(places.get(part, part)) for part in operation.path]
        message = Message(operation.label, operation.method, path, headers=[(b"Host", b"test")])
        for parameter in operation.parameters:
            if parameter["in"] != "path" and random.random() < (0.2 if parameter["in"] == "query" else 0.4):
                self._add(message, parameter, user, random)
        if random.random() < 0.1:
            message.headers.append((b"X-Request-ID", b"%032x" % random.getrandbits(128)))
        if operation.body is not None:
            self._add_body(message, operation.body, user, random)
        return message

    def _add(self, message: Message, parameter: Mapping[str, Any], user: UUID, random: Random) -> None:
        name = parameter["name"]
        match name:
            case "cursor":
                # Only a list without anything else has this one.
                position = "2026-11-24T08:00:00", random.choice(Cast.tasks(user))
                value: Any = ListCursors(user, {}, "title", descending=False).encode(position)
                message.query = [(b"sort", b"title")]
            case "If-Match" | "If-None-Match":
                value = random.choice(('"1"', '"2"', '"3"', "*", 'W/"4"', '"1", "2", "3", "4"', '""', '"\xe9"', '"5"'))
            case "Idempotency-Key":
                value = random.choice(_KEYS)
            case _:
                value = self._samples.valid(parameter["schema"], random)
        for each in value if isinstance(value, list) else [value]:
            text = each if isinstance(each, str) else json.dumps(each)
            if parameter["in"] == "query":
                message.query.append((name.encode(), encoded(text)))
            else:
                message.headers.append((name.encode(), text.encode("latin-1")))

    def _add_body(self, message: Message, schema: Mapping[str, Any], user: UUID, random: Random) -> None:
        message.document = self._samples.valid(schema, random)
        if "id" in message.document:
            message.document["id"] = str(self._task(user, random))
        if random.random() < 0.7 and "status" in message.document:
            # Both may be sent only if they agree.
            message.document.pop("completed", None)
        message.body = to_json(message.document)
        message.headers.append((b"Content-Type", random.choice(_TYPES) if message.method == b"PATCH" else _TYPES[0]))
