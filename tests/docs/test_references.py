"""Every link, file, `make` target and command that a page names exists, and decision records have their form."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from config.commands import KEPT
from tests.commands.test_commands import COMMANDS, parser_of
from tests.docs.pages import DOCS, FENCE, PAGES, RECORDS, anchors, codes, name_of, prose, section, text
from tests.support.servers import ROOT

FOLDERS = tuple(
    f"{name}/"
    for name in (
        ".ci", "config", "deploy", "docs", "examples", "identity", "migrations", "persistence", "requirements",
        "scripts", "server", "tests", "todos", "web",
    )
)  # fmt: skip
FILE = re.compile(r"[\w./-]*\w\.(py|md|toml|txt|mako)|\.env\.example|Makefile")

each_page = pytest.mark.parametrize("page", PAGES, ids=name_of)


@each_page
def test_every_link_leads_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if "://" not in link:
            path, _, anchor = link.partition("#")
            target = (page.parent / path).resolve() if path else page
            assert target.exists(), link
            assert target.is_relative_to(ROOT), link
            assert not anchor or anchor in anchors(target), link


@each_page
def test_every_file_make_target_and_command_that_is_named_exists(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", text(ROOT / "Makefile"), re.MULTILINE))
    named = codes(page)
    for code in named:
        # A command may follow a script, as in `scripts/setup --production`.
        path = code.partition("::")[0].split()[0]
        if path.startswith(FOLDERS) or FILE.fullmatch(path):
            assert (ROOT / path).exists() or (page.parent / path).exists(), code
    for line in (*named, *(line for block in FENCE.findall(text(page)) for line in block.splitlines())):
        if target := re.match(r"(?:\$ )?make ([a-z-]+)", line):
            assert target[1] in targets, line
    for line in re.findall(r"manage\.py [a-z][^`|\n]*", text(page)):
        _, command, *rest = line.split()
        if command in KEPT:
            continue
        assert command in COMMANDS, line
        options = {option for action in parser_of(command)._actions for option in action.option_strings}
        assert {word for word in rest if re.fullmatch(r"--[a-z]+", word)} <= options, line


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments", sorted({found for page in PAGES for found in re.findall(r'make test ARGS="(.+?)"', text(page))})
)
def test_every_selection_of_tests_that_is_named_finds_some(arguments: str) -> None:
    collect = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-n", "0", *shlex.split(arguments)]
    done = subprocess.run(collect, cwd=ROOT, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout


def test_the_architecture_lists_every_decision_record() -> None:
    listed = re.findall(r"\]\((adr/[^)]+)\)", section(DOCS / "architecture.md", "Architecture decision records"))

    assert listed == [f"adr/{record.name}" for record in RECORDS]


@pytest.mark.parametrize("record", RECORDS, ids=name_of)
def test_a_decision_record_says_why_what_for_and_instead_of_what(record: Path) -> None:
    headings = re.findall(r"^#+ (.+)$", prose(record), re.MULTILINE)

    assert headings[0].startswith(f"ADR {record.name[:4]}: ")
    assert headings[1:] == ["Context", "Decision", "Consequences", "Alternatives"]
