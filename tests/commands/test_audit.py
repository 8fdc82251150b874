"""`make licences`, `make audit` and `make sbom`, on the packages that production gets."""

import json
import os
import re
import subprocess
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.support.servers import ROOT

pytestmark = pytest.mark.slow


def make(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    # The tests may be run by make, whose options must not come here.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    return subprocess.run(
        ["make", *arguments], cwd=ROOT, env=environment | variables, capture_output=True, text=True, check=False
    )


def test_every_licence_of_production_is_allowed() -> None:
    done = make("licences")

    assert done.returncode == 0, done.stderr
    assert re.search(r"^psycopg +\S+ +LGPL-3.0-only$", done.stdout, re.MULTILINE)


def test_a_licence_that_is_not_on_the_list_is_refused(tmp_path: Path) -> None:
    package = tmp_path / "strict-1.0.dist-info"
    package.mkdir()
    (package / "METADATA").write_text(
        "Metadata-Version: 2.4\nName: strict\nVersion: 1.0\nLicense-Expression: AGPL-3.0\n"
    )
    make("licences")

    # Not by make, which keeps this variable from what it runs.
    done = subprocess.run(
        [ROOT / ".venv-production/bin/python", "scripts/licences.py"],
        cwd=ROOT, env={"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert done.returncode == 1
    assert re.findall(r"(\S+) +\S+ +(\S+) +<- not allowed", done.stdout) == [("strict", "AGPL-3.0")]


def test_an_audit_that_cannot_ask_for_vulnerabilities_does_not_pass(tmp_path: Path) -> None:
    make("audit-setup")

    done = make("audit", HTTPS_PROXY="http://127.0.0.1:9", HOME=str(tmp_path), PIP_CACHE_DIR=str(tmp_path))

    assert done.returncode != 0
    assert "Unable to connect to proxy" in done.stderr
    assert "Not passed: " in done.stdout


def test_the_list_of_packages_has_each_locked_one_that_is_needed_here(tmp_path: Path) -> None:
    lock = (ROOT / "requirements/production.txt").read_text()
    locked = [Requirement(line.rstrip(" \\")) for line in lock.splitlines() if line[0].isalpha()]

    done = make("sbom", f"ARGS=-o {tmp_path / 'sbom.json'}")

    assert done.returncode == 0, done.stderr
    text = (tmp_path / "sbom.json").read_text()
    listed = {f"{canonicalize_name(part['name'])}=={part['version']}" for part in json.loads(text)["components"]}
    assert listed == {f"{line.name}{line.specifier}" for line in locked if not line.marker or line.marker.evaluate()}
    assert str(ROOT) not in text
