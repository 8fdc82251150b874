"""The image of the Dockerfile, on a base that is made here."""

import ast
import re
import subprocess
from pathlib import Path

import pytest

from tests.support import podman as containers
from tests.support.podman import podman
from tests.support.servers import ROOT
from tests.support.sites import locked

IMAGE = "localhost/todo-backend:test"
SECRET_OF_THE_BUILD = "correct-horse-battery-staple"


@pytest.fixture(scope="session")
def base() -> str:
    if reason := containers.missing():
        pytest.skip(reason)
    return containers.base()


@pytest.fixture(scope="session")
def image(base: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    settings = pip_settings()
    file = tmp_path_factory.mktemp("pip") / "pip.conf"
    lines = [f"{name} = {value}" for name, value in settings.items()]
    file.write_text("\n".join(["[global]", f"# {SECRET_OF_THE_BUILD}", *lines]))
    paths = {Path(path) for value in settings.values() for path in re.findall(r"(?:file://)?(/\S+)", value)}
    # The pages of an index that is a folder may lead to packages beside it.
    mounts = {path.parent if path.is_dir() else path for path in paths if path.exists()}
    volumes = [f"--volume={path}:{path}:ro" for path in mounts]
    with locked(ROOT / "Dockerfile"):
        podman(
            "build", "--format=docker", f"--build-arg=BASE={base}", f"--secret=id=pip,src={file}", *volumes,
            f"--tag={IMAGE}", str(ROOT),
        )  # fmt: skip
    return IMAGE


def pip_settings() -> dict[str, str]:
    """What this machine's pip knows of where packages come from, and how to get there."""
    listing = subprocess.run(["python3", "-m", "pip", "config", "list"], capture_output=True, text=True, check=False)
    found: dict[str, str] = {}
    for line in sorted(listing.stdout.splitlines(), key=lambda line: line.startswith(":env:")):
        name, _, value = line.partition("=")
        option = name.split(".")[-1]
        if option in {"index-url", "extra-index-url", "find-links", "no-index", "trusted-host", "cert", "proxy"}:
            found[option] = " ".join(ast.literal_eval(value).split())
    return found
