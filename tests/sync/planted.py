"""Bugs that a feed could have, planted by triggers of the database, so that all else is as in production."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

from persistence.postgres.dsn import Dsn
from tests.support.databases import execute
from tests.sync.verdict import Fault

_ANEW = "IF NEW.version IS DISTINCT FROM OLD.version THEN NEW.version := {}; END IF;"
_MICROSECONDS = "(extract(epoch FROM {}) * 1000000)::bigint"


class Bug(NamedTuple):
    faults: set[Fault]
    """What the checker calls its effects."""
    change: str
    """What is done to each row of tasks before it is written, in PL/pgSQL."""
    others: tuple[str, ...] = ()
    """Further statements."""


BUGS: Mapping[str, Bug] = {
    # The time is that of the transaction's start, and the lock comes after it, in another order.
    "a cursor by `updated_at`": Bug(
        {"missed", "disordered"},
        _ANEW.format(_MICROSECONDS.format("now()")),
        (
            """
            CREATE FUNCTION pause() RETURNS trigger LANGUAGE plpgsql
            AS 'BEGIN IF random() < 0.1 THEN PERFORM pg_sleep(0.2); END IF; RETURN NULL; END'
            """,
            "CREATE TRIGGER pause BEFORE UPDATE ON users FOR EACH STATEMENT EXECUTE FUNCTION pause()",
        ),
    ),
    # Each connection takes numbers in advance.
    "versions from a sequence": Bug(
        {"missed", "disordered"},
        _ANEW.format("nextval('planted')"),
        ("CREATE SEQUENCE planted START 9000000000000000 CACHE 20",),
    ),
    "a create that resurrects": Bug(
        {"resurrected"},
        f"""
        IF NEW.version = OLD.version AND OLD.deleted_at IS NOT NULL AND NOT OLD.is_erased THEN
            NEW.deleted_at := NULL;
            NEW.version := {_MICROSECONDS.format("clock_timestamp()")};
        END IF;
        """,
    ),
    "keys that are not remembered": Bug({"doubled"}, "NEW.applied_keys := NULL;"),
}


@contextmanager
def planted(dsn: Dsn, bug: Bug) -> Iterator[None]:
    execute(
        dsn,
        *bug.others,
        f"CREATE FUNCTION planted() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN {bug.change} RETURN NEW; END$$",
        "CREATE TRIGGER planted BEFORE INSERT OR UPDATE ON tasks FOR EACH ROW EXECUTE FUNCTION planted()",
        "GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO PUBLIC",
    )
    try:
        yield
    finally:
        execute(
            dsn,
            "DROP FUNCTION planted CASCADE",
            "DROP FUNCTION IF EXISTS pause CASCADE",
            "DROP SEQUENCE IF EXISTS planted",
        )
