"""The history of the schema: its revisions, numbered files in `migrations/versions` that follow one another.

Alembic would take two files with one number for one, and two newest revisions for two histories. So the files are read
here first, and refused unless each follows the one before it.
"""

from functools import cache
from pathlib import Path
from typing import Literal

from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util import CommandError, load_python_file

type Direction = Literal["up", "down"]
type State = Literal["up-to-date", "behind", "unknown"]


class MigrationError(Exception):
    """A revision cannot be read or applied; the text names it or its file, and PostgreSQL's or Python's reason."""


def config() -> Config:
    return Config(toml_file=Path(__file__).parent.parent / "pyproject.toml")


@cache
def revisions() -> dict[str, str]:
    """Each revision with its description, oldest first. Raises `MigrationError` that names the first bad file."""
    try:
        folder = Path(ScriptDirectory.from_config(config()).versions)
    except CommandError as error:
        raise MigrationError(f"There are no revisions: {error}") from error
    found: dict[str, str] = {}
    before: Path | None = None
    for file in sorted(folder.glob("*.py")):
        revision, previous = number_after(found), next(reversed(found), None)
        try:
            module = load_python_file(str(folder), file.name)
        except SyntaxError as error:
            raise MigrationError(f"{file.name}, line {error.lineno} cannot be read: {error.msg}") from error
        except Exception as error:
            # A migration is code, so anything can be wrong with it.
            raise MigrationError(f"{file.name} cannot be read: {str(error).replace('\n', ' ')}") from error
        claims = (getattr(module, name, None) for name in ("revision", "down_revision"))
        if not file.name.startswith(f"{revision}_") or tuple(claims) != (revision, previous):
            raise MigrationError(
                f"{file.name} does not follow {before.name if before else 'the beginning'}: its name has to begin with "
                f'{revision}_, and it needs revision = "{revision}" and down_revision = {previous and f'"{previous}"'}'
            )
        found[revision], before = (module.__doc__ or "").strip().partition("\n\n")[0].rstrip("."), file
    if not found:
        raise MigrationError(f"There are no revisions in {folder}")
    return found


def number_after(known: dict[str, str]) -> str:
    return f"{len(known) + 1:04}"


def head() -> str:
    """The newest revision in `migrations/versions`."""
    return list(revisions())[-1]


def state(current: str | None) -> State:
    """The state of a database at `current`; it is unknown if newer code has migrated it."""
    if current == head():
        return "up-to-date"
    return "behind" if current is None or current in revisions() else "unknown"


def ahead(current: str) -> str:
    """The message for a database whose state is unknown: what has happened, and what to do."""
    return (
        f"The database is at revision {current}, and this code ends at {head()}: newer code, or another branch, has "
        f"migrated it. Use the newer code, or go down with it by `manage.py migrate_sql {head()}`; in development "
        "another database will do, or remove .postgres."
    )


def path(current: str | None, target: str) -> tuple[Direction, list[str]]:
    """The revisions to apply, or to take back, from one revision to another; "base" is before the first.

    Raises `MigrationError` for a revision that this code does not know.
    """
    known = ["base", *revisions()]
    target = head() if target == "head" else target
    if current is not None and current not in known:
        raise MigrationError(ahead(current))
    if target not in known:
        raise MigrationError(f"There is no revision {target} in this code; there are {', '.join(known)}")
    here, there = known.index(current or "base"), known.index(target)
    return ("up", known[here + 1 : there + 1]) if there >= here else ("down", known[here:there:-1])
