"""What the parsers make of files of other programs, written after the documentation of their formats."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from todos.formats import google_tasks, jsonl, todoist, todotxt
from todos.formats.drafts import Draft, NotThisFormat
from todos.formats.encoding import check_size, decoded

FIXTURES = Path(__file__).parent / "fixtures"


def read(name: str) -> str:
    return decoded((FIXTURES / name).read_bytes())


def drafts_of(parsed: Iterator[Draft | None]) -> list[Draft]:
    return [draft for draft in parsed if draft]


def values_of(draft: Draft, *names: str) -> list[Any]:
    return [draft.values.get(name) for name in names]


def todoist_rows(*rows: str, header: str = "TYPE,CONTENT,DESCRIPTION,PRIORITY,INDENT,DATE,TIMEZONE") -> list[Draft]:
    return drafts_of(todoist.parsed("\r\n".join((header, *rows))))


def test_it_reads_a_project_of_todoist() -> None:
    passport, photos, water, seeds = drafts_of(todoist.parsed(read("todoist.csv")))

    assert [passport.line, photos.line, water.line, seeds.line] == [2, 4, 7, 8]
    assert values_of(passport, "title", "priority", "due_date", "tags") == [
        "Renew passport", "high", "2031-03-04T00:00:00+00:00", ["errands", "government"],
    ]  # fmt: skip
    assert passport.values["description"] == "Bring two photos\nComment: The office opens at eight"
    # Half past five in Berlin.
    assert values_of(photos, "title", "priority", "due_date") == ["Photos", "medium", "2031-03-01T16:30:00+00:00"]
    assert photos.values["description"] == "Part of: Renew passport\nResponsible: Noor (1002)\nDuration: 30 minute"
    assert values_of(water, "title", "priority", "due_date", "tags") == [
        "Water the beds, all of them", "low", None, ["garden"],
    ]  # fmt: skip
    assert water.values["description"] == "Date: every other day"
    assert water.notes == ["Date is in the description"]
    assert values_of(seeds, "due_date", "tags") == ["2031-02-14T00:00:00+00:00", ["garden", "shop"]]


@pytest.mark.parametrize("delimiter", [";", "\t"])
def test_it_reads_what_a_spreadsheet_makes_of_it(delimiter: str) -> None:
    header, row = "TYPE,CONTENT,PRIORITY".replace(",", delimiter), f"task{delimiter}Buy milk{delimiter}1"
    text = decoded(f"\ufeff{header}\r\n{row}\r\n".encode("utf-16-le"))
    [draft] = drafts_of(todoist.parsed(text))
    assert values_of(draft, "title", "priority") == ["Buy milk", "high"]


def test_a_label_that_cannot_be_a_tag_is_described() -> None:
    [draft] = todoist_rows("task,Call @waiting_for_answer,,,,,")
    assert values_of(draft, "title", "tags", "description") == ["Call", [], "Label: waiting_for_answer"]


def test_a_long_title_is_whole_in_the_description() -> None:
    title = "A" * 201
    [draft] = todoist_rows(f"task,{title},,,,,")
    assert draft.values["description"] == title
    assert draft.values["title"] == "A" * 199 + "…"
    assert len(draft.notes) == 1


def test_a_time_without_a_known_zone_is_taken_for_utc_with_a_note() -> None:
    [draft] = todoist_rows("task,Call,,,,2031-03-01 17:30,Nowhere/Land")
    assert draft.values["due_date"] == "2031-03-01T17:30:00+00:00"
    assert len(draft.notes) == 1


def test_a_bad_row_of_todoist_does_not_stop_the_others() -> None:
    drafts = todoist_rows("note,Alone,,,,,", "thing,Odd,,,,,", "task,caf\udce9,,,,,", "task,Fine,,,,,")
    assert [(draft.line, bool(draft.errors)) for draft in drafts] == [(2, True), (3, True), (4, True), (5, False)]


def test_a_quote_that_does_not_end_does_not_stop_the_others() -> None:
    drafts = todoist_rows('task,"' + "endless\n" * 20_000 + "\ntask,Fine,,,,,")
    assert [draft.title for draft in drafts if not draft.errors] == ["Fine"]


def test_equal_rows_of_todoist_have_keys_of_their_own_and_the_same_ones_again() -> None:
    rows = ["task,Water,,1,1,,", "task,Water,,1,1,,", "section,Garden,,,,,", "task,Water,,1,1,,"]
    keys = [draft.key for draft in todoist_rows(*rows)]
    assert len(set(keys)) == 3
    assert keys == [draft.key for draft in todoist_rows(*rows)]


@pytest.mark.parametrize("text", ["", "title,due\nBuy milk,\n", "TYPE,TEXT\ntask,Buy milk\n"])
def test_it_refuses_csv_that_is_not_todoists(text: str) -> None:
    with pytest.raises(NotThisFormat, match="CONTENT"):
        list(todoist.parsed(text))


def test_it_refuses_a_table_that_takes_long_to_read() -> None:
    with pytest.raises(NotThisFormat, match="more than 400,000 cells"):
        list(todoist.parsed("TYPE,CONTENT\n" + "," * 400_000))


def test_a_task_with_too_many_tags_is_refused_and_repeated_ones_do_not_count() -> None:
    words = " ".join(f"+t{n}" for n in range(101))
    many, repeated = todotxt.parsed(f"Many {words}\nRepeated {'+a ' * 1000}")
    assert many.errors == [{"field": "tags", "detail": "It has more than 100 tags"}]
    assert (repeated.errors, repeated.values["tags"]) == ([], ["a"])


def test_it_reads_googles_tasks() -> None:
    paint, tape, sail, gone, nameless = drafts_of(google_tasks.parsed(read("Tasks.json")))

    assert paint.key == "VGFzazE"
    assert values_of(paint, "title", "status", "due_date", "created_at", "updated_at", "tags") == [
        "Paint the hall", "pending", "2031-04-01T00:00:00+00:00", "2031-01-02T08:15:30Z", "2031-01-03T10:00:00.500Z",
        ["house"],
    ]  # fmt: skip
    assert paint.values["description"] == "Two coats\nLink: The offer https://mail.example/1"
    assert values_of(tape, "status", "completed_at") == ["completed", "2031-01-05T18:00:00Z"]
    assert tape.values["description"] == "Part of: Paint the hall"
    assert "Not imported: scheduled_time" in tape.notes
    assert values_of(sail, "tags", "description") == [[], "List: Long-term plans"]
    assert gone.errors[0]["detail"] == "It is deleted there"
    assert nameless.errors[0]["detail"] == "It has no id"


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"kind": "tasks#taskLists"}', "[" * 2_000, '{"items": [{}]}', "\udce9", ",[" * 600_000]
)
def test_it_refuses_json_that_is_not_googles(text: str) -> None:
    with pytest.raises(NotThisFormat):
        list(google_tasks.parsed(text))


@pytest.mark.parametrize("task", ["1", '{"id": 7}', '{"id": "a", "status": "odd"}', '{"id": "a", "title": 1}'])
def test_a_bad_task_of_google_does_not_stop_the_others(task: str) -> None:
    fine = '{"id": "b", "title": "Fine", "status": "needsAction", "links": [1], "notes": 5}'
    text = f'{{"kind": "tasks#taskLists", "items": [3, {{"items": 5}}, {{"items": [{task}, {fine}]}}]}}'
    drafts = drafts_of(google_tasks.parsed(text))
    assert [bool(draft.errors) for draft in drafts] == [True, True, True, False]


def test_names_of_a_foreign_file_are_shown_up_to_a_limit() -> None:
    task = json.dumps({"id": "a", "title": "A", "status": "needsAction", "name" * 10_000: 1})
    [draft] = drafts_of(google_tasks.parsed(f'{{"kind": "tasks#taskLists", "items": [{{"items": [{task}]}}]}}'))
    assert draft.notes == [f"Not imported: {'name' * 50}…"]


def test_it_reads_todo_txt() -> None:
    plumber, rent, plain, far, tomorrow, done = todotxt.parsed(read("todo.txt"))

    assert values_of(plumber, "title", "priority", "created_at", "due_date", "tags") == [
        "Call the plumber about the +kitchen tap", "high", "2031-01-02T00:00:00+00:00", "2031-02-03T00:00:00+00:00",
        ["kitchen", "phone"],
    ]  # fmt: skip
    assert values_of(rent, "title", "status", "completed_at", "created_at", "priority", "tags") == [
        "Pay the rent", "completed", "2031-01-05T00:00:00+00:00", "2031-01-01T00:00:00+00:00", "medium", ["flat"],
    ]  # fmt: skip
    assert values_of(plain, "title", "priority") == ["Plain words with http://example.com/%20a and 10:30", None]
    assert values_of(far, "title", "priority", "description") == ["Some day", "low", "Tag: somewhere-far-away"]
    assert tomorrow.values["description"] == "Tag: somewhere-far-away\nDue: tomorrow"
    assert values_of(done, "title", "status", "completed_at") == ["Done without dates", "completed", None]
    assert [draft.line for draft in (plumber, rent, plain)] == [1, 2, 4]


def test_bad_lines_do_not_stop_the_others() -> None:
    text = decoded(b'{"title": "Fine"}\r\n{"title": \n"text"\n\n{"title": "caf\xe9"}\n{"title": "Fine"}')
    drafts = list(jsonl.parsed(text))
    assert [(draft.line, bool(draft.errors)) for draft in drafts] == [
        (1, False), (2, True), (3, True), (5, True), (6, False),
    ]  # fmt: skip
    assert drafts[3].errors[0]["detail"] == "It is not UTF-8"
    assert len({drafts[0].key, drafts[-1].key}) == 2


def test_an_object_with_many_members_is_refused_without_a_fault_for_each() -> None:
    [draft] = jsonl.parsed(json.dumps(dict.fromkeys(map(str, range(51)))))
    assert draft.errors == [{"field": "line", "detail": "It has more than 50 members"}]


def test_an_id_of_null_is_none() -> None:
    first, second = jsonl.parsed('{"id": null, "title": "A"}\n{"id": null, "title": "B"}')
    assert first.key != second.key


@pytest.mark.parametrize("parser", [jsonl, todotxt])
def test_a_line_that_is_too_long_for_a_task_does_not_stop_the_others(parser: Any) -> None:
    long, fine = parser.parsed("a " * 10_001 + '\n{"title":"Fine"}')
    assert long.errors[0]["detail"] == "It has more than 20,000 characters"
    assert fine.errors == []


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("\ufeffTask".encode("utf-16-le") + b"x", "byte"),
        ("Task".encode("utf-16-le"), "NUL"),
        (b"\n" * 100_001, "lines"),
        (b"\r" * 100_001, "lines"),
        (b"a " * 2_000_001, "words"),
    ],
)
def test_it_refuses_files_that_are_not_text_or_take_long(content: bytes, reason: str) -> None:
    with pytest.raises(NotThisFormat, match=reason):
        check_size(decoded(content))
