"""Answers in the model, and the choices that it leaves to the server."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from tests.support.contract import Json

_CLOCKS_DIFFER = timedelta(minutes=2)
_LONG_AGO = datetime.min.replace(tzinfo=UTC)
NO_STORE = {"Cache-Control": "no-store"}


@dataclass(frozen=True)
class Answer:
    """`headers` are all of these that the answer has: Cache-Control, ETag, Idempotency-Replayed, Link and Location.

    A problem document is reduced to its kind and the fields that it blames, as the rest is for people.
    """

    status: int
    body: Json | None = None
    headers: Mapping[str, str] = field(default_factory=lambda: NO_STORE)
    problem: str | None = None
    fields: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Choice:
    """The choices of the server, such as ids and times, so far as its answer tells.

    The model takes a choice that the server was free to make, and in place of any other one something possible.
    """

    id: str | None = None
    at: datetime = _LONG_AGO
    version: int = 0
    cursor: str | None = None
    tasks: Mapping[str, "Choice"] = field(default_factory=dict)
    """Those about each of several tasks, by id."""

    def of(self, task_id: str) -> "Choice":
        return self.tasks.get(task_id, Choice())

    @property
    def time(self) -> datetime:
        """The server's time, if it is about now."""
        now = datetime.now(UTC)
        return min(max(self.at, now - _CLOCKS_DIFFER), now + _CLOCKS_DIFFER)


class Refused(Exception):
    """A rule says that the answer is this problem."""

    def __init__(self, status: int, problem: str, *fields: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(problem)
        self.answer = Answer(status, headers=NO_STORE | dict(headers or {}), problem=problem, fields=frozenset(fields))
