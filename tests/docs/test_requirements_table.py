"""docs/requirements.md is complete, and what it names exists."""

import ast
import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
TABLE = ROOT / "docs/requirements.md"

COUNTS: dict[str, int | tuple[int, ...]] = {
    "D": 30, "M": 11, "Q": 16,
    "S0-FR": 8, "S0-SC": 6, "S0-EC": 3, "S0-US": (2, 2, 2),
    "S1-FR": 12, "S1-NFR": 5, "S1-SC": 6, "S1-TC": 6, "S1-EC": 5, "S1-AC": 10, "S1-US": (3, 3, 3, 3),
    "S2-FR": 7, "S2-SC": 7, "S2-US": (2, 2, 1, 1),
    "S3-FR": 40, "S3-SC": 15, "S3-NF": 6, "S3-EC": 13, "S3-US": (5, 5, 5, 5),
    "S4-FR": 8, "S4-NFR": 4, "S4-SC": 5, "S4-US": 5,
}  # fmt: skip
"""How many there are of each kind: decisions, measures and questions, and what the five sources number.

The parts of a user story count its acceptance scenarios.
"""

WITHOUT_A_TEST = "— "
"""Begins the last cell of a row that no test can show, and says why."""

_ROW = re.compile(r"^\| ((?:S\d-)?[A-Z]+-?\d[\d.]*) \| (.+?) \| (.+?) \| (.+) \|$", re.MULTILINE)
_TEST = re.compile(r"`(tests/\w+\.py)::(\w+)`")


def wanted() -> Iterator[str]:
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


@cache
def names_in(file: str) -> set[str]:
    if not (ROOT / file).exists():
        return set()
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    functions = (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    return {function.name for function in functions if function.name.startswith("test_")}


def test_every_requirement_has_one_row_and_nothing_else_has() -> None:
    assert Counter(row[0] for row in ROWS) == Counter(wanted())


def test_every_row_says_which_tests_show_it_or_why_there_are_none() -> None:
    silent = [row[0] for row in ROWS if not _TEST.search(row[3]) and not row[3].startswith(WITHOUT_A_TEST)]

    assert silent == []


def test_every_test_that_is_named_exists() -> None:
    named = [(row[0], file, test) for row in ROWS for file, test in _TEST.findall(row[3])]

    assert [(of, file, test) for of, file, test in named if test not in names_in(file)] == []


def test_every_row_names_files_that_exist() -> None:
    named = {row[0]: re.findall(r"`([^`]+)`", row[2]) for row in ROWS if row[2] != "tests"}

    assert [of for of, files in named.items() if not files] == []
    assert [(of, file) for of, files in named.items() for file in files if not (ROOT / file).exists()] == []
