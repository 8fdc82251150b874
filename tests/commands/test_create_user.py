"""The command `manage.py create_user`."""

from uuid import UUID, uuid4

import psycopg
import pytest

from persistence.postgres.dsn import Dsn
from tests.support.databases import as_owner
from tests.support.servers import command, url_of


def new_email() -> str:
    return f"Carol-{uuid4()}@Example.com"


def test_it_prints_the_id_and_nothing_else(dsn: Dsn) -> None:
    email = new_email()
    outcome = command(url_of(dsn), "create_user", f" {email} ", "--name", "Carol")

    assert (outcome.status, outcome.err) == (0, "")
    user_id = UUID(outcome.out.removesuffix("\n"))
    with psycopg.connect(as_owner(dsn).conninfo) as connection:
        row = connection.execute("SELECT email, name, password_hash FROM users WHERE id = %s", [user_id]).fetchone()
    assert row == (email.lower(), "Carol", "!")


def test_an_address_can_be_used_once_in_whatever_case(dsn: Dsn) -> None:
    email = new_email()
    first = command(url_of(dsn), "create_user", email, "--json")
    assert first.json == {"id": str(UUID(first.json["id"])), "email": email.lower()}

    for again in (email, email.upper(), email.lower()):
        outcome = command(url_of(dsn), "create_user", again)
        assert (outcome.status, outcome.out) == (1, "")
        assert f"There is a user with the address {again} already." in outcome.err


@pytest.mark.parametrize("email", ["", "carol", "@example.com", "carol@", "a b@example.com", "a@b@c", "x" * 255 + "@e"])
def test_text_that_is_not_an_address_is_refused(email: str, dsn: Dsn) -> None:
    outcome = command(url_of(dsn), "create_user", email)

    assert (outcome.status, outcome.out) == (1, "")
    assert "is not an address that can be used" in outcome.err
    assert outcome.err.count("\n") == 1


def test_a_name_that_cannot_be_stored_is_not_blamed_on_the_address(dsn: Dsn) -> None:
    outcome = command(url_of(dsn), "create_user", new_email(), "--name", "Ca\udcffrol")

    assert (outcome.status, outcome.out) == (1, "")
    assert "address" not in outcome.err
    assert "Traceback" not in outcome.err
