"""Servers and databases that cannot be used: refused wherever something begins, in one line with a hint."""

import pytest

from persistence import migrator
from persistence.postgres import compatibility
from persistence.postgres.database import open_database
from persistence.postgres.diagnosis import diagnose
from persistence.postgres.dsn import Dsn
from persistence.startup import StartupError, start
from tests.database.helpers import options
from tests.support.servers import command, url_of


async def test_a_server_that_is_too_old_is_refused_at_once(dsn: Dsn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compatibility, "MIN_VERSION", 99)
    old = r"it is PostgreSQL \d\d, and 99 is the oldest that can be used"
    with pytest.raises(
        StartupError, match=rf"^No connection to the database \S+: {old}\. Upgrade the server"
    ) as failure:
        # No attempt after the first one would do better.
        async with start(dsn, options(), retry=True, migrate_at=dsn):
            pytest.fail("it started")
    assert "attempts" not in str(failure.value)
    with pytest.raises(compatibility.Incompatible, match=old):
        async with open_database(dsn):
            pytest.fail("it opened")


def test_commands_refuse_it_too(dsn: Dsn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compatibility, "MIN_VERSION", 99)
    for line in ("dbhealth", "migrate_sql --check", "migrate_sql", "seed_dev", "create_user alice@example.com"):
        outcome = command(url_of(dsn), *line.split())
        assert (outcome.status, outcome.out) == (1, "")
        assert "99 is the oldest that can be used. Upgrade the server" in outcome.err
        assert outcome.err.count("\n") == 1


def test_a_pooler_that_does_not_pass_on_the_encoding_can_be_used(dsn: Dsn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("psycopg.ConnectionInfo.parameter_status", lambda *_: None)
    assert migrator.current(dsn)


def test_the_hint_for_an_encoding_says_how_to_make_a_database() -> None:
    said = str(diagnose(compatibility.Incompatible("its encoding is LATIN1, in which not every text can be stored")))
    assert said.endswith("CREATE DATABASE ... TEMPLATE template0 ENCODING 'UTF8'.")
