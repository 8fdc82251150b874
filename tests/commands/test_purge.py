"""The command `manage.py purge`."""

import psycopg
from django.conf import settings

from persistence.postgres.dsn import Dsn
from tests.support.databases import as_owner
from tests.support.servers import command, url_of
from todos.management.commands.purge import MARGIN


def test_it_removes_the_marks_that_no_token_can_outlive_and_no_others(migrated_dsn: Dsn) -> None:
    longest = settings.MAX_TOKEN_LIFETIME + MARGIN
    with psycopg.connect(as_owner(migrated_dsn).conninfo) as connection:
        connection.execute(
            "INSERT INTO users (id, is_active, is_erased, updated_at) SELECT gen_random_uuid(), NOT is_erased,"
            " is_erased, now() - make_interval(secs => age) FROM (VALUES (true, %(old)s), (true, %(new)s),"
            " (false, %(old)s)) AS given (is_erased, age)",
            {"old": longest + 60, "new": longest - 60},
        )
    outcomes = [command(url_of(migrated_dsn), "purge") for _ in range(2)]

    said = "Marks of erased accounts removed: "
    assert [outcome.out for outcome in outcomes] == [f"{said}1\n", f"{said}0\n"]
    assert [(outcome.status, outcome.err) for outcome in outcomes] == [(0, "")] * 2
    with psycopg.connect(as_owner(migrated_dsn).conninfo) as connection:
        left = connection.execute("SELECT is_erased FROM users ORDER BY is_erased").fetchall()
    assert left == [(False,), (True,)]
