"""What is documented is true: each setting, endpoint, command and problem has its place, and links lead somewhere."""

import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from django.core.management import load_command_class
from django.core.management.base import BaseCommand

from config.env import Env
from config.settings import CORS_EXPOSE_HEADERS
from persistence.postgres.dsn import BadDatabaseUrl, Dsn
from persistence.postgres.errors import RULES, ConstraintViolated, Rule
from todos.errors import TYPE_PREFIX, Problem
from todos.queries import DEFAULT_LIMIT, MAX_LIMIT, TaskQuery
from todos.schemas import TaskOut
from web.api import api
from web.problems import translate

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted([ROOT / "README.md", *DOCS.rglob("*.md")])
DECISIONS = sorted((DOCS / "decisions").glob("*.md"))
COMMANDS = sorted(file.stem for file in (ROOT / "todos/management/commands").glob("[a-z]*.py"))

OUR_FOLDERS = (
    "config",
    "docs",
    "examples",
    "migrations",
    "persistence",
    "requirements",
    "scripts",
    "tests",
    "todos",
    ".ci",
)
FILE = re.compile(r"[\w./-]*\w\.(py|md|toml|txt|mako)|\.env\.example|Makefile")

_FENCE = re.compile(r"^```\w*\n(.*?)^```", re.DOTALL | re.MULTILINE)
_CODE = re.compile(r"`([^`\n]+)`")
_LINK = re.compile(r"\]\(([^)\s]+)\)")


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@cache
def text(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def prose(page: Path) -> str:
    """The page without its blocks of code."""
    return _FENCE.sub("", text(page))


def words(of: str) -> str:
    """The text with every stretch of space as one, as lines break in other places here and there."""
    return " ".join(of.split())


def rows(page: Path) -> dict[str, list[str]]:
    """The rows of all tables in a page, by what stands in backticks in their first cell."""
    lines = [line.strip().strip("|").split("|") for line in text(page).splitlines() if line.startswith("| `")]
    return {cells[0].strip().strip("`"): [cell.strip() for cell in cells] for cells in lines}


def section(page: Path, heading: str) -> str:
    """From a heading to the next one of the same rank or a higher one."""
    match = re.search(rf"^(#+) {re.escape(heading)}$", text(page), re.MULTILINE)
    assert match, f"{name_of(page)} has no heading {heading}"
    rest = text(page)[match.end() :]
    end = re.search(rf"^#{{1,{len(match[1])}}} ", rest, re.MULTILINE)
    return rest[: end.start()] if end else rest


@cache
def anchors(page: Path) -> set[str]:
    """What a link into the page may name, as GitHub makes it of headings."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def shown(default: Any) -> str:
    """A default as one would write it in the environment."""
    match default:
        case bool():
            return str(default).lower()
        case float():
            return f"{default:g}"
        case tuple():
            return ",".join(default)
    return str(default)


def parser(command: str) -> Any:
    loaded = load_command_class("todos", command)
    assert isinstance(loaded, BaseCommand)
    return loaded.create_parser("manage.py", command)


@pytest.mark.parametrize("name", Env.model_fields)
def test_every_setting_is_explained_with_its_default_range_and_an_example(name: str) -> None:
    field, variable = Env.model_fields[name], name.upper()

    row = rows(DOCS / "configuration.md").get(variable)

    assert row, f"docs/configuration.md has no row for {variable}"
    assert any(cell.startswith(f"`{variable}=") for cell in row), "an example"
    if not field.is_required() and field.default not in (None, ()):
        assert row[1] == f"`{shown(field.default)}`"
    for limit in field.metadata:
        for bound in ("gt", "ge", "le", "lt"):
            if (value := getattr(limit, bound, None)) is not None:
                assert re.search(rf"\b{value}\b", row[2]), f"the limit {value}"


def test_no_setting_is_explained_that_does_not_exist() -> None:
    documented = {name for name in rows(DOCS / "configuration.md") if name.isupper()}

    assert documented == {name.upper() for name in Env.model_fields}


def test_what_is_said_of_a_bad_url_is_what_is_documented() -> None:
    explained = rows(DOCS / "configuration.md")
    bad = {name: row[1] for name, row in explained.items() if re.match(r"(postgresql|mysql)://", name)}

    assert bad
    for url, message in bad.items():
        with pytest.raises(BadDatabaseUrl, match=f"^{re.escape(message)}$"):
            Dsn.parse(url)


@pytest.mark.parametrize("name", Env.model_fields)
def test_the_example_of_an_environment_names_every_setting(name: str) -> None:
    assert re.search(rf"^(# )?{name.upper()}=", text(ROOT / ".env.example"), re.MULTILINE)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_explained_with_its_options(command: str) -> None:
    explanation = words(section(DOCS / "operations.md", command))
    generic = {action.dest for action in BaseCommand().create_parser("manage.py", "any")._actions}

    for action in parser(command)._actions:
        if action.dest not in generic:
            for option in action.option_strings or [action.metavar or action.dest]:
                assert f" {option} " in explanation
            assert words(action.help) in explanation


def test_every_operation_of_the_api_is_explained() -> None:
    operations = {
        f"{method.upper()} {path}" for path, methods in api.get_openapi_schema()["paths"].items() for method in methods
    }

    assert operations <= rows(DOCS / "api.md").keys()


@pytest.mark.parametrize("field", TaskOut.model_fields)
def test_every_field_of_a_task_is_explained(field: str) -> None:
    assert re.search(rf"^\| `{field}` \|", section(DOCS / "api.md", "A task"), re.MULTILINE)


def test_the_limits_of_a_list_are_explained() -> None:
    limit = rows(DOCS / "api.md")["limit"]

    assert f"1 to {MAX_LIMIT};" in limit[1]
    assert limit[2] == str(DEFAULT_LIMIT)


def test_every_problem_is_explained_with_its_status_and_no_other() -> None:
    documented = {name: row[1] for name, row in rows(DOCS / "api.md").items() if name.startswith("urn:")}

    assert documented == {TYPE_PREFIX + problem.kind: str(problem.status) for problem in Problem.__subclasses__()}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_link_leads_somewhere(page: Path) -> None:
    for link in _LINK.findall(prose(page)):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert target.is_relative_to(ROOT), link
        if anchor:
            assert anchor in anchors(target), link


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_file_that_is_named_exists(page: Path) -> None:
    for code in _CODE.findall(prose(page)):
        path = code.partition("::")[0]
        if path.startswith(tuple(f"{folder}/" for folder in OUR_FOLDERS)) or FILE.fullmatch(path):
            # A command may follow a script, as in `scripts/setup --production`.
            assert (ROOT / path.split()[0]).exists(), code


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_make_target_that_is_named_exists(page: Path) -> None:
    targets = set(re.findall(r"^([a-z]+):", text(ROOT / "Makefile"), re.MULTILINE))
    lines = [line for block in _FENCE.findall(text(page)) for line in block.splitlines()]

    for code in (*_CODE.findall(prose(page)), *lines):
        if named := re.match(r"(?:\$ )?make ([a-z]+)", code):
            assert named[1] in targets, code


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_command_that_is_named_exists_with_its_options(page: Path) -> None:
    for code in re.findall(r"manage\.py [a-z][^`|\n]*", text(page)):
        _, command, *rest = code.split()
        assert command in COMMANDS, code
        options = {option for action in parser(command)._actions for option in action.option_strings}
        assert {word for word in rest if re.fullmatch(r"--[a-z]+", word)} <= options, code


def test_the_architecture_lists_every_decision() -> None:
    listed = re.findall(r"\]\((decisions/[^)]+)\)", section(DOCS / "architecture.md", "Decisions"))

    assert listed == [f"decisions/{decision.name}" for decision in DECISIONS]


@pytest.mark.parametrize("decision", DECISIONS, ids=name_of)
def test_a_decision_says_why_what_for_and_instead_of_what(decision: Path) -> None:
    headings = re.findall(r"^#+ (.+)$", prose(decision), re.MULTILINE)

    assert headings[0].startswith(f"{decision.name[:4]}: ")
    assert headings[1:] == ["Context", "Decision", "Consequences", "Alternatives"]


def test_the_architecture_names_every_module() -> None:
    house = section(DOCS / "architecture.md", "The house")
    files = [file for room in ("config", "todos", "persistence") for file in (ROOT / room).glob("*.py")]

    unnamed = [name_of(file) for file in files if file.stem != "__init__" and f"`{name_of(file)}`" not in house]

    assert unnamed == ["todos/apps.py"]


def test_the_errors_of_the_database_are_listed_with_what_follows() -> None:
    listed = [line for line in section(DOCS / "reliability.md", "Errors of the database").splitlines() if "|" in line]

    assert listed[2:] == [_row_of(state, rule) for state, rule in RULES.items()]


def _row_of(state: str, rule: Rule) -> str:
    error = rule.becomes(state) if issubclass(rule.becomes, ConstraintViolated) else rule.becomes()
    answer = translate(error, "some request")
    facts = ("yes" if fact else "no" for fact in (rule.is_retried, rule.is_renewed))
    return f"| {' | '.join((f'`{state}`' if state else 'none', rule.meaning, str(answer.status), *facts))} |"


def test_every_parameter_of_a_list_is_explained_and_no_other() -> None:
    explained = {name for heading in ("Filters", "Order", "Pages") for name in _first_cells(heading)}

    assert explained == {*TaskQuery.model_fields}


def _first_cells(heading: str) -> list[str]:
    return re.findall(r"^\| `(\w+)` \|", section(DOCS / "api.md", heading), re.MULTILINE)


@pytest.mark.parametrize(
    "name", [*CORS_EXPOSE_HEADERS, *HEADERS, "If-Match", "If-None-Match", "Idempotency-Key", "Allow"]
)
def test_every_header_is_explained(name: str) -> None:
    assert f"`{name}`" in text(DOCS / "api.md") or f"`{name}:" in text(DOCS / "api.md")
