"""JSON as RFC 8259 has it, and no more."""

from time import perf_counter
from typing import Any

import pytest

from web.problems import MalformedJson
from web.strict_json import parse


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (b"null", None),
        (b" \t\r\n true \n", True),
        (b'{"a": {"b": [1, 2.5, -0, "x"]}}', {"a": {"b": [1, 2.5, 0, "x"]}}),
        (b'{"a": {"a": 1}, "b": {"a": 1}}', {"a": {"a": 1}, "b": {"a": 1}}),
        (b'{"a": 1, "A": 2, "": 3}', {"a": 1, "A": 2, "": 3}),
        ('"\u00e9\U0001f600"'.encode(), "\u00e9\U0001f600"),
        (b'"\\ud83d\\ude00"', "\U0001f600"),
        (b'"\\u0000"', "\0"),
        (b'"\\ud800"', "\ud800"),
        (b"18446744073709551616", 2**64),
        (b"-9223372036854775808", -(2**63)),
        (b"1e308", 1e308),
        (b"1e-400", 0.0),
        (b"[" * 100 + b"]" * 100, None),
    ],
)
def test_it_reads_json(body: bytes, value: Any) -> None:
    assert parse(body) == value or value is None


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "line 1, column 1"),
        (b" ", "line 1, column 2"),
        (b"{", "line 1, column 2"),
        (b'{\n  "a":\n}', "line 3, column 1"),
        (b"nul", "line 1"),
        (b"True", "line 1"),
        (b"'a'", "line 1"),
        (b"{a: 1}", "line 1"),
        (b'{"a": 1,}', "line 1"),
        (b"[1,]", "line 1"),
        (b"[1 2]", "line 1"),
        (b"// c\n1", "line 1"),
        (b"1 2", "line 1, column 3"),
        (b"{} {}", "line 1"),
        (b"01", "line 1"),
        (b"+1", "line 1"),
        (b".5", "line 1"),
        (b"1.", "line 1"),
        (b"0x10", "line 1"),
        (b'"a\nb"', "line 1"),
        (b'"\\x41"', "line 1"),
        (b'"\\u12"', "line 1"),
        (b'"open', "line 1"),
        (b"\x00", "line 1"),
        (b"\x0c1", "line 1"),
        (b"\xc2\xa01", "line 1"),
        (b"\xef\xbb\xbf{}", "BOM"),
        (b"\xff\xfe1\x00", "UTF-8: byte 0"),
        (b'"\xff"', "UTF-8: byte 1"),
        (b'"\xed\xa0\x80"', "UTF-8: byte 1"),
        (b'"\xc0\x80"', "UTF-8: byte 1"),
        ("1".encode("utf-16"), "UTF-8"),
        (b"NaN", "NaN"),
        (b"[-Infinity]", "Infinity"),
        (b'{"a": Infinity}', "Infinity"),
        (b"1e999", "too large"),
        (b"-1e999", "too large"),
        (b"1" + b"0" * 400 + b".0", "too large"),
        (b"9" * 5000, "too large"),
        (b"-" + b"9" * 20, "too large"),
        (b'{"a": 1, "a": 1}', '"a" appears twice'),
        (b'{"x": [{"a": 1, "b": 2, "a": 3}]}', '"a" appears twice'),
        (b'{"a": 1, "\\u0061": 2}', '"a" appears twice'),
        (b'{"\\ud800": 1, "\\ud800": 2}', "appears twice"),
        (b"[" * 60_000, "nested"),
        (b'{"a":' * 10_000, "nested"),
        (b"[" * 30_000 + b"]" * 30_000, "nested"),
    ],
    ids=lambda value: ascii(value)[:30],
)
def test_it_refuses_everything_else_and_says_where(body: bytes, reason: str) -> None:
    with pytest.raises(MalformedJson) as refusal:
        parse(body)

    assert reason in refusal.value.detail


def test_a_name_that_appears_twice_among_thousands_is_found_soon() -> None:
    names = [f"{number:x}" for number in range(7000)]
    body = "{" + ",".join(f'"{name}":1' for name in [*names, names[-1]]) + "}"
    assert len(body) < 65_536

    started = perf_counter()
    with pytest.raises(MalformedJson):
        parse(body.encode())

    assert perf_counter() - started < 1
