"""todo.txt: a task in a line, as its rules on GitHub (todotxt/todo.txt) say.

What we write has the task's id as `id:`. Only in such a line %XX stands for a character: where a word of a title would
be taken for a part of the format, where a tag has a space, and where a title has a line break. A task of ours always
has a priority and a date before its title, so that the beginning of a title is taken for nothing else.
"""

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from urllib.parse import quote, unquote
from uuid import UUID

from persistence.tasks import TaskRow
from todos.formats.drafts import (
    LINE_MAX,
    LINE_TOO_LONG,
    Draft,
    ForeignTask,
    Repeats,
    lines_of,
    moment_of,
    refused,
    timestamp,
)
from todos.formats.encoding import is_text
from todos.types import is_id

_LETTERS = {"high": "A", "medium": "B", "low": "C"}
_PRIORITIES = {letter: priority for priority, letter in _LETTERS.items()}

_DATE = r"\d{4}-\d\d-\d\d"
_LINE = re.compile(
    rf"(?P<done>x )?\s*(\((?P<priority>[A-Z])\) )?\s*((?P<first>{_DATE}) )?\s*"
    rf"(?(done)((?P<second>{_DATE}) )?)(?P<text>.*)",
    re.ASCII,
)
_KEYS = ("id", "due", "due-at", "pri")
_MARKUP = re.compile(rf"[+@]|(?:{'|'.join(_KEYS)}):")
_ESCAPED = re.compile(r"%(?=[0-9A-Fa-f]{2})")
_SPACE = re.compile(r"(\s+)")


def line_of(row: TaskRow) -> bytes:
    letter = _LETTERS[row["priority"]]
    words = ["x", _date(row["completed_at"])] if row["completed_at"] else [f"({letter})"]
    words += [_date(row["created_at"]), _escaped_title(row["title"])]
    words += [f"+{_escaped(tag)}" for tag in row["tags"]]
    if row["completed_at"]:
        # The format has no priority in parentheses for what is done.
        words.append(f"pri:{letter}")
    if due := row["due_date"]:
        words.append(f"due:{_date(due)}")
        if due.astimezone(UTC).time() != datetime.min.time():
            # Values have no colons.
            words.append(f"due-at:{due.astimezone(UTC).isoformat().replace('+00:00', 'Z').replace(':', '')}")
    return " ".join([*words, f"id:{row['id']}\n"]).encode()


def parsed(text: str) -> Iterator[Draft]:
    repeats = Repeats()
    for number, line in lines_of(text):
        if len(line) > LINE_MAX:
            yield refused(number, LINE_TOO_LONG)
        elif is_text(line):
            yield _parsed_line(number, line, repeats)
        else:
            yield refused(number, "It is not UTF-8")


def _parsed_line(number: int, line: str, repeats: Repeats) -> Draft:
    match = _LINE.fullmatch(line)
    assert match
    words = _SPACE.split(match["text"])
    pairs = {key: value for key, _, value in (word.partition(":") for word in words) if key in _KEYS and value}
    is_ours = is_id(pairs.get("id", ""))
    tags = [word[1:] for word in words if word[0:1] in ("+", "@") and len(word) > 1]
    title = _title(words, pairs)
    if is_ours:
        title, tags = unquote(title), list(map(unquote, tags))
    # A line of nothing but tags is about one of them.
    task = ForeignTask(number, title or match["text"])
    for tag in tags:
        task.tag("Tag", tag)
    letter = match["priority"] or pairs.get("pri")
    if letter and "A" <= letter <= "Z":
        task.set(priority=_PRIORITIES.get(letter, "low"))
    _set_dates(task, bool(match["done"]), match["first"], match["second"])
    exact = moment_of(_with_colons(pairs.get("due-at", "")))
    if exact and _date(exact) == pairs.get("due"):
        # Otherwise somebody has changed the date.
        task.set(due_date=timestamp(exact))
    elif due := pairs.get("due"):
        task.due("Due", due)
    if is_ours:
        task.draft.key = UUID(pairs["id"])
    elif "id" in pairs:
        task.draft.key = f"id\n{pairs['id']}"
    else:
        task.draft.key = repeats.key(line)
    return task.finished()


def _title(words: list[str], pairs: dict[str, str]) -> str:
    """The text without the pairs that are read, and without the tags at its end, as others are parts of a sentence."""
    kept = [word for word in words if not (word.partition(":")[0] in pairs and ":" in word)]
    while kept and (not kept[-1].strip() or (kept[-1][0] in "+@" and len(kept[-1]) > 1)):
        kept.pop()
    return "".join(kept).strip()


def _set_dates(task: ForeignTask, done: bool, first: str | None, second: str | None) -> None:
    """The date of completion stands before that of creation."""
    completed, created = (first, second) if done else (None, first)
    if done:
        task.set(status="completed")
    for name, said in (("completed_at", completed), ("created_at", created)):
        if said and (moment := moment_of(said)):
            task.set(**{name: timestamp(moment)})


def _date(moment: datetime) -> str:
    return f"{moment.astimezone(UTC).date().isoformat()}"


def _with_colons(text: str) -> str:
    return re.sub(r"(T\d\d)(\d\d)(\d\d)", r"\1:\2:\3", text, count=1)


def _escaped_title(title: str) -> str:
    """Spaces of all kinds stay, but the ends of lines do not."""
    pieces = _SPACE.split(_ESCAPED.sub("%25", title))
    return "".join(
        f"%{ord(piece[0]):02X}{piece[1:]}"
        if _MARKUP.match(piece)
        else quote(piece, safe=" \t\u00a0\u3000")
        if piece.isspace()
        else piece
        for piece in pieces
    )


def _escaped(tag: str) -> str:
    return "".join(
        quote(piece, safe="") if piece.isspace() else piece for piece in _SPACE.split(tag.replace("%", "%25"))
    )
