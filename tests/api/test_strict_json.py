"""JSON as RFC 8259 has it, and no more."""

from typing import Any

import pytest

from todos.errors import InvalidInput
from web.problems import MalformedJson
from web.strict_json import MARKS_MAX, MEMBERS_MAX, parse


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
        (b"[18446744073709551616, -9223372036854775808]", [2**64, -(2**63)]),
        (b"[1e308, 1e-400]", [1e308, 0.0]),
        (b"[[[[[[[[[[1]]]]]]]]]]", [[[[[[[[[[1]]]]]]]]]]),
    ],
)
def test_it_reads_json(body: bytes, value: Any) -> None:
    assert parse(body) == value


def test_it_reads_as_many_values_and_names_as_it_says_and_no_more() -> None:
    assert parse(b"[" + b"1," * (MARKS_MAX - 1) + b"1]") == [1] * MARKS_MAX
    assert len(parse(_object(MEMBERS_MAX))) == MEMBERS_MAX

    for body in (b"[" + b"1," * MARKS_MAX + b"1]", b"[" * 60_000, b'{"a":' * 10_000, b'"%s"' % (b"," * 5_001)):
        with pytest.raises(InvalidInput) as refusal:
            parse(body)
        assert "more than 5,000 commas and opening brackets" in refusal.value.errors[0]["detail"]
    for body in (_object(MEMBERS_MAX + 1), b"[%s]" % _object(4_000)):
        with pytest.raises(InvalidInput) as refusal:
            parse(body)
        assert "more than 50 members" in refusal.value.errors[0]["detail"]


def _object(members: int) -> bytes:
    return b"{%s}" % b",".join(b'"%d":1' % number for number in range(members))


_NAMES = [f"{number:x}" for number in range(4000)]
REFUSED: dict[str, list[bytes]] = {
    "line 1, column 1": [b""],
    "line 1, column 2": [b" ", b"{"],
    "line 1, column 3": [b"1 2"],
    "line 3, column 1": [b'{\n  "a":\n}'],
    "line 1": [
        b"nul", b"True", b"'a'", b"{a: 1}", b'{"a": 1,}', b"[1,]", b"[1 2]", b"// c\n1", b"{} {}", b"01", b"+1", b".5",
        b"1.", b"0x10", b'"a\nb"', b'"\\x41"', b'"\\u12"', b'"open', b"\x00", b"\x0c1", b"\xc2\xa01",
    ],
    "BOM": [b"\xef\xbb\xbf{}"],
    "UTF-8: byte 0": [b"\xff\xfe1\x00", "1".encode("utf-16")],
    "UTF-8: byte 1": [b'"\xff"', b'"\xed\xa0\x80"', b'"\xc0\x80"'],
    "NaN": [b"NaN"],
    "Infinity": [b"[-Infinity]", b'{"a": Infinity}'],
    "too large": [b"1e999", b"-1e999", b"1" + b"0" * 400 + b".0", b"9" * 5000, b"-" + b"9" * 20],
    '"a" appears twice': [
        b'{"a": 1, "a": 1}', b'{"x": [{"a": 1, "b": 2, "a": 3}]}', b'{"a": 1, "\\u0061": 2}',
        ("{" + ",".join(f'"{name}":1' for name in [*_NAMES, "a"]) + "}").encode(),
    ],
    "appears twice": [b'{"\\ud800": 1, "\\ud800": 2}'],
}  # fmt: skip
"""The bodies that are refused, by the reason that the answer names."""


@pytest.mark.parametrize("reason", REFUSED)
def test_it_refuses_everything_else_and_says_where(reason: str) -> None:
    for body in REFUSED[reason]:
        with pytest.raises(MalformedJson) as refusal:
            parse(body)
        assert reason in refusal.value.detail
