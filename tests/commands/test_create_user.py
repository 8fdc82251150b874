"""The command `manage.py create_user`."""

from uuid import UUID, uuid4

import psycopg
import pytest

from persistence.postgres.dsn import Dsn
from tests.support.processes import free_port
from tests.support.servers import command, url_of


def new_email() -> str:
    return f"Carol-{uuid4()}@Example.com"


def test_it_prints_the_id_and_nothing_else(dsn: Dsn) -> None:
    email = new_email()
    outcome = command(url_of(dsn), "create_user", f" {email} ", "--name", "Carol")

    assert (outcome.status, outcome.err) == (0, "")
    user_id = UUID(outcome.out.removesuffix("\n"))
    with psycopg.connect(dsn.conninfo) as connection:
        row = connection.execute("SELECT email, name, password_hash FROM users WHERE id = %s", [user_id]).fetchone()
    assert row == (email.lower(), "Carol", "!")


def test_it_prints_json_for_a_machine(dsn: Dsn) -> None:
    email = new_email()
    outcome = command(url_of(dsn), "create_user", email, "--json")

    assert outcome.status == 0
    assert set(outcome.json) == {"id", "email"}
    assert outcome.json["email"] == email.lower()
    UUID(outcome.json["id"])


def test_an_address_can_be_used_once_in_whatever_case(dsn: Dsn) -> None:
    email = new_email()
    assert command(url_of(dsn), "create_user", email).status == 0

    for again in (email, email.upper(), email.lower()):
        outcome = command(url_of(dsn), "create_user", again)
        assert (outcome.status, outcome.out) == (1, "")
        assert f"There is a user with the address {again} already." in outcome.err


@pytest.mark.parametrize("email", ["", "carol", "@example.com", "carol@", "a b@example.com", "a@b@c", "x" * 255 + "@e"])
def test_what_is_no_address_is_refused(email: str, dsn: Dsn) -> None:
    outcome = command(url_of(dsn), "create_user", email)

    assert (outcome.status, outcome.out) == (1, "")
    assert "is no address that can be used" in outcome.err
    assert outcome.err.count("\n") == 1


def test_a_name_that_cannot_be_stored_is_not_blamed_on_the_address(dsn: Dsn) -> None:
    outcome = command(url_of(dsn), "create_user", new_email(), "--name", "Ca\udcffrol")

    assert (outcome.status, outcome.out) == (1, "")
    assert "no address" not in outcome.err
    assert "Traceback" not in outcome.err


def test_without_migrations_it_says_what_to_do(empty_dsn: Dsn) -> None:
    outcome = command(url_of(empty_dsn), "create_user", new_email())

    assert (outcome.status, outcome.out) == (1, "")
    assert "migrate_sql" in outcome.err


def test_without_a_database_it_says_what_to_do() -> None:
    outcome = command(f"postgresql://app:correct-horse@127.0.0.1:{free_port()}/todo", "create_user", new_email())

    assert (outcome.status, outcome.out) == (1, "")
    assert "No server listens there" in outcome.err
    assert "correct-horse" not in outcome.err


def test_an_address_is_required(dsn: Dsn) -> None:
    outcome = command(url_of(dsn), "create_user")

    assert outcome.status == 1
    assert "the following arguments are required: email" in outcome.err
