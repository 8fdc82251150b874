"""docs/requirements.md is complete, and every file that it names exists."""

import re
from collections import Counter
from collections.abc import Iterator

from tests.support.servers import ROOT

TABLE = ROOT / "docs/requirements.md"

COUNTS: dict[str, int | tuple[int, ...]] = {
    "D": 30, "M": 11, "Q": 16,
    "S0-FR": 8, "S0-SC": 6, "S0-EC": 3, "S0-US": (2, 2, 2),
    "S1-FR": 12, "S1-NFR": 5, "S1-SC": 6, "S1-TC": 6, "S1-EC": 5, "S1-AC": 10, "S1-US": (3, 3, 3, 3),
    "S2-FR": 7, "S2-SC": 7, "S2-US": (2, 2, 1, 1),
    "S3-FR": 40, "S3-SC": 15, "S3-NF": 6, "S3-EC": 13, "S3-US": (5, 5, 5, 5),
    "S4-FR": 8, "S4-NFR": 4, "S4-SC": 5, "S4-US": 5,
}  # fmt: skip
"""The number of rows of each kind: decisions, measures and questions, and the numbered parts of the five sources.

The parts of a user story count its acceptance scenarios.
"""
LATER_DECISIONS = (
    "D31",
    "D32",
    "D33",
    "D34",
    "D35",
    "D36",
    "D37",
    "D38",
    "D39",
    "D40",
    "D41",
    "D42",
    "D43",
    "D44",
    "D45",
    "D46",
    "D47",
    "D48",
    "D49",
    "D51",
)
"""Decisions beyond the first thirty that are met already."""
WITHOUT_A_TEST = "— "
"""Begins the last cell of a row that no test can show, and says why."""

_ID = r"(?:S\d-)?[A-Z]+-?\d[\d.]*"
_ROW = re.compile(rf"^\| ({_ID}(?: {_ID})*) \| (.+?) \| (.+?) \| (.+) \|$", re.MULTILINE)
_FILE = re.compile(r"`([^`]+)`")


def wanted() -> Iterator[str]:
    yield from LATER_DECISIONS
    for kind, count in COUNTS.items():
        if isinstance(count, tuple):
            for story, scenarios in enumerate(count, 1):
                yield from (f"{kind}{story}.{scenario}" for scenario in range(1, scenarios + 1))
            continue
        source = kind.partition("-")[0]
        # The sources differ in how they write their numbers: S0 to S3 pad those of requirements, S4 does not.
        width = 3 if source in ("S0", "S1", "S2", "S3") and not kind.endswith(("EC", "AC")) else 1
        separator = "" if kind in ("D", "M", "Q", "S4-US") else "-"
        yield from (f"{kind}{separator}{number:0{width}}" for number in range(1, count + 1))


ROWS = [match.groups() for match in _ROW.finditer(TABLE.read_text(encoding="utf-8"))]


def test_every_requirement_stands_in_one_row_and_nothing_else_does() -> None:
    assert Counter(name for row in ROWS for name in row[0].split()) == Counter(wanted())


def test_every_row_of_the_page_is_read() -> None:
    lines = [line for line in TABLE.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]

    assert len(ROWS) == len([line for line in lines if not line.startswith("| Ids |")])


def test_every_row_names_test_files_that_exist_or_says_why_there_are_none() -> None:
    for names, _, _, tests in ROWS:
        if not tests.startswith(WITHOUT_A_TEST):
            assert_existing(names, _FILE.findall(tests), "tests/")


def test_every_row_names_files_that_exist() -> None:
    for names, _, where, _ in ROWS:
        assert_existing(names, _FILE.findall(where))


def assert_existing(names: str, files: list[str], folder: str = "") -> None:
    assert files, names
    assert [file for file in files if not file.startswith(folder) or not (ROOT / file).exists()] == [], names
