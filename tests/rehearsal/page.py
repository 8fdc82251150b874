"""The blocks of docs/operations.md that are typed on a machine, and what the page shows after them.

A `bash` block is done as it stands. In a `console` block, `#` is the prompt of root; the lines after a command are what
it prints. Other blocks are for reading.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from tests.docs.pages import DOCS
from tests.support.transcripts import comparable

PAGE = DOCS / "operations.md"
START, DEPLOY, RESTORE = "From nothing to production", "Deploying with migrations", "Restore on one machine"
"""The headings of what is rehearsed."""

_PART = re.compile(
    r"^(?P<rank>#+) (?P<heading>[^\n]+)$|^```(?P<kind>\w*)\n(?P<body>.*?)^```$", re.DOTALL | re.MULTILINE
)
_COMMAND = re.compile(r"^# (.+)\n((?:(?!# ).*\n)*)", re.MULTILINE)
_NUMBER = re.compile(r"[0-9a-f]{12,}|\d[\d.:-]*")


@dataclass(frozen=True)
class Step:
    """One block, or one command of a session with its output."""

    heading: str
    command: str
    shown: str | None = None
    """What the page shows as its output; None where it shows nothing."""
    place: tuple[int, int] = (0, 0)
    """Where `shown` stands in the page."""


def steps(section: str) -> list[Step]:
    """Everything that is typed from this heading to the next one of its rank."""
    return [*_steps(PAGE.read_text(encoding="utf-8"), section)]


def _steps(page: str, section: str) -> Iterator[Step]:
    inside, heading, rank = False, "", 0
    for part in _PART.finditer(page):
        if part["heading"]:
            if part["heading"] == section:
                inside, rank = True, len(part["rank"])
            elif inside and len(part["rank"]) <= rank:
                return
            heading = part["heading"]
        elif inside and part["kind"] == "bash":
            yield Step(heading, part["body"])
        elif inside and part["kind"] == "console":
            for found in _COMMAND.finditer(part["body"]):
                start = part.start("body")
                yield Step(heading, found[1], found[2], (start + found.start(2), start + found.end(2)))
    assert inside, f"{PAGE.name} has no heading {section}"


def typed() -> int:
    """How many blocks and commands of the page are for a shell of root, wherever they stand."""
    kinds = [(part["kind"], part["body"]) for part in _PART.finditer(PAGE.read_text(encoding="utf-8"))]
    return sum(len(_COMMAND.findall(body)) if kind == "console" else kind == "bash" for kind, body in kinds)


def is_like(printed: str, shown: str) -> bool:
    """True if the two differ in numbers, ids and space only. `...` in what is shown stands for anything."""
    pattern = ".*".join(map(re.escape, _essence(shown).split("...")))
    return re.fullmatch(pattern, _essence(printed), re.DOTALL) is not None


def _essence(text: str) -> str:
    return " ".join(_NUMBER.sub("N", comparable(text)).split())


def with_values(command: str, values: dict[str, str]) -> str:
    """The command with these values in the lines that assign the variables."""

    def line(found: re.Match[str]) -> str:
        return f"{found[1]}={values[found[1]]}" if found[1] in values else found[0]

    return re.sub(r"^([A-Z_]+)=\S*", line, command, flags=re.MULTILINE)


def record(printed: list[tuple[Step, str]]) -> None:
    """Writes what the commands have printed into the page, where it shows something else."""
    page = PAGE.read_text(encoding="utf-8")
    for step, output in sorted(printed, key=lambda pair: pair[0].place, reverse=True):
        if step.shown is not None and not is_like(output, step.shown):
            start, end = step.place
            page = page[:start] + output.rstrip("\n") + "\n" + page[end:]
    PAGE.write_text(page, encoding="utf-8")
