"""The pages of the documentation, and the parts of a page."""

import re
from functools import cache
from pathlib import Path

from tests.support.servers import ROOT

DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), ROOT / "examples/README.md", *DOCS.rglob("*.md")])
RECORDS = sorted((DOCS / "adr").glob("*.md"))

FENCE = re.compile(r"^```\w*\n(.*?)^```", re.DOTALL | re.MULTILINE)


def name_of(file: Path) -> str:
    return file.relative_to(ROOT).as_posix()


@cache
def text(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def prose(page: Path) -> str:
    """The page without its blocks of code."""
    return FENCE.sub("", text(page))


def codes(page: Path) -> list[str]:
    """The code between backticks within the prose."""
    return re.findall(r"`([^`\n]+)`", prose(page))


def section(page: Path, heading: str) -> str:
    """The text from a heading to the next one of the same rank or a higher one."""
    match = re.search(rf"^(#+) {re.escape(heading)}$", text(page), re.MULTILINE)
    assert match, f"{name_of(page)} has no heading {heading}"
    rest = text(page)[match.end() :]
    end = re.search(rf"^#{{1,{len(match[1])}}} ", rest, re.MULTILINE)
    return rest[: end.start()] if end else rest


def rows(markdown: str) -> dict[str, list[str]]:
    """The rows of all tables, by the code between backticks in their first cell."""
    lines = [line.strip().strip("|").split("|") for line in markdown.splitlines() if line.startswith("| `")]
    return {cells[0].strip().strip("`"): [cell.strip() for cell in cells] for cells in lines}


@cache
def anchors(page: Path) -> set[str]:
    """The names of headings in links, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
