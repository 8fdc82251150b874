"""`Tasks.json` of Google Takeout: lists of tasks with the fields of Google's Tasks API.

The name of a list becomes a tag. A subtask names the task that it is a part of in its description.
"""

from collections.abc import Iterator
from typing import Any

import orjson

from persistence.models import DESCRIPTION_MAX_LENGTH
from todos.formats.drafts import Draft, ForeignTask, NotThisFormat, refused
from todos.formats.encoding import is_text

MARKS_MAX = 400_000
"""Commas and opening brackets of one file, as in `web/strict_json.py`: each stands for a value, which takes memory."""

NAMES_SHOWN = 200
"""Characters of the names of fields that are not known, as there may be many, and long ones."""

_STATUSES = {"needsAction": "pending", "completed": "completed"}
_READ = ("title", "notes", "status", "due", "completed", "created", "updated", "parent", "deleted", "links")
_OF_THE_SOURCE = ("kind", "id", "etag", "selfLink", "webViewLink", "position", "hidden", "task_type")
"""Fields that say nothing of the task itself: `hidden` are completed tasks that are no longer shown."""


def parsed(text: str) -> Iterator[Draft | None]:
    """Numbers the tasks. Raises `NotThisFormat` if there are no lists of tasks. None stands for a list, maybe empty."""
    document = _document(text)
    lists = document.get("items") if isinstance(document, dict) else None
    if not isinstance(lists, list) or document.get("kind") != "tasks#taskLists":
        raise NotThisFormat(
            'This is not Tasks.json of Google Takeout: it has no `"kind": "tasks#taskLists"` with `items`.'
        )
    number = 0
    for each in lists:
        yield None
        tasks = each.get("items", []) if isinstance(each, dict) else None
        if not isinstance(tasks, list):
            number += 1
            yield refused(number, "A list of tasks is expected")
            continue
        titles = {
            task.get("id"): task.get("title") for task in tasks if isinstance(task, dict) and _is_id(task.get("id"))
        }
        for task in tasks:
            number += 1
            yield _parsed_task(number, task, each.get("title"), titles)


def _document(text: str) -> Any:
    if sum(map(text.count, ",[{")) > MARKS_MAX:
        raise NotThisFormat(f"It has more than {MARKS_MAX:,} commas and opening brackets. Send it in parts.")
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        reason = f"{error.msg} at line {error.lineno}, column {error.colno}" if is_text(text) else "it is not UTF-8"
        raise NotThisFormat(f"This is not JSON: {reason}.") from None


def _is_id(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


def _parsed_task(number: int, values: Any, list_title: Any, titles: dict[Any, Any]) -> Draft:
    if not isinstance(values, dict):
        return refused(number, "A JSON object is expected")
    texts = {name: value for name, value in values.items() if isinstance(value, str)}
    title = texts.get("title", "")
    if not _is_id(values.get("id")):
        return refused(number, "It has no id", title)
    if values.get("deleted") is True:
        return refused(number, "It is deleted there", title)
    if texts.get("status") not in _STATUSES:
        return refused(number, "Its status is neither needsAction nor completed", title)
    task = ForeignTask(number, title, texts.get("notes"))
    task.draft.key = texts["id"]
    task.set(status=_STATUSES[texts["status"]])
    if isinstance(list_title, str) and list_title.strip():
        task.tag("List", list_title)
    if parent := texts.get("parent"):
        task.describe("Part of", str(titles.get(parent) or parent))
    if due := texts.get("due"):
        task.due("Due", due)
    for link in _links(values.get("links")):
        task.describe("Link", link)
    for name, field in (("created", "created_at"), ("updated", "updated_at"), ("completed", "completed_at")):
        # A task that was reopened may still have the time at which it was completed.
        if name in texts and (name != "completed" or texts["status"] == "completed"):
            task.set(**{field: texts[name]})
    if others := sorted(values.keys() - {*_READ, *_OF_THE_SOURCE}):
        names = ", ".join(others)
        task.note(f"Not imported: {names if len(names) <= NAMES_SHOWN else f'{names[:NAMES_SHOWN]}…'}")
    return task.finished()


def _links(links: Any) -> Iterator[str]:
    # Each takes a character of a description, at least.
    for link in links[: DESCRIPTION_MAX_LENGTH + 1] if isinstance(links, list) else ():
        if isinstance(link, dict) and isinstance(address := link.get("link"), str):
            description = link.get("description")
            yield f"{description} {address}" if isinstance(description, str) and description else address
