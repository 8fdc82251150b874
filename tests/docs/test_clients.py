"""The examples, run as their README says: clients are generated from the committed contract and do a day's work."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest

from persistence.postgres.dsn import Dsn
from tests.support.servers import ROOT, WebServer, url_of

EXAMPLES = ROOT / "examples"
GENERATED = shutil.ignore_patterns("node_modules", "build", "schema.ts", "todo_client", ".*_cache", "__pycache__")
END = "Delete all of it\n"


@pytest.fixture
def examples(tmp_path: Path) -> Path:
    """A copy of the examples, to generate in; they find the contract where it always is."""
    (tmp_path / "docs").mkdir()
    shutil.copy(ROOT / "docs/openapi.json", tmp_path / "docs")
    return shutil.copytree(EXAMPLES, tmp_path / "examples", ignore=GENERATED)


@pytest.fixture
def exported(dsn: Dsn, alice: UUID, tmp_path: Path) -> Iterator[dict[str, str]]:
    """The variables that the README has people export: a running server and a user of it."""
    with WebServer(tmp_path, {"ENVIRONMENT": "production", "DATABASE_URL": url_of(dsn)}, "--workers", "2") as web:
        yield {"TODO_URL": web.url, "TODO_USER": str(alice)}


def needs(*programs: str) -> pytest.MarkDecorator:
    missing = [program for program in programs if not shutil.which(program)]
    return pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}")


def commands(heading: str) -> str:
    """What the README tells to type below this heading."""
    _, _, section = (EXAMPLES / "README.md").read_text().partition(f"\n## {heading}\n")
    block = re.search(r"^```sh\n(.*?)^```", section, re.DOTALL | re.MULTILINE)
    assert block
    return block[1]


def run(script: str, folder: Path, variables: dict[str, str]) -> str:
    """What the commands print; all of them must succeed."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        ["bash", "-euc", script],
        cwd=folder,
        env={**os.environ, **variables, "PATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.mark.slow
@needs("node", "npm")
def test_a_generated_typescript_client_compiles_and_does_a_days_work(examples: Path, exported: dict[str, str]) -> None:
    assert run(commands("TypeScript"), examples, exported).endswith(END)


@pytest.mark.slow
def test_a_generated_python_client_passes_mypy_and_does_a_days_work(examples: Path, exported: dict[str, str]) -> None:
    assert run(commands("Python"), examples, exported).endswith(END)


@pytest.mark.slow
@needs("curl")
def test_curl_does_a_days_work(examples: Path, exported: dict[str, str]) -> None:
    assert run(commands("curl"), examples, exported).endswith(END)


def test_a_python_client_is_generated_without_a_warning(examples: Path) -> None:
    generate = commands("Python").partition("mypy")[0]

    run(f"{generate})", examples, {})

    assert (examples / "python/todo_client/api/tasks/create_task.py").exists()


def test_the_lock_file_names_no_registry() -> None:
    assert '"resolved"' not in (EXAMPLES / "typescript/package-lock.json").read_text()
