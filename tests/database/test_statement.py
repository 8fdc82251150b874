"""A statement is compiled once, when its module is imported, and run as it stands."""

import re
from itertools import product
from typing import Any, TypedDict, get_args
from uuid import UUID, uuid4

import pytest
from sqlalchemy import bindparam, insert, select, text
from sqlmodel import col

from persistence import task_lists, tasks, users
from persistence.models import Task, User
from persistence.postgres.database import Database
from persistence.postgres.statement import Statement


class Title(TypedDict):
    title: str


BY_TITLE = Statement(
    select(col(Task.title)).where(col(Task.user_id) == bindparam("owner"), col(Task.title) == "Buy milk"), Title
)
NAMED_STATEMENTS = {
    f"{module.__name__}.{name}": statement
    for module in (task_lists, tasks, users)
    for name, statement in vars(module).items()
    if isinstance(statement, Statement)
}


def test_it_keeps_constants_apart_from_what_each_run_supplies() -> None:
    assert BY_TITLE.constants == {"title_1": "Buy milk"}
    assert BY_TITLE.bind({"owner": 7}) == {"title_1": "Buy milk", "owner": 7}


def test_it_never_writes_a_value_into_its_text() -> None:
    assert "Buy milk" not in BY_TITLE.text
    assert BY_TITLE.parameters == ("owner", "title_1")
    assert "tasks.user_id = $1" in BY_TITLE.text
    assert "tasks.title = $2" in BY_TITLE.text


def test_it_has_nothing_to_add_when_it_has_no_constants() -> None:
    values = {"owner": 7}
    statement = Statement(select(col(Task.title)).where(col(Task.user_id) == bindparam("owner")), Title)

    assert statement.bind(values) is values


def test_it_does_not_let_one_run_change_the_next() -> None:
    BY_TITLE.bind({"owner": 1, "title_1": "changed"})

    assert BY_TITLE.bind({"owner": 2}) == {"title_1": "Buy milk", "owner": 2}


def test_it_takes_plain_defaults_from_the_model() -> None:
    statement: Statement = Statement(insert(User).values(id=bindparam("id"), email=bindparam("email")), dict)

    assert statement.constants == {"password_hash": "!", "is_active": True, "email_verified": False}


def test_it_refuses_a_default_that_would_be_the_same_for_every_row() -> None:
    # The id's default is a function, and its result belongs to one run only.
    with pytest.raises(AssertionError, match=r"users\.id needs a value"):
        Statement(insert(User).values(email=bindparam("email")), dict)


def test_it_shows_its_text_when_debugging() -> None:
    assert repr(Statement(text("SELECT 1 AS title"), Title)) == "Statement('SELECT 1 AS title')"


async def test_it_runs_with_its_constants(database: Database, alice: UUID) -> None:
    await tasks.create(database, alice, task("Buy milk"))
    await tasks.create(database, alice, task("Buy bread"))

    assert await database.rows(BY_TITLE, {"owner": alice}) == [{"title": "Buy milk"}]


@pytest.mark.parametrize("title", ["'; DROP TABLE tasks; --", "%s %(title)s %%", 'a "quoted" \\ one', "$1 :title {}"])
async def test_it_passes_values_beside_the_sql_and_never_in_it(database: Database, alice: UUID, title: str) -> None:
    created = await tasks.create(database, alice, task(title))

    assert created
    assert await tasks.get(database, alice, created["id"]) == stored(created)
    assert created["title"] == title


async def test_a_statement_without_a_value_for_a_parameter_fails(database: Database) -> None:
    with pytest.raises(Exception, match="owner"):
        await database.rows(BY_TITLE, {})


def test_there_are_named_statements_for_every_operation() -> None:
    assert {
        *(f"persistence.tasks.{name}" for name in ("CREATE", "GET", "REPLACE", "PATCH", "DELETE")),
        "persistence.task_lists.SUMMARY",
    } <= NAMED_STATEMENTS.keys()


def names_the_owner(statement: Statement) -> bool:
    """Whether each time that it reads from tasks, it asks whose they are."""
    owner = rf"\b(?:tasks|nearest)\.user_id = \${statement.parameters.index('user_id') + 1}\b"
    reads = len(re.findall(r"\b(?:FROM|UPDATE) tasks\b", statement.text))
    return 0 < reads <= len(re.findall(owner, statement.text))


@pytest.mark.parametrize("name", ["GET", "REPLACE", "PATCH", "DELETE"])
def test_every_statement_on_one_task_names_the_owner(name: str) -> None:
    assert names_the_owner(NAMED_STATEMENTS[f"persistence.tasks.{name}"])


def test_the_summary_names_the_owner() -> None:
    assert names_the_owner(task_lists.SUMMARY)


def test_a_task_is_created_for_the_owner_and_leaves_other_peoples_alone() -> None:
    owner = f"${tasks.CREATE.parameters.index('user_id') + 1}"
    inserted = re.search(r"INSERT INTO tasks \((.*?)\) VALUES \((.*?)\)", tasks.CREATE.text)

    assert inserted
    places = [place.partition("::")[0] for place in inserted[2].split(", ")]
    assert places[inserted[1].split(", ").index("user_id")] == owner
    assert re.search(rf"ON CONFLICT .* WHERE tasks\.user_id = \{owner}\b", tasks.CREATE.text)


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


async def test_a_task_of_somebody_else_is_untouched_by_every_statement(
    database: Database, alice: UUID, bob: UUID
) -> None:
    created = await tasks.create(database, bob, task("Bob's"))
    assert created

    assert await tasks.get(database, alice, created["id"]) is None
    assert await tasks.replace(database, alice, created["id"], task("Alice was here")) is None
    assert await tasks.patch(database, alice, created["id"], {"title": "Alice was here"}) is None
    assert await tasks.remove(database, alice, created["id"]) is None
    assert await task_lists.page(database, alice, 100) == []
    assert (await task_lists.summary(database, alice))["total"] == 0
    assert await tasks.get(database, bob, created["id"]) == stored(created)


async def test_a_task_of_nobody_is_not_created(database: Database) -> None:
    assert await tasks.create(database, uuid4(), task("Nobody's")) is None


def stored(row: tasks.CreatedRow) -> dict[str, Any]:
    """The row as every other statement returns it."""
    return {name: value for name, value in row.items() if name != "replayed"}


def task(title: str) -> tasks.TaskValues:
    return {
        "title": title,
        "description": None,
        "status": "pending",
        "priority": "medium",
        "due_date": None,
        "tags": [],
    }
