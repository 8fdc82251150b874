"""Statements: compiled once, when their module is imported; parameterised; and each about one owner (D26)."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from importlib import import_module
from itertools import product
from pkgutil import iter_modules
from typing import get_args
from uuid import UUID

import pytest
from sqlalchemy import bindparam, insert, select
from sqlmodel import col

import persistence
from persistence import task_lists, tasks, users
from persistence.models import Task, User
from persistence.postgres.database import Database
from persistence.postgres.statement import Statement
from tests.database.helpers import TASK

BY_TITLE = Statement(
    "by_title", select(col(Task.title)).where(col(Task.user_id) == bindparam("owner"), col(Task.title) == "Buy milk")
)


def statements_in(name: str, value: object) -> Iterator[tuple[str, Statement]]:
    """The statements of a module's variable, also those within a collection or a dataclass."""
    match value:
        case Statement():
            yield name, value
        case Mapping():
            for key, each in value.items():
                yield from statements_in(f"{name}[{key!r}]", each)
        case tuple() | list() | frozenset():
            for number, each in enumerate(value):
                yield from statements_in(f"{name}[{number}]", each)
        case _ if is_dataclass(value) and not isinstance(value, type):
            for field in fields(value):
                yield from statements_in(f"{name}.{field.name}", getattr(value, field.name))


def named_statements() -> dict[str, Statement]:
    """Every statement that a module of `persistence` has when it is imported, once, by the first of its names."""
    # These explain the statements of the others, and look into the catalogue.
    others = {"migrator", "readiness"}
    modules = [each.name for each in iter_modules(persistence.__path__) if each.name not in others]
    found = dict[Statement, str]()
    for module in modules:
        for name, value in vars(import_module(f"persistence.{module}")).items():
            for path, statement in statements_in(f"{module}.{name}", value):
                found.setdefault(statement, path)
    return {path: statement for statement, path in found.items()}


NAMED_STATEMENTS = named_statements()
OF_ALL_OWNERS = {
    # An operator's commands, and for whom `purge` has something to do.
    *("users.LIST", "users.LIST_MARKS"),
    *(f"purge.{kind}.{which}" for kind in ("TRASH", "TOMBSTONES") for which in ("number", "owners")),
}
"""The only statements that may read tasks without the name of an owner."""
READS = [
    name
    for name, statement in NAMED_STATEMENTS.items()
    if re.search(r"\b(FROM|UPDATE|JOIN) tasks\b", statement.text) and name not in OF_ALL_OWNERS
]


def test_it_keeps_its_constants_apart_from_its_text_and_from_the_values_of_a_run() -> None:
    assert "tasks.user_id = $1::UUID AND tasks.title = $2::VARCHAR" in BY_TITLE.text
    assert BY_TITLE.parameters == ("owner", "title_1")
    assert BY_TITLE.constants == {"title_1": "Buy milk"}
    BY_TITLE.bind({"owner": 1, "title_1": "changed"})
    assert BY_TITLE.bind({"owner": 7}) == {"title_1": "Buy milk", "owner": 7}
    assert repr(BY_TITLE) == f"Statement({BY_TITLE.text!r})"


def test_it_takes_plain_defaults_from_the_model_and_refuses_one_that_would_be_the_same_for_every_row() -> None:
    statement = Statement("create", insert(User).values(id=bindparam("id"), email=bindparam("email")))
    assert statement.constants == {"password_hash": "!", "is_active": True, "email_verified": False}
    # The id's default is a function, and its result belongs to one run only.
    with pytest.raises(AssertionError, match=r"users\.id needs a value"):
        Statement("create", insert(User).values(email=bindparam("email")))


@pytest.mark.parametrize("title", ["'; DROP TABLE tasks; --", "%s %(title)s %%", 'a "quoted" \\ one', "$1 :title {}"])
async def test_it_passes_values_beside_the_sql_and_never_in_it(database: Database, alice: UUID, title: str) -> None:
    for each in (title, "Buy milk"):
        created = await tasks.create(database, alice, TASK | {"title": each})
        assert created
        assert (await tasks.get(database, alice, created["id"]) or {})["title"] == each
    assert await database.rows(BY_TITLE, {"owner": alice}) == [{"title": "Buy milk"}]


def names_the_owner(statement: Statement) -> bool:
    """Tells if each time that it reads from tasks, it asks for those of the owner."""
    owner = rf"\btasks\.user_id = \${statement.parameters.index('user_id') + 1}\b"
    reads = len(re.findall(r"\b(?:FROM|UPDATE) tasks\b", statement.text))
    return 0 < reads <= len(re.findall(owner, statement.text))


@pytest.mark.parametrize("name", READS)
def test_every_statement_on_tasks_names_the_owner(name: str) -> None:
    assert names_the_owner(NAMED_STATEMENTS[name])


def raises_the_owner(statement: Statement) -> bool:
    """Tells if it raises the revision of the owner and of nobody else."""
    owner = rf"\(UPDATE users SET revision=.* WHERE users\.id = \${statement.parameters.index('user_id') + 1}\b"
    return re.search(owner, statement.text) is not None


WRITES = [name for name, statement in NAMED_STATEMENTS.items() if re.search(r"(INTO|UPDATE) tasks\b", statement.text)]


def test_there_are_reads_and_writes_to_look_at() -> None:
    assert len(READS) >= 15
    assert len(WRITES) >= 10
    assert NAMED_STATEMENTS.keys() >= OF_ALL_OWNERS


@pytest.mark.parametrize("name", WRITES)
def test_every_write_of_a_task_has_the_raised_revision_of_its_owner_as_version(name: str) -> None:
    statement = NAMED_STATEMENTS[name]
    assert raises_the_owner(statement)
    assert re.search(
        r"version=owner\.revision|, owner\.revision \nFROM (owner|unnest\(.* JOIN owner ON true) ON CONFLICT",
        statement.text,
    )


@pytest.mark.parametrize("name", sorted(NAMED_STATEMENTS))
def test_no_update_asks_for_the_time_beside_a_column(name: str) -> None:
    """Engines that spread rows refuse it (docs/adr/0032-revisions-and-the-feed.md)."""
    updates = NAMED_STATEMENTS[name].text.split("UPDATE ")[1:]
    for update in updates:
        changed = re.sub(r"\(SELECT \(date_part\('epoch', now\(\)\) \* 1000000\)::bigint\)", "", update)
        assert "interval" not in changed
        assert "now()" not in changed.partition(" INSERT INTO ")[0]


@pytest.mark.parametrize("statement", [tasks.CREATE, tasks.CREATE_WITHIN], ids=["alone", "within a limit"])
def test_a_task_is_created_for_the_owner_and_leaves_those_of_others_alone(statement: Statement) -> None:
    pattern = r"INSERT INTO tasks \((.*?)\) SELECT (.*) \nFROM owner ON CONFLICT \(user_id, id\)"
    [(columns, values)] = re.findall(pattern, statement.text)
    assert values.split(", ")[columns.split(", ").index("user_id")] == "owner.id"
    assert raises_the_owner(statement)


def test_a_statement_that_returns_what_it_has_changed_does_not_count_as_a_read() -> None:
    assert tasks.GET.reads
    assert users.ACCOUNT.reads
    assert not any(
        statement.reads
        for statement in (tasks.DELETE, tasks.CREATE, tasks.MAKE_OWNER, users.ERASE, users.MARK, users.PURGE)
    )


@pytest.mark.parametrize("sort", get_args(task_lists.SortKey.__value__))
def test_every_list_names_the_owner_and_has_nothing_but_parameters(sort: task_lists.SortKey) -> None:
    for descending, start, condition in product(
        (False, True), get_args(task_lists.Start.__value__), [None, *task_lists.CONDITIONS]
    ):
        filters = frozenset({condition} if condition else ())
        statement = task_lists.list_statement.__wrapped__(filters, sort, descending=descending, start=start)
        assert names_the_owner(statement), statement
        assert statement.constants == {}
        assert {"user_id", "limit"} <= set(statement.parameters)


@pytest.mark.parametrize("name", sorted(NAMED_STATEMENTS))
def test_every_statement_is_parameterised(name: str) -> None:
    # The literals in SQL about tasks are values of the enums, what tombstones have, punctuation, and the time's unit.
    literals = r"'(epoch|pending|completed|low|medium|high|\(erased\)|\{\}|[{}:,])'"
    text = re.sub(literals, "", NAMED_STATEMENTS[name].text)
    assert text.count("'") == 0
