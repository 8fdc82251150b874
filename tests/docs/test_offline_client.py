"""A real RxDB keeps a user's tasks on devices that go offline, over a wire that loses requests and answers.

`STORM=10000` sets the number of operations of the storm, `make offline` runs that many. What is compared at the end
stands in examples/offline/test/storm.ts.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator

import pytest

from persistence.postgres.dsn import Dsn
from tests.support.databases import new_user
from tests.support.servers import LONG, ROOT, WebServer
from tests.support.sites import production

OFFLINE = ROOT / "examples/offline"
BUILD = OFFLINE / "build"
OPERATIONS = os.environ.get("STORM", "200")


def _missing() -> str:
    if missing := [program for program in ("node", "npm") if not shutil.which(program)]:
        return f"not installed: {', '.join(missing)}"
    is_there = (OFFLINE / "node_modules").exists()
    return "" if is_there else "`make examples/offline/build` installs RxDB, from npm's registry"


pytestmark = pytest.mark.skipif(bool(_missing()), reason=_missing())


@pytest.fixture(scope="module")
def built() -> None:
    """The programs as their sources are now; the packages are there, so that no registry is asked."""
    newest = max(source.stat().st_mtime for source in (*OFFLINE.glob("*.ts"), *OFFLINE.glob("test/*.ts")))
    if not BUILD.exists() or BUILD.stat().st_mtime < newest:
        subprocess.run(["npm", "run", "--silent", "build"], cwd=OFFLINE, check=True)
        BUILD.touch()


@pytest.fixture(scope="module")
def web(dsn: Dsn, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebServer]:
    with production(dsn, tmp_path_factory.mktemp("web")) as web:
        yield web


def run(dsn: Dsn, web: WebServer, *command: str) -> str:
    """The output of a program of the example, which must succeed, for a new user."""
    variables = {"TODO_URL": web.url, "TODO_USER": str(new_user(dsn))}
    done = subprocess.run(
        ["node", *command],
        cwd=BUILD / "test", env={**os.environ, **variables}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, check=False, timeout=LONG + int(OPERATIONS),
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.mark.slow
@pytest.mark.usefixtures("built")
def test_a_device_gets_nothing_wrong_that_others_have_got_wrong(dsn: Dsn, web: WebServer) -> None:
    output = run(dsn, web, "lessons.js")

    assert "# skipped 0" in output
    assert all(f"({number}) " in output for number in range(1, 7))


@pytest.mark.usefixtures("built")
def test_a_storm_on_two_devices_and_a_third_writer_loses_and_doubles_nothing(dsn: Dsn, web: WebServer) -> None:
    output = run(dsn, web, "storm.js", OPERATIONS)

    sys.stdout.write(output)
    assert output.startswith(f"{OPERATIONS} operations")
