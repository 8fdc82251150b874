"""Statements: compiled once, when their module is imported; parameterised; and each about one owner (D26)."""

import re
from itertools import product
from typing import Any, get_args
from uuid import UUID, uuid4

import pytest
from sqlalchemy import bindparam, insert, select
from sqlmodel import col

from persistence import task_lists, tasks, users
from persistence.models import Task, User
from persistence.postgres.database import Database
from persistence.postgres.statement import Statement

BY_TITLE = Statement(
    select(col(Task.title)).where(col(Task.user_id) == bindparam("owner"), col(Task.title) == "Buy milk")
)
NAMED_STATEMENTS = {
    f"{module.__name__}.{name}": statement
    for module in (task_lists, tasks, users)
    for name, statement in vars(module).items()
    if isinstance(statement, Statement)
}


def task(title: str) -> dict[str, Any]:
    return {
        "title": title, "description": None, "status": "pending", "priority": "medium", "due_date": None, "tags": [],
    }  # fmt: skip


def test_it_never_writes_a_value_into_its_text() -> None:
    assert "Buy milk" not in BY_TITLE.text
    assert BY_TITLE.parameters == ("owner", "title_1")
    assert "tasks.user_id = $1" in BY_TITLE.text
    assert "tasks.title = $2" in BY_TITLE.text
    assert repr(BY_TITLE) == f"Statement({BY_TITLE.text!r})"


def test_it_adds_its_constants_to_the_values_of_each_run() -> None:
    assert BY_TITLE.constants == {"title_1": "Buy milk"}
    BY_TITLE.bind({"owner": 1, "title_1": "changed"})
    assert BY_TITLE.bind({"owner": 7}) == {"title_1": "Buy milk", "owner": 7}

    values = {"owner": 7}
    assert Statement(select(col(Task.title)).where(col(Task.user_id) == bindparam("owner"))).bind(values) is values


def test_it_takes_plain_defaults_from_the_model_and_refuses_one_that_would_be_the_same_for_every_row() -> None:
    statement = Statement(insert(User).values(id=bindparam("id"), email=bindparam("email")))

    assert statement.constants == {"password_hash": "!", "is_active": True, "email_verified": False}
    # The id's default is a function, and its result belongs to one run only.
    with pytest.raises(AssertionError, match=r"users\.id needs a value"):
        Statement(insert(User).values(email=bindparam("email")))


@pytest.mark.parametrize("title", ["'; DROP TABLE tasks; --", "%s %(title)s %%", 'a "quoted" \\ one', "$1 :title {}"])
async def test_it_passes_values_beside_the_sql_and_never_in_it(database: Database, alice: UUID, title: str) -> None:
    created = await tasks.create(database, alice, task(title))

    assert created
    assert created["title"] == title
    assert await tasks.get(database, alice, created["id"]) == {
        name: value for name, value in created.items() if name != "replayed"
    }
    await tasks.create(database, alice, task("Buy milk"))
    assert await database.rows(BY_TITLE, {"owner": alice}) == [{"title": "Buy milk"}]


def names_the_owner(statement: Statement) -> bool:
    """Tells if each time that it reads from tasks, it asks for those of the owner."""
    owner = rf"\btasks\.user_id = \${statement.parameters.index('user_id') + 1}\b"
    reads = len(re.findall(r"\b(?:FROM|UPDATE) tasks\b", statement.text))
    return 0 < reads <= len(re.findall(owner, statement.text))


@pytest.mark.parametrize("name", ["tasks.GET", "tasks.REPLACE", "tasks.PATCH", "tasks.DELETE", "task_lists.SUMMARY"])
def test_every_statement_on_tasks_names_the_owner(name: str) -> None:
    assert names_the_owner(NAMED_STATEMENTS[f"persistence.{name}"])


def test_a_task_is_created_for_the_owner_and_leaves_those_of_others_alone() -> None:
    owner = f"${tasks.CREATE.parameters.index('user_id') + 1}"
    inserted = re.search(r"INSERT INTO tasks \((.*?)\) VALUES \((.*)\) ON CONFLICT \(user_id, id\)", tasks.CREATE.text)

    assert inserted
    places = [place.partition("::")[0] for place in inserted[2].split(", ")]
    assert places[inserted[1].split(", ").index("user_id")] == owner


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
    # The literals in SQL about tasks are values of the enums, punctuation, and the smallest step of time.
    text = re.sub(r"'(pending|completed|low|medium|high|[{}:,]|1 microsecond)'", "", NAMED_STATEMENTS[name].text)
    assert text.count("'") == 0


async def test_a_task_of_another_owner_is_untouched_by_every_statement(
    database: Database, alice: UUID, bob: UUID
) -> None:
    created = await tasks.create(database, bob, task("Bob's"))
    assert created
    stored = await tasks.get(database, bob, created["id"])

    assert await tasks.get(database, alice, created["id"]) is None
    assert await tasks.replace(database, alice, created["id"], task("Alice was here")) is None
    assert await tasks.patch(database, alice, created["id"], {"title": "Alice was here"}) is None
    assert await tasks.patch(database, alice, created["id"], {}) is None
    assert await tasks.remove(database, alice, created["id"]) is None
    assert await task_lists.page(database, alice, 100) == []
    assert (await task_lists.summary(database, alice))["total"] == 0
    assert await tasks.get(database, bob, created["id"]) == stored


async def test_a_task_is_not_created_for_a_user_that_does_not_exist(database: Database) -> None:
    assert await tasks.create(database, uuid4(), task("Of no user")) is None
