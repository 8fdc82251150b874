"""Requests to every operation of the contract, most of them meaningful before they are bent."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from random import Random
from typing import Any
from uuid import UUID

from persistence.changes import Place
from tests.fuzz.fixtures import LIVE, Fixtures, task_ids, trashed_ids
from tests.fuzz.messages import Message, encoded, to_json
from tests.fuzz.samples import IDS, Samples
from tests.support.contract import OPERATIONS, SCHEMAS, Operation
from todos.cursors import ChangeCursors, ListCursors

_OTHER_TARGETS = (
    "/", "/api", "/api/", "/api/docs", "/api/openapi.json", "/api/v1", "/api/v1/live/", "/api//v1/live", "/api/v2/live",
    "/favicon.ico", "/api/static/x", "/API/v1/live", "/api/v1/%6cive", "/api/v1/../v1/live",
)  # fmt: skip
_METHODS = (
    b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS", b"TRACE", b"CONNECT", b"get", b"PROPFIND",
)  # fmt: skip
_KEYS = ("order-66", "a", "k" * 255, "~!*'()")
_CONDITIONS = ('"1"', '"2"', '"3"', "*", 'W/"4"', '"1", "2", "3", "4"', '""', '"\xe9"', '"5"')
_LATER = datetime(2999, 1, 1, tzinfo=UTC)
_TYPES = (b"application/json", b"application/merge-patch+json", b"application/json; charset=utf-8")

EMPTYING = "DELETE /api/{user_id}/trash"
ALL = list(OPERATIONS.values())


def _weight(operation: Operation) -> int:
    """Operations without a user have little to get wrong, and what is deleted or erased cannot be found."""
    if not operation.is_of_a_user:
        return 1
    if operation.method != "DELETE":
        return 8
    return 2 if operation.is_of_the_trash else 4


_WEIGHTS = [_weight(each) for each in ALL]
_READING = [each for each in ALL if each.method == "GET" and each.is_of_a_user]


def label(operation: Operation) -> str:
    return f"{operation.method} {operation.path}"


class Grammar:
    """Makes requests for some users. The requests follow from the random numbers alone, not from the answers."""

    def __init__(self, users: Fixtures) -> None:
        self._users = users
        self._samples = Samples(SCHEMAS)

    def quiet(self, random: Random) -> Message:
        """A bystander reads, and finds."""
        user = random.choice(self._users.bystanders)
        return self._message(random.choice(_READING), user, task_ids(user)[random.randrange(LIVE)], random)

    def any(self, random: Random) -> Message:
        if random.random() < 0.05:
            path = random.choice(_OTHER_TARGETS).encode().split(b"/")[1:]
            return Message("other targets", random.choice(_METHODS), path, headers=[(b"Host", b"test")])
        [operation] = random.choices(ALL, _WEIGHTS)
        # The others keep a trash to restore from.
        is_emptying = label(operation) == EMPTYING
        user = random.choice(self._users.actors[:1] if is_emptying else self._users.actors)
        is_trashed = operation.is_of_the_trash and random.random() < 0.5
        task = random.choice(trashed_ids(user)) if is_trashed else self._task(user, random)
        message = self._message(operation, user, task, random)
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
            user = random.choice((*self._users.actors, *self._users.bystanders))
        return random.choice(task_ids(user))

    def _message(self, operation: Operation, user: UUID, task: object, random: Random) -> Message:
        places = {"{user_id}": str(user), "{task_id}": str(task)}
        path = [encoded(places.get(part, part)) for part in operation.path.strip("/").split("/")]
        message = Message(label(operation), operation.method.encode(), path, headers=[(b"Host", b"test")])
        for parameter in operation.parameters.values():
            if parameter["in"] != "path" and random.random() < (0.2 if parameter["in"] == "query" else 0.4):
                self._add(message, operation, parameter, user, random)
        if random.random() < 0.1:
            message.headers.append((b"X-Request-ID", b"%032x" % random.getrandbits(128)))
        if body := operation.described.get("requestBody"):
            self._add_body(message, body["content"]["application/json"]["schema"], user, random)
        return message

    def _add(
        self, message: Message, operation: Operation, parameter: Mapping[str, Any], user: UUID, random: Random
    ) -> None:
        match parameter["name"]:
            case "cursor":
                value: Any = self._cursor(message, operation, user, random)
            case "If-Match" | "If-None-Match":
                value = random.choice(_CONDITIONS)
            case "Idempotency-Key":
                value = random.choice(_KEYS)
            case _:
                value = self._samples.valid(parameter["schema"], random)
        for each in value if isinstance(value, list) else [value]:
            text = each if isinstance(each, str) else json.dumps(each)
            if parameter["in"] == "query":
                message.query.append((parameter["name"].encode(), encoded(text)))
            else:
                message.headers.append((parameter["name"].encode(), text.encode("latin-1")))

    def _cursor(self, message: Message, operation: Operation, user: UUID, random: Random) -> str:
        task = random.choice(task_ids(user))
        if operation.path.endswith("/changes"):
            since = random.choice((0, 3, 2**50, 2**63 - 1))
            return ChangeCursors(user).encode(Place(random.choice((0, 2, since)), task, since))
        if operation.is_of_the_trash:
            return ListCursors(user, {}, "deleted_at", descending=True).encode((_LATER, task))
        # Only a list without anything else has this one.
        message.query = [(b"sort", b"title")]
        return ListCursors(user, {}, "title", descending=False).encode(("2026-11-24T08:00:00", task))

    def _add_body(self, message: Message, schema: Mapping[str, Any], user: UUID, random: Random) -> None:
        # Of a file, the schema says nothing.
        schema = schema if "properties" in schema or "$ref" in schema else SCHEMAS["NewTask"]
        message.document = self._samples.valid(schema, random)
        for part in (message.document, *message.document.get("items", ())):
            if "id" in part:
                part["id"] = str(self._task(user, random))
            if random.random() < 0.7 and "status" in part:
                # Both may be sent only if they agree.
                part.pop("completed", None)
            if random.random() < 0.7:
                # No task has a version that is drawn from all that there may be.
                part.pop("if_version", None)
        message.body = to_json(message.document)
        message.headers.append((b"Content-Type", random.choice(_TYPES) if message.method == b"PATCH" else _TYPES[0]))
