"""Todoist's CSV of a project, as Todoist's help page about importing and exporting it describes it.

A section and a label become tags. A comment and what else a task here has no field for go into the description.
"""

import csv
from collections.abc import Iterator
from io import StringIO

from todos.formats.drafts import Draft, ForeignTask, NotThisFormat, Repeats, moment_of, refused
from todos.formats.encoding import is_text

_DELIMITERS = ",;\t"
"""Spreadsheets write what the language of their user asks for."""
CELLS_MAX = 400_000
"""A body of nothing but commas would take long to read."""
_PRIORITIES = {"1": "high", "2": "medium", "3": "medium", "4": "low"}
_DESCRIBED = {"RESPONSIBLE": "Responsible", "DURATION": "Duration"}
_IGNORED = ("", "meta")
"""Types of rows that say nothing of a task: blank ones, and how the project is shown."""


def parsed(text: str) -> Iterator[Draft | None]:
    """Raises `NotThisFormat` if there are no columns TYPE and CONTENT. None stands for a row, which may be no task."""
    delimiter = _delimiter(text)
    if text.count(delimiter) > CELLS_MAX:
        raise NotThisFormat(f"It has more than {CELLS_MAX:,} cells. Send it in parts.")
    reader = csv.reader(StringIO(text, newline=""), delimiter=delimiter)
    columns = [name.strip().upper() for name in next(reader, [])]
    if missing := {"TYPE", "CONTENT"} - set(columns):
        raise NotThisFormat(
            f"This is not Todoist's CSV: the first line has no column {' and no column '.join(sorted(missing))}."
        )
    project = _Project()
    while True:
        line = reader.line_num + 1
        try:
            row = next(reader)
        except StopIteration:
            break
        except csv.Error as error:
            yield refused(line, f"It is not CSV: {error}")
            continue
        # Cells beyond the header have no meaning.
        cells = dict(zip(columns, map(str.strip, row), strict=False))
        if not is_text("".join(row)):
            yield refused(line, "It is not UTF-8", cells.get("CONTENT", ""))
        else:
            yield from project.read(line, cells)
        yield None
    yield from project.end()


def _is_label(word: str) -> bool:
    return len(word) > 1 and word.startswith("@")


def _delimiter(text: str) -> str:
    header = text.partition("\n")[0]
    return max(_DELIMITERS, key=header.count)


class _Project:
    """Reads row by row; a task is complete when the next one begins, as its comments follow it."""

    def __init__(self) -> None:
        self._section = ""
        self._parents: list[str] = []
        self._task: ForeignTask | None = None
        self._repeats = Repeats()

    def read(self, line: int, cells: dict[str, str]) -> Iterator[Draft]:
        content = cells.get("CONTENT", "")
        match cells.get("TYPE", "").lower():
            case "task":
                yield from self.end()
                self._begin(line, cells)
            case "section":
                yield from self.end()
                self._section, self._parents = content, []
            case "note" if self._task:
                self._task.describe("Comment", content)
            case "note":
                yield refused(line, "It is a note, and there is no task above it", content)
            case kind if kind not in _IGNORED:
                yield refused(line, "TYPE is task, section or note", content)

    def end(self) -> Iterator[Draft]:
        if self._task:
            yield self._task.finished()
            self._task = None

    def _begin(self, line: int, cells: dict[str, str]) -> None:
        words = cells.get("CONTENT", "").split(" ")
        labels = [word for word in words if _is_label(word)]
        title = " ".join(word for word in words if not _is_label(word))
        task = self._task = ForeignTask(line, title, cells.get("DESCRIPTION"))
        indent = cells.get("INDENT", "")
        del self._parents[int(indent) - 1 if indent.isdecimal() and int(indent) else 0 :]
        parent = self._parents[-1] if self._parents else ""
        # Without priority, author and the like, which differ more often between two exports of one task.
        date = cells.get("DATE", "")
        task.draft.key = self._repeats.key(
            self._section, parent, cells.get("CONTENT", ""), cells.get("DESCRIPTION", ""), date
        )
        if self._section:
            task.tag("Section", self._section)
        for label in labels:
            task.tag("Label", label[1:])
        if parent:
            task.describe("Part of", parent)
        self._parents.append(title.strip())
        if priority := cells.get("PRIORITY"):
            if priority in _PRIORITIES:
                task.set(priority=_PRIORITIES[priority])
            else:
                task.describe("Priority", priority)
        zone, deadline = cells.get("TIMEZONE", ""), cells.get("DEADLINE", "")
        if date:
            task.due("Date", date, zone)
        if deadline and not date and moment_of(deadline):
            task.due("Deadline", deadline, zone)
        elif deadline:
            task.describe("Deadline", deadline)
        for column, name in _DESCRIBED.items():
            if value := cells.get(column):
                task.describe(name, f"{value} {cells.get(f'{column}_UNIT', '')}".strip())
