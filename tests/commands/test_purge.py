"""The command `manage.py purge`."""

import psycopg
import pytest
from django.conf import settings

from persistence.postgres.dsn import Dsn
from tests.support.databases import as_owner, new_user
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
    assert [outcome.out.splitlines()[0] for outcome in outcomes] == [f"{said}1", f"{said}0"]
    assert [(outcome.status, outcome.err) for outcome in outcomes] == [(0, "")] * 2
    with psycopg.connect(as_owner(migrated_dsn).conninfo) as connection:
        left = connection.execute("SELECT is_erased FROM users ORDER BY is_erased").fetchall()
    assert left == [(False,), (True,)]


@pytest.mark.parametrize("is_terminal", [False, True], ids=["quiet", "on a terminal"])
def test_it_purges_what_is_as_old_as_the_settings_say_and_has_a_bar_on_a_terminal_only(
    migrated_dsn: Dsn, monkeypatch: pytest.MonkeyPatch, is_terminal: bool
) -> None:
    if is_terminal:
        monkeypatch.setenv("TTY_COMPATIBLE", "1")
    user = new_user(migrated_dsn)
    with psycopg.connect(as_owner(migrated_dsn).conninfo) as connection:
        connection.execute(
            "INSERT INTO tasks (id, user_id, title, deleted_at, is_erased, updated_at)"
            " SELECT gen_random_uuid(), %s, '(erased)', now() - make_interval(hours => age), is_erased,"
            " now() - make_interval(hours => age)"
            " FROM (VALUES (false, 73), (false, 73), (false, 71), (true, 25), (true, 23)) AS given (is_erased, age)",
            [user],
        )

    outcome = command(url_of(migrated_dsn), "purge", trash_days=3, tombstone_days=1)

    assert outcome.status == 0
    for line in ("Tasks erased after 3 days in the trash: 2\n", "Tombstones removed after 1 day: 1\n"):
        assert line in outcome.out
    assert [bar in outcome.err for bar in ("2/2", "1/1")] == [is_terminal] * 2
    assert is_terminal or not outcome.err
    with psycopg.connect(as_owner(migrated_dsn).conninfo) as connection:
        assert connection.execute("SELECT is_erased FROM tasks ORDER BY 1").fetchall() == [(False,), *[(True,)] * 3]
