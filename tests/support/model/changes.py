"""The feed of changes in the model, and a client that keeps a copy by it."""

from dataclasses import dataclass, field
from typing import Any

from tests.support.contract import Json
from tests.support.model.answers import NO_STORE, Answer, Choice, Refused
from tests.support.model.lists import Query, page_of
from tests.support.model.refusals import answering, refuse_faults
from tests.support.model.state import State
from tests.support.model.values import faults, uuid


@dataclass(frozen=True)
class Feed:
    """The feed that a cursor belongs to."""

    user: str


@dataclass(frozen=True)
class Seen:
    """The last task that a client has seen, and the revision of its owner when it began."""

    version: int
    id: str
    since: int


class ChangeOperations(State):
    @answering
    def list_changes(self, user: str, query: Query, choice: Choice) -> Answer:
        """What has changed since the cursor: live tasks, and what was deleted after the client began."""
        parameters = page_of(query)
        refuse_faults(faults("user_id", uuid, user))
        feed = Feed(uuid(user))
        seen = Seen(0, "", self.revisions.get(feed.user, 0))
        if "cursor" in parameters:
            seen = self.position(parameters["cursor"], feed)
            if 0 < max(seen.since, seen.version) < self.horizons.get(feed.user, 0):
                raise Refused(410, "changes-gone")
        changed = sorted(
            (task for task in self.of(feed.user) if task.is_live or task.version > seen.since),
            key=lambda task: (task.version, task.key[1]),
        )
        news = [task for task in changed if (task.version, task.key[1]) > (seen.version, seen.id)]
        size = parameters["limit"]
        items = news[:size]
        if items:
            seen = Seen(items[-1].version, items[-1].key[1], seen.since)
        cursor = self.point_at(choice.cursor or "a cursor", feed, seen)
        body = {
            "items": [task.shown_as_change() for task in items], "next_cursor": cursor, "more": len(news) > size,
        }  # fmt: skip
        return Answer(200, body, NO_STORE)


@dataclass
class Reader:
    """A client that keeps a copy of a user's tasks, and remembers what the copy was at each place of the feed."""

    user: str
    cursor: str | None = None
    copy: dict[str, Json] = field(default_factory=dict)
    places: list[tuple[str | None, dict[str, Json]]] = field(default_factory=lambda: [(None, {})])

    def go_back(self, number: int) -> None:
        self.cursor, copy = self.places[number % len(self.places)]
        self.copy = dict(copy)

    def start_anew(self) -> None:
        """After 410: nothing that is known counts any more."""
        self.cursor, self.copy, self.places = None, {}, [(None, {})]

    def read(self, page: Json) -> bool:
        """Returns True when there is more to read."""
        for item in page["items"]:
            task: dict[str, Any] = {name: value for name, value in item.items() if name not in ("deleted_at", "erased")}
            if item["deleted_at"] is None:
                self.copy[task["id"]] = task
            else:
                self.copy.pop(task["id"], None)
        self.cursor = page["next_cursor"]
        self.places.append((self.cursor, dict(self.copy)))
        return bool(page["more"])
