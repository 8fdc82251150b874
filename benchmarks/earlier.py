"""An earlier commit of this project: its files, its statements, and a database with its schema."""

import json
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

from benchmarks import postgres
from benchmarks.postgres import Postgres
from benchmarks.processes import ROOT
from persistence.postgres.statement import Statement
from tests.support.processes import clean_environment

COMMIT = "3f9065e"
"""The last commit before revisions, the feed and the trash."""

_STATEMENTS = """
import json, sys
from persistence import task_lists, tasks
found = {
    "get": tasks.GET, "create": tasks.CREATE, "patch": tasks.PATCH, "delete": tasks.DELETE,
    "list": task_lists.list_statement(frozenset(), "created_at", descending=True, start="first"),
}
parts = {name: [each.text, each.columns, each.parameters, each.constants] for name, each in found.items()}
json.dump(parts, sys.stdout)
"""
_FILL = """
import sys
from benchmarks import data
from persistence import migrator
from persistence.postgres.dsn import Dsn
dsn = Dsn.parse(sys.argv[1])
migrator.migrate(dsn)
data.fill(dsn, int(sys.argv[2]), int(sys.argv[3]))
"""


@contextmanager
def checked_out(commit: str = COMMIT) -> Iterator[Path]:
    """Yields a folder with the files of the commit."""
    with tempfile.TemporaryDirectory(prefix="todo-benchmark-") as folder:
        command = [shutil.which("git") or "git", "archive", commit]
        archive = subprocess.run(command, cwd=ROOT, check=True, capture_output=True).stdout  # noqa: S603 - it is our own
        with tarfile.open(fileobj=BytesIO(archive)) as files:
            files.extractall(folder, filter="data")
        yield Path(folder).resolve()


def statements(folder: Path) -> dict[str, Statement]:
    found = {}
    for name, (text, columns, parameters, constants) in json.loads(_run(folder, _STATEMENTS)).items():
        found[name] = made = Statement.__new__(Statement)
        made.name, made.text, made.query, made.is_script, made.reads = name, text, text.encode(), False, False
        made.columns, made.parameters, made.constants = tuple(columns), tuple(parameters), constants
    return found


@contextmanager
def database(folder: Path, users: int, tasks: int, *settings: str) -> Iterator[Postgres]:
    """Runs a server with the schema and the data of that commit."""
    with postgres.temporary(*settings, is_empty=True) as server:
        _run(folder, _FILL, postgres.address(server.port), str(users), str(tasks))
        yield server


def _run(folder: Path, program: str, *arguments: str) -> str:
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.run(  # noqa: S603 - the command is our own
        command, cwd=folder, env=clean_environment(), check=True, stdout=subprocess.PIPE, text=True
    ).stdout
