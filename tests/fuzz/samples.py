"""Values for requests: those that a schema of the contract allows, and those that have broken servers before."""

from collections.abc import Mapping
from random import Random
from typing import Any
from uuid import UUID

type Schema = Mapping[str, Any]

WORDS = ("water", "the", "plants", "Straße", "İstanbul", "日本語", "ice-cream", "ñandú", "🪴", "e\u0301", "a_b", "100%")
TIMESTAMPS = (
    "2030-12-31T17:00:00Z", "2030-12-31T18:00:00.123456+01:00", "2400-02-29T23:59:59z",
    "9999-12-31T23:59:59.999999Z", "0001-01-01T00:00:00Z", "2026-11-24 08:00:00+00:00", "1969-12-31T23:59:59-23:59",
)  # fmt: skip
NOT_TIMESTAMPS = (
    "2030-02-30T00:00:00Z", "0000-01-01T00:00:00Z", "10000-01-01T00:00:00Z", "9999-12-31T23:59:59-01:00",
    "0001-01-01T00:00:00+14:00", "2030-12-31", "1e999", "2030-12-31T24:00:00Z", "2030-12-31T23:59:60Z",
    "2030-12-31T00:00:00+24:00", "20301231T000000Z", "\uff12030-12-31T00:00:00Z", "now", "infinity", "-1-12-31",
)  # fmt: skip
TEXTS = (
    "", " ", "\0", "a\0b", "\ud800", "\udfff\ud800", "\ufeff", "\uffff", "\U0010ffff", "\u202e", "\u2028", "\x85",
    "\x7f", "\x1b[31m", "\r\nX-Injected: yes", "\n", "\t", "\u00a0", "\u200b", "x" * 201, "x" * 1001, "İ" * 6,
    "İ" * 10, "ß" * 11, "🪴" * 200, "e\u0301" * 500, "null", "true", "0", "-0", "-1", "1e999", "NaN", "Infinity",
    "9" * 30, "0x10", "1_000", "٣", "2147483648", "9223372036854775807", "9223372036854775808",
    "18446744073709551616", "'", '"', "\\", "%", "_", "%s", "%(x)s", "{}", "{0}", "$1", "' OR 1=1 --",
    "'; DROP TABLE tasks; --", "{{7*7}}", "${7*7}", "<script>", "../../etc/passwd", "..%2f..", "%00", "%ff", "%",
    "%zz", "%u0041", "+", "&", "=", ";", "#", "?", "/", "//", "@", ":", "*", ",", "[]", "a[]", "Ⅷ", "ﬁ", "\u1e9e",
    "\u0130", "\u0378", "\u0000" * 40,
)  # fmt: skip
IDS = (
    "00000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff", "0" * 32, "{%s}" % ("0" * 32),
    "urn:uuid:00000000-0000-0000-0000-000000000000", "00000000-0000-0000-0000-00000000000", "summary", "tasks", "1",
    "..", "00000000-0000-0000-0000-0000000000000", "0000000g-0000-0000-0000-000000000000",
    "\uff100000000-0000-0000-0000-000000000000",
)  # fmt: skip
"""Odd ids, most of which are not ids."""
TOKENS = (
    b"null", b"true", b"false", b"0", b"-0", b"1", b"-1", b"1.0", b"1e999", b"-1e999", b"1E+2", b"9" * 400,
    b"0.1e-9999", b"NaN", b"Infinity", b"-Infinity", b"undefined", b"01", b"0x10", b"+1", b".5", b"1.", b"''", b'""',
    b"{}", b"[]", b"[null]", b"[[]]", b'{"a":1}', b'["x","X"," x "]', b'["\\u0000"]', b'"\\ud800"',
    b'"\\udc00\\ud800"', b'"\\u0000"', b'"\\x41"', b'"\\u12"', b'"\t"', b'"\n"', b'"\xff"', b'"\xc0\xaf"',
    b'"\xe0\x80\xaf"', b'"\xed\xa0\x80"', b'"\xf4\x90\x80\x80"', b'"\xf0\x82\x82\xac"', b'"\xef\xbb\xbf"',
    b"[" * 200 + b"]" * 200, b"[" * 3000, b'{"a":' * 500 + b"1" + b"}" * 500, b"/**/1", b"1,", b",1", b"1 2", b"",
    b'"', b"\\", b'{"title":1,"title":2}', b"9223372036854775808", b"4e-324",
)  # fmt: skip
"""Bytes in the place of a value in JSON."""


class Samples:
    """Valid values by their schemas, which may refer to the named ones."""

    def __init__(self, named: Mapping[str, Schema]) -> None:
        self._named = named

    def valid(self, schema: Schema, random: Random) -> Any:
        if reference := schema.get("$ref"):
            schema = self._named[reference.rpartition("/")[2]]
        if options := schema.get("anyOf") or schema.get("oneOf"):
            return self.valid(random.choice(options), random)
        if "const" in schema:
            return schema["const"]
        if values := schema.get("enum"):
            return random.choice(values)
        match schema["type"]:
            case "null":
                return None
            case "boolean":
                return random.random() < 0.5
            case "integer":
                return random.randint(schema.get("minimum", 0), schema.get("maximum", 1000))
            case "array":
                count = random.randrange(schema.get("minItems", 0), min(4, schema.get("maxItems", 3) + 1))
                return [self.valid(schema["items"], random) for _ in range(count)]
            case "object":
                return self._object(schema, random)
        return self._text(schema, random)

    def _object(self, schema: Schema, random: Random) -> dict[str, Any]:
        required = schema.get("required", ())
        return {
            name: self.valid(member, random)
            for name, member in schema.get("properties", {}).items()
            if name in required or random.random() < 0.4
        }

    def _text(self, schema: Schema, random: Random) -> str:
        match schema.get("format"):
            case "uuid":
                return str(UUID(int=random.getrandbits(128), version=4))
            case "date-time":
                return random.choice(TIMESTAMPS)
        text = " ".join(random.choices(WORDS, k=random.randint(1, 3)))
        return text[: schema.get("maxLength", 100)].strip() or "x"
