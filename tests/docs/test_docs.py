"""The documentation is true and complete: each setting, command, operation, field, header and problem has its place."""

import re
from typing import Any

import pytest
from django.core.management.base import BaseCommand

from config import checks
from config.env import Env
from config.settings import CORS_EXPOSE_HEADERS
from persistence.postgres.dsn import BadDatabaseUrl, Dsn
from persistence.postgres.errors import RULES, ConstraintViolated, Rule
from tests.commands.test_commands import COMMANDS, parser_of
from tests.docs.pages import DOCS, name_of, rows, section, text
from tests.support.contract import OPERATIONS
from tests.support.helpers import subclasses
from tests.support.servers import ROOT
from todos.errors import TYPE_PREFIX, Problem
from todos.queries import DEFAULT_LIMIT, MAX_LIMIT, TaskQuery
from todos.schemas import TaskOut
from web.errors import translate
from web.openapi import HEADERS

API = DOCS / "api.md"
SETTINGS = rows(text(DOCS / "configuration.md"))


def words(of: str) -> str:
    """The text with every stretch of space as one, as lines break in other places here and there."""
    return " ".join(of.split())


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


@pytest.mark.parametrize("name", Env.model_fields)
def test_every_setting_is_explained_with_its_default_range_and_an_example(name: str) -> None:
    field, variable = Env.model_fields[name], name.upper()

    row = SETTINGS.get(variable)

    assert row, f"docs/configuration.md has no row for {variable}"
    assert any(cell.startswith(f"`{variable}=") for cell in row), "an example"
    if not field.is_required() and field.default not in (None, ()):
        assert row[1] == f"`{shown(field.default)}`"
    for limit in field.metadata:
        for bound in ("gt", "ge", "le", "lt"):
            if (value := getattr(limit, bound, None)) is not None:
                assert re.search(rf"\b{value}\b", row[2]), f"the limit {value}"


def test_every_check_of_a_deployment_is_listed_with_its_harm() -> None:
    listed = {name: tuple(row[1:]) for name, row in SETTINGS.items() if name.startswith("todo.")}

    assert listed == {name: (rule.harm, rule.hint) for name, rule in checks.RULES.items()}


def test_no_setting_is_explained_that_does_not_exist() -> None:
    assert {name for name in SETTINGS if name.isupper()} == {name.upper() for name in Env.model_fields}


def test_the_message_for_a_bad_url_is_the_one_that_is_documented() -> None:
    bad = {url: row[1] for url, row in SETTINGS.items() if re.match(r"(postgresql|mysql)://", url)}

    assert bad
    for url, message in bad.items():
        with pytest.raises(BadDatabaseUrl, match=f"^{re.escape(message)}$"):
            Dsn.parse(url)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_explained_with_its_options(command: str) -> None:
    explanation = words(section(DOCS / "commands.md", command))
    generic = {action.dest for action in BaseCommand().create_parser("manage.py", "any")._actions}

    for action in parser_of(command)._actions:
        if action.dest not in generic:
            for option in action.option_strings or [str(action.metavar or action.dest)]:
                assert f" {option} " in explanation
            assert words(action.help or "") in explanation


def test_every_operation_field_and_header_of_the_api_is_explained() -> None:
    operations = {f"{operation.method} {operation.path}" for operation in OPERATIONS.values()}
    headers = {*CORS_EXPOSE_HEADERS, *HEADERS, "If-Match", "If-None-Match", "Idempotency-Key", "Allow"}

    assert operations - rows(text(API)).keys() == set()
    assert TaskOut.model_fields.keys() - rows(section(API, "A task")).keys() == set()
    assert {name for name in headers if not re.search(f"`{name}[`:]", text(API))} == set()


def test_every_parameter_of_a_list_is_explained_and_no_other() -> None:
    explained = {
        name: row for heading in ("Filters", "Order", "Pages") for name, row in rows(section(API, heading)).items()
    }

    assert {name for name in explained if name.isidentifier()} == {*TaskQuery.model_fields}
    assert f"1 to {MAX_LIMIT};" in explained["limit"][1]
    assert explained["limit"][2] == str(DEFAULT_LIMIT)


def test_every_problem_is_explained_with_its_status_and_no_other() -> None:
    documented = {name: row[1] for name, row in rows(text(API)).items() if name.startswith("urn:")}

    assert documented == {TYPE_PREFIX + problem.kind: str(problem.status) for problem in subclasses(Problem)}


def test_the_errors_of_the_database_are_listed_with_what_follows() -> None:
    listed = [line for line in section(DOCS / "reliability.md", "Errors of the database").splitlines() if "|" in line]

    assert listed[2:] == [_row_of(state, rule) for state, rule in RULES.items()]


def _row_of(state: str, rule: Rule) -> str:
    error = rule.becomes(state) if issubclass(rule.becomes, ConstraintViolated) else rule.becomes()
    answer = translate(error, "some request")
    facts = ("yes" if fact else "no" for fact in (rule.is_retried, rule.is_renewed))
    return f"| {' | '.join((f'`{state}`' if state else 'none', rule.meaning, str(answer.status), *facts))} |"


def test_the_architecture_names_every_module() -> None:
    table = section(DOCS / "architecture.md", "Where is what")
    packages = (
        "config",
        "server",
        "web",
        "todos",
        "persistence",
        "persistence/postgres",
        "persistence/development",
        "identity",
    )
    files = [name_of(file) for package in packages for file in sorted((ROOT / package).glob("*.py"))]

    unnamed = [file for file in files if not file.endswith("/__init__.py") and f"`{file}`" not in table]

    # Django demands these of an app; they hold its name.
    assert unnamed == ["config/apps.py", "web/apps.py", "todos/apps.py"]
