"""What the writers make of any task: files that a reader of the format understands, with all that it can say."""

import csv
import re
from datetime import UTC, datetime
from io import StringIO
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings

from tests.formats.rows import rows
from todos.formats import icalendar, jsonl, spreadsheet, todotxt

ROW: dict[str, Any] = {
    "id": UUID("ac3bdb50-75e6-4bc7-9c88-92b4dcf8593a"),
    "user_id": UUID("055fcdb6-2179-4226-9200-60ebedb11f2c"),
    "title": "Buy milk",
    "description": None,
    "status": "completed",
    "completed": True,
    "priority": "high",
    "due_date": datetime(2030, 12, 31, 17, tzinfo=UTC),
    "tags": ["errands", "two words"],
    "created_at": datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC),
    "updated_at": datetime(2030, 1, 3, 3, 4, 5, 678, tzinfo=UTC),
    "completed_at": datetime(2030, 1, 3, tzinfo=UTC),
    "version": 1795320897069274,
    "deleted_at": None,
}

pytestmark = pytest.mark.usefixtures("hypothesis_home")
quick = settings(max_examples=50, deadline=None, database=None)


def test_a_task_in_todo_txt() -> None:
    assert todotxt.line_of(ROW).decode() == (
        "x 2030-01-03 2030-01-02 Buy milk +errands +two%20words pri:A due:2030-12-31 due-at:2030-12-31T170000Z "
        "id:ac3bdb50-75e6-4bc7-9c88-92b4dcf8593a\n"
    )


def test_a_task_in_icalendar() -> None:
    row = ROW | {"title": "a;b,c\\d", "description": "one\r\ntwo\x07"}
    assert icalendar.component_of(row).decode().split("\r\n") == [
        "BEGIN:VTODO", "UID:ac3bdb50-75e6-4bc7-9c88-92b4dcf8593a", "DTSTAMP:20300103T030405Z",
        "CREATED:20300102T030405Z", "LAST-MODIFIED:20300103T030405Z", r"SUMMARY:a\;b\,c\\d",
        "DESCRIPTION:one\\ntwo\ufffd", "STATUS:COMPLETED", "COMPLETED:20300103T000000Z", "PRIORITY:1",
        "DUE:20301231T170000Z", "CATEGORIES:errands,two words", "END:VTODO", "",
    ]  # fmt: skip


@quick
@given(row=rows())
def test_todo_txt_is_read_back_as_it_was(row: dict[str, Any]) -> None:
    line = todotxt.line_of(row).decode()
    assert line.count("\n") == 1
    [draft] = todotxt.parsed(line)
    assert draft.key == row["id"]
    values = draft.values
    due = values.get("due_date")
    said = [values["title"], values["tags"], values["priority"], values.get("status", "pending"), values["description"]]
    assert said == [row["title"], row["tags"], row["priority"], row["status"], None]
    assert (due and datetime.fromisoformat(due)) == row["due_date"]


@quick
@given(row=rows())
def test_lines_of_icalendar_are_short_and_have_whole_characters(row: dict[str, Any]) -> None:
    octets = icalendar.component_of(row)
    lines = octets.split(b"\r\n")
    assert max(map(len, lines)) <= 75
    assert all(line.decode().isprintable() or "\t" in line.decode() or not line.isascii() for line in lines)
    assert not re.search(rb"[\x00-\x08\x0b\x0c\x0e-\x1f]", octets)
    unfolded = dict(line.split(":", 1) for line in octets.decode().replace("\r\n ", "").split("\r\n") if line)
    summary = re.sub(r"\\(.)", lambda match: "\n" if match[1] == "n" else match[1], unfolded["SUMMARY"])
    assert summary == re.sub(r"[\x00-\x08\x0b-\x1f\x7f]", "\ufffd", re.sub(r"\r\n?", "\n", row["title"]))


@quick
@given(row=rows())
def test_a_spreadsheet_takes_no_text_for_a_formula_and_loses_none(row: dict[str, Any]) -> None:
    content = (spreadsheet.header(row) + spreadsheet.line_of(row)).decode("utf-8-sig")
    names, cells = csv.reader(StringIO(content, newline=""))
    assert names == list(row)
    assert not any(cell.startswith(("=", "+", "-", "@", "\t", "\r", "\n")) for cell in cells)
    texts = {name: cell.removeprefix("'") for name, cell in zip(names, cells, strict=True)}
    assert texts["title"] == row["title"]
    assert texts["description"] == (row["description"] or "")
    assert texts["tags"].split(",") == (row["tags"] or [""])


@quick
@given(row=rows())
def test_a_line_of_json_has_everything(row: dict[str, Any]) -> None:
    line = jsonl.line_of(row).decode()
    assert line.splitlines(keepends=True) == [line]
    [draft] = jsonl.parsed(line)
    assert draft.key == row["id"]
    assert draft.values.keys() == row.keys() - {"user_id", "version"}
    for name, value in draft.values.items():
        is_time = isinstance(row[name], datetime)
        assert (datetime.fromisoformat(value) if is_time else value) == (str(row[name]) if name == "id" else row[name])
