"""The command `manage.py distribute` on plain PostgreSQL; `tests/citus` has the rest."""

import pytest

from persistence.postgres.dsn import Dsn
from tests.support.servers import command, url_of


@pytest.mark.plain("is refused")
@pytest.mark.parametrize("options", [[], ["--dry-run"], ["--status"]], ids=["itself", "dry run", "status"])
def test_plain_postgresql_is_refused_in_a_line_that_says_what_is_missing_and_nothing_changes(
    options: list[str], url: str
) -> None:
    outcome = command(url, "distribute", *options)

    assert (outcome.status, outcome.out, outcome.err.count("\n")) == (1, "", 1)
    assert "Error: This is plain PostgreSQL: the extension citus is missing. Install Citus" in outcome.err
    assert "CREATE EXTENSION citus" in outcome.err
    assert command(url, "create_user", "alice@example.com").status == 0
    assert command(url, "create_user", "alice@example.com").status == 1


def test_a_database_without_tables_is_refused(empty_dsn: Dsn) -> None:
    outcome = command(url_of(empty_dsn), "distribute")

    assert (outcome.status, outcome.out) == (1, "")
    assert outcome.err == "Error: There are no tables yet. Run `manage.py migrate_sql` first.\n"


def test_the_plan_and_the_status_are_two_questions(url: str) -> None:
    outcome = command(url, "distribute", "--dry-run", "--status")

    assert outcome.status == 1
    assert "not allowed with argument" in outcome.err
