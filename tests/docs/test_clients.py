"""The examples, run as their README says: clients are generated from the committed contract and do a day's work."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from uuid import UUID

import pytest

from persistence.postgres.dsn import Dsn
from tests.support.issuer import Issuer
from tests.support.servers import ROOT
from tests.support.sites import production

EXAMPLES = ROOT / "examples"
GENERATED = shutil.ignore_patterns("node_modules", "build", "schema.ts", "todo_client", ".*_cache", "__pycache__")


@pytest.fixture
def examples(tmp_path: Path) -> Path:
    """A copy of the examples, to generate in; they find the contract where it always is."""
    (tmp_path / "docs").mkdir()
    shutil.copy(ROOT / "docs/openapi.json", tmp_path / "docs")
    return shutil.copytree(EXAMPLES, tmp_path / "examples", ignore=GENERATED)


def commands(heading: str) -> str:
    """The commands that the README has below this heading."""
    _, _, section = (EXAMPLES / "README.md").read_text().partition(f"# {heading}\n")
    block = re.search(r"^```sh\n(.*?)^```", section, re.DOTALL | re.MULTILINE)
    assert block
    return block[1]


def run(script: str, folder: Path, **variables: str) -> str:
    """The output of commands that must all succeed."""
    variables["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        ["bash", "-euc", script],
        cwd=folder, env={**os.environ, **variables}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize(("heading", "needed"), [("Python", ()), ("curl", ("curl",))])
def test_a_client_compiles_and_does_a_days_work(
    heading: str, needed: tuple[str, ...], examples: Path, dsn: Dsn, alice: UUID, tmp_path: Path
) -> None:
    skip_without(*needed)
    with production(dsn, tmp_path) as web:
        output = run(commands(heading), examples, TODO_URL=web.url, TODO_USER=str(alice))

    assert output.endswith("Delete all of it\n")


@pytest.mark.slow
def test_a_typescript_client_compiles_and_does_a_days_work_with_a_token(
    examples: Path, dsn: Dsn, tmp_path: Path
) -> None:
    skip_without("node", "npm")
    with Issuer() as issuer, production(dsn, tmp_path, **issuer.settings) as web:
        variables = {"TODO_URL": web.url, "TODO_USER": "me", "TODO_TOKEN": issuer.token()}
        output = run(commands("TypeScript"), examples, **variables)

    assert output.endswith("Delete all of it\n")


@pytest.mark.slow
def test_a_phone_and_a_laptop_that_were_offline_plan_the_same_trip(
    examples: Path, dsn: Dsn, alice: UUID, tmp_path: Path
) -> None:
    skip_without("node", "npm")
    with production(dsn, tmp_path) as web:
        output = run(commands("Offline with RxDB"), examples, TODO_URL=web.url, TODO_USER=str(alice))

    assert "  Find the passport: tags.0: " in output
    assert output.endswith("Delete it on the phone; the laptop sees that\n")


def skip_without(*programs: str) -> None:
    if missing := [program for program in programs if not shutil.which(program)]:
        pytest.skip(f"not installed: {', '.join(missing)}")


def test_a_python_client_is_generated_without_a_warning(examples: Path) -> None:
    generate = commands("Python").partition("mypy")[0]

    run(f"{generate})", examples)

    assert (examples / "python/todo_client/api/tasks/create_task.py").exists()


@pytest.mark.parametrize(
    "folder",
    ["benchmarks/peers/fastify", "examples/better-auth", "examples/offline", "examples/typescript", "scripts/contract"],
)
def test_a_lock_file_names_packages_versions_and_hashes_and_no_address(folder: str) -> None:
    lock = (ROOT / folder / "package-lock.json").read_text()
    assert '"integrity"' in lock
    assert "://" not in lock
