"""The forms of lines in the log: JSON whatever is printed, and colours only where they are wanted."""

import json
import logging
import os
import sys

import pytest

from config import logs
from config.env import Env
from server.log_format import JsonFormatter, ReadableFormatter, each_as_json
from server.log_stream import LogStream

RECORD = logging.LogRecord("todos", logging.WARNING, "", 0, "%s happened", ("It",), None)


def test_what_is_printed_becomes_an_object_for_each_line() -> None:
    text = each_as_json('{"time":1}\nTraceback:\n  a line with "quotes" and \udc80\n\n{"time":2}\n')

    first, second, third, last = map(json.loads, text.splitlines())
    assert (first, last) == ({"time": 1}, {"time": 2})
    assert (second["logger"], second["message"]) == ("stderr", "Traceback:")
    assert third["message"] == '  a line with "quotes" and \\udc80'


def test_a_dict_that_is_printed_is_taken_for_no_line_of_ours() -> None:
    for text in ("{'a': 1}\n", '{\n  "a": 1\n}\n'):
        lines = [json.loads(line) for line in each_as_json(text).splitlines()]
        assert [line["message"] for line in lines] == text.splitlines()


def test_lines_that_are_objects_pass_as_they_are() -> None:
    text = '{"time":1}\n{"time":2}\n'

    assert each_as_json(text) is text


def test_a_stream_of_json_writes_nothing_else() -> None:
    read, write = os.pipe()
    stream = LogStream(write, as_json=True)

    stream.write("Error: something\n")
    stream.drain(60)
    os.close(write)

    with os.fdopen(read) as text:
        assert json.loads(text.read())["message"] == "Error: something"


def test_an_event_has_its_ids_only_in_a_request() -> None:
    line = json.loads(JsonFormatter().format(RECORD))
    of_a_request = logging.makeLogRecord(vars(RECORD) | {"request_id": "abc", "trace_id": None})

    assert list(line) == ["time", "level", "logger", "message"]
    assert line["message"] == "It happened"
    assert list(json.loads(JsonFormatter().format(of_a_request))) == [*line, "request_id"]


@pytest.mark.parametrize(
    ("is_terminal", "no_color", "in_colour"), [(True, None, True), (True, "1", False), (False, None, False)]
)
def test_colours_are_for_terminals_unless_they_are_unwanted(
    is_terminal: bool, no_color: str | None, in_colour: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    env = Env(environment="development", database_url="embedded://.postgres-test", no_color=no_color)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: is_terminal, raising=False)

    assert logs.in_colour(env) is in_colour
    assert ("\x1b[33m" in ReadableFormatter(in_colour=in_colour).format(RECORD)) is in_colour
