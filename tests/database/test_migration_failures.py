"""A revision that fails: nothing of it remains, and one message names it and the reason."""

import pytest

from persistence import migrator
from persistence.migrator import MigrationError, Step
from persistence.postgres.dsn import Dsn
from tests.database.conftest import MigrationFiles
from tests.database.test_migrations import REVISIONS, schema_of

NEXT = f"{len(REVISIONS) + 1:04}"
FAILED = f"Revision {int(NEXT) + 1:04} (Try it) failed: "
LOST = f"Revision {int(NEXT) + 1:04} (Try it) may be applied or not, as the connection was lost: terminating connection"

# A deferred constraint is checked at the commit, and a deferred trigger runs in it.
REFUSED_AT_THE_COMMIT = """
CREATE TABLE pages (note int REFERENCES notes DEFERRABLE INITIALLY DEFERRED);
INSERT INTO pages VALUES (1);
"""
COMMIT_WITHOUT_AN_ANSWER = """
CREATE FUNCTION die() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); PERFORM pg_sleep(60); RETURN NEW; END $$;
CREATE CONSTRAINT TRIGGER die AFTER INSERT ON notes DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION die();
INSERT INTO notes VALUES (1);
"""


@pytest.mark.parametrize(
    ("upgrade", "message"),
    [
        ("op.execute('ALTER TABLE nowhere   ADD x text')",
         FAILED + 'relation "nowhere" does not exist, in: ALTER TABLE nowhere ADD x text'),
        ("op.execute('CREATE TABEL x ()')", FAILED + 'syntax error at or near "TABEL", in: CREATE TABEL x ()'),
        ('raise NotImplementedError("write the step")', FAILED + "NotImplementedError: write the step"),
        ("op.drop_everything()", FAILED + "AttributeError: "),
        ("no_such_name", FAILED + "NameError: "),
        ("op.get_bind().scalar(1)", FAILED + "ObjectNotExecutableError: "),
        (f"op.execute({REFUSED_AT_THE_COMMIT!r})", FAILED + 'insert or update on table "pages" violates foreign key'),
        ("op.execute('SELECT pg_terminate_backend(pg_backend_pid())')", LOST),
        (f"op.execute({COMMIT_WITHOUT_AN_ANSWER!r})", LOST),
    ],
)  # fmt: skip
def test_a_revision_that_fails_leaves_nothing_and_the_message_names_it_and_the_reason(
    empty_dsn: Dsn, revisions: MigrationFiles, upgrade: str, message: str
) -> None:
    revisions.add("op.execute('CREATE TABLE notes (id int PRIMARY KEY)')")
    revisions.add(f"op.execute('CREATE TABLE halves ()'); {upgrade}")
    revisions.add("op.execute('CREATE TABLE never ()')")
    reported: list[Step] = []

    with pytest.raises(MigrationError) as failure:
        migrator.migrate(empty_dsn, report=reported.append)

    assert str(failure.value).startswith(message)
    assert "\n" not in str(failure.value)
    # Each revision is a transaction of its own, so the one before it stays.
    assert [step.revision for step in reported] == [*REVISIONS, NEXT]
    assert migrator.current(empty_dsn) == NEXT
    assert {name for name in schema_of(empty_dsn) if name.startswith("relation ") and "_" not in name} == {
        "relation users", "relation tasks", "relation notes",
    }  # fmt: skip


def test_a_revision_that_cannot_be_taken_back_stays_whole_and_is_named(
    empty_dsn: Dsn, revisions: MigrationFiles
) -> None:
    way_back = "op.execute('DROP TABLE notes'); op.execute('DROP nothing')"
    broken = revisions.add("op.execute('CREATE TABLE notes ()')", way_back)
    migrator.migrate(empty_dsn)
    before = schema_of(empty_dsn)

    with pytest.raises(MigrationError, match=rf"^Revision {broken} \(Try it\) failed: syntax error"):
        migrator.migrate(empty_dsn, "base")

    assert schema_of(empty_dsn) == before
    assert migrator.current(empty_dsn) == broken


@pytest.mark.filterwarnings("default:Revision 0777")
@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("pass\n", "op.execute('unfinished\n", f"{NEXT}_try_it.py, line 10 cannot be read: unterminated string"),
        (f'down_revision = "{REVISIONS[-1]}"', f'down_revision = "{REVISIONS[-2]}"', "multiple heads"),
        (f'down_revision = "{REVISIONS[-1]}"', 'down_revision = "0777"', "0777"),
        ("from alembic import op", "import nowhere", "No module named 'nowhere'"),
        ("from alembic import op", "nowhere()", "name 'nowhere' is not defined"),
    ],
)
def test_files_that_cannot_be_read_or_do_not_fit_together_are_one_message(
    empty_dsn: Dsn, revisions: MigrationFiles, old: str, new: str, reason: str
) -> None:
    file = revisions.versions / f"{revisions.add('pass')}_try_it.py"
    file.write_text(file.read_text().replace(old, new, 1))

    with pytest.raises(MigrationError, match="cannot be read: ") as failure:
        migrator.migrate(empty_dsn)

    assert reason in str(failure.value)
    assert "\n" not in str(failure.value)
    assert schema_of(empty_dsn) == {}
