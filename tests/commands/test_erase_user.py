"""The command `manage.py erase_user`."""

import io
from typing import override
from uuid import UUID, uuid4

import psycopg
import pytest

from persistence.postgres.dsn import Dsn
from tests.support.databases import as_owner
from tests.support.servers import command, url_of


class Keyboard(io.StringIO):
    """A terminal at which somebody types this."""

    @override
    def isatty(self) -> bool:
        return True


def execute(dsn: Dsn, query: str, *values: object) -> list[tuple[object, ...]]:
    with psycopg.connect(as_owner(dsn).conninfo) as connection:
        cursor = connection.execute(query.encode(), values)
        return cursor.fetchall() if cursor.description else []


@pytest.fixture
def carol(dsn: Dsn) -> UUID:
    """A user with two tasks."""
    user = uuid4()
    execute(dsn, "INSERT INTO users (id, email) VALUES (%s, %s)", user, f"{user}@example.com")
    for _ in range(2):
        execute(dsn, "INSERT INTO tasks (id, user_id, title) VALUES (%s, %s, 'x')", uuid4(), user)
    return user


def is_erased(dsn: Dsn, user: UUID) -> bool:
    return execute(dsn, "SELECT is_erased FROM users WHERE id = %s", user) == [(True,)]


@pytest.mark.parametrize("by_address", [True, False])
def test_it_erases_and_says_how_many_tasks(dsn: Dsn, carol: UUID, by_address: bool) -> None:
    email = f"{carol}@example.com"
    outcome = command(url_of(dsn), "erase_user", email.upper() if by_address else str(carol), "--yes")

    assert (outcome.status, outcome.err) == (0, "")
    assert outcome.out == f"User {carol} and 2 tasks are erased.\n"
    assert execute(dsn, "SELECT is_erased, email FROM users WHERE id = %s", carol) == [(True, None)]
    # The address can be used again.
    assert command(url_of(dsn), "create_user", email).status == 0


def test_a_user_that_is_erased_already_is_left_alone(dsn: Dsn, carol: UUID) -> None:
    command(url_of(dsn), "erase_user", str(carol), "--yes")
    before = execute(dsn, "SELECT * FROM users WHERE id = %s", carol)
    again = command(url_of(dsn), "erase_user", str(carol), "--yes")

    assert (again.status, again.err) == (0, "")
    assert again.out.startswith(f"User {carol} was erased already, at 20")
    assert execute(dsn, "SELECT * FROM users WHERE id = %s", carol) == before


def test_the_mark_of_an_id_that_was_never_here_keeps_it_away(dsn: Dsn) -> None:
    user = uuid4()
    assert command(url_of(dsn), "erase_user", str(user), "--yes").out == f"User {user} and 0 tasks are erased.\n"
    assert is_erased(dsn, user)


@pytest.mark.parametrize(
    ("typed", "erases"), [("y\n", True), ("Yes\n", True), ("n\n", False), ("\n", False), ("", False)]
)
def test_at_a_terminal_it_asks_first(
    dsn: Dsn, carol: UUID, typed: str, erases: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", Keyboard(typed))
    outcome = command(url_of(dsn), "erase_user", str(carol))

    assert f"Erase user {carol} with 2 tasks for good? [y/N] " in outcome.out
    assert (outcome.status, is_erased(dsn, carol)) == (0 if erases else 1, erases)
    assert outcome.err == ("" if erases else "Error: Nothing was erased.\n")


def test_without_a_terminal_it_refuses_to_guess(dsn: Dsn, carol: UUID, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    outcome = command(url_of(dsn), "erase_user", str(carol))

    assert (outcome.status, outcome.out) == (1, "")
    assert "--yes" in outcome.err
    assert not is_erased(dsn, carol)


@pytest.mark.parametrize(
    ("user", "said"),
    [("nobody@example.com", ("There is no user with the address nobody@example.com. A user who signs in at an issuer "
                             "has none here; name such a user by id.")),
     ("carol", "'carol' is neither an id nor an address.")],
)  # fmt: skip
def test_what_names_no_user_is_one_line(dsn: Dsn, user: str, said: str) -> None:
    outcome = command(url_of(dsn), "erase_user", user, "--yes")
    assert (outcome.status, outcome.out, outcome.err) == (1, "", f"Error: {said}\n")
