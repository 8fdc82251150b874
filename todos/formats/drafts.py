"""Tasks as files have them, before their values are checked.

A parser says what it has done besides copying, in notes: nothing of a file is dropped without a word. What a task here
has no place for goes into its description.
"""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from pydantic import TypeAdapter, ValidationError

from persistence.models import DESCRIPTION_MAX_LENGTH, TAGS_MAX_COUNT, TITLE_MAX_LENGTH
from todos.errors import FieldError
from todos.text import trimmed
from todos.types import TAGS_SENT_MAX, Tag

_TAG = TypeAdapter[str](Tag)
_DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_DATE_AND_TIME = re.compile(r"(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d(?::\d\d(?:\.\d{1,6})?)?)(Z|[+-]\d\d:?\d\d)?", re.ASCII)


LINE_MAX = 20_000
"""Characters of a line of one task: enough for the longest texts, if each character is written as two `\\u1234`."""
LINE_TOO_LONG = f"It has more than {LINE_MAX:,} characters"


class NotThisFormat(Exception):
    """The file as a whole cannot be read as what it is said to be. The text tells why, and how to mend it."""


@dataclass
class Draft:
    """One task of a file."""

    line: int
    """Where it begins; in JSON its number."""
    key: UUID | str = ""
    """Tells it from all others of its source: its id here, or a text from which one is made."""
    values: dict[str, Any] = field(default_factory=dict)
    """As a client would send them."""
    notes: list[str] = field(default_factory=list)
    errors: list[FieldError] = field(default_factory=list)
    """Why it cannot be imported."""

    @property
    def title(self) -> str:
        title = self.values.get("title")
        return title if isinstance(title, str) else ""


def refused(line: int, detail: str, title: str = "") -> Draft:
    return Draft(line, values={"title": title}, errors=[{"field": "line", "detail": detail}])


class ForeignTask:
    """Collects a task of another program."""

    def __init__(self, line: int, title: str, description: str | None = None) -> None:
        self.draft = Draft(line)
        self._title = trimmed(title)
        self._tags: list[str] = []
        self._seen = set[str]()
        self._paragraphs = [description] if description else []

    def set(self, **values: Any) -> None:
        self.draft.values |= values

    def note(self, text: str) -> None:
        self.draft.notes.append(text)

    def describe(self, name: str, value: str) -> None:
        """Puts a value into the description for which a task here has no field."""
        if len(self._paragraphs) > DESCRIPTION_MAX_LENGTH:
            # It is too long already.
            return
        self._paragraphs.append(f"{name}: {value}")
        self.note(f"{name} is in the description")

    def tag(self, name: str, value: str) -> None:
        """Adds a tag, or describes what cannot be one."""
        if value in self._seen or len(self._seen) > TAGS_SENT_MAX:
            return
        self._seen.add(value)
        if len(self._seen) > TAGS_SENT_MAX:
            self.draft.errors.append({"field": "tags", "detail": f"It has more than {TAGS_SENT_MAX} tags"})
            return
        try:
            tag = _TAG.validate_python(value)
        except ValidationError:
            self.describe(name, value)
            return
        if tag in self._tags:
            return
        if len(self._tags) >= TAGS_MAX_COUNT:
            self.describe(name, value)
        else:
            self._tags.append(tag)

    def due(self, name: str, value: str, zone: str = "") -> None:
        """Sets the due date if it is a clear one, or else describes it."""
        moment = moment_of(value)
        if moment is None:
            self.describe(name, value)
            return
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=_zone(zone))
            if moment.tzinfo is UTC and not _DATE.fullmatch(value):
                self.note(f"{name} has no time zone that is known here, so that it is taken for UTC")
        self.set(due_date=timestamp(moment))

    def finished(self) -> Draft:
        title = self._title
        if len(title) > TITLE_MAX_LENGTH:
            self._paragraphs.insert(0, title)
            self.note(f"A title has at most {TITLE_MAX_LENGTH} characters, so that the whole one is in the description")
            title = title[: TITLE_MAX_LENGTH - 1].rstrip() + "…"
        self.set(title=title, description="\n".join(self._paragraphs) or None, tags=self._tags)
        return self.draft


class Repeats:
    """Tells equal tasks of a file apart that have no ids, by their number."""

    def __init__(self) -> None:
        self._seen = Counter[str]()

    def key(self, *parts: str) -> str:
        content = "\n".join(part.replace("\\", "\\\\").replace("\n", "\\n") for part in parts)
        self._seen[content] += 1
        return f"{self._seen[content]}\n{content}"


def moment_of(text: str) -> datetime | None:
    """The moment, if the text is a date, which means midnight UTC, or a date and a time of ISO 8601."""
    try:
        if _DATE.fullmatch(text):
            return datetime.fromisoformat(text).replace(tzinfo=UTC)
        if match := _DATE_AND_TIME.fullmatch(text):
            return datetime.fromisoformat("T".join(match.group(1, 2)) + (match[3] or ""))
    except ValueError:
        pass
    return None


def timestamp(moment: datetime) -> str:
    """As a client would send it."""
    try:
        return moment.astimezone(UTC).isoformat()
    except OverflowError:
        # The check of the value says that there is no such time.
        return moment.isoformat()


def _zone(name: str) -> Any:
    try:
        return ZoneInfo(name) if name else UTC
    except (KeyError, ValueError, OSError):
        return UTC


def lines_of(text: str) -> Iterable[tuple[int, str]]:
    """The lines that are not blank, with their numbers; only what ends a line in a file ends one here.

    A line that is too long for any task comes cut, so that it does not take long to refuse.
    """
    for number, line in enumerate(text.split("\n"), 1):
        if stripped := line.removesuffix("\r").strip(" \t"):
            yield number, stripped[: LINE_MAX + 1]
