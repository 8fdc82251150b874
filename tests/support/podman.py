"""podman, and an image of Debian 13 that is made here, as no registry of images may be within reach."""

import os
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

from tests.support.sites import locked

BASE = "localhost/trixie:base"
ENVIRONMENT = {**os.environ, "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"}
_CONFIGURATION = Path(__file__).with_name("containers.conf")
_PACKAGES = "python3,python3-venv,ca-certificates"
if shutil.which("runc"):
    ENVIRONMENT.setdefault("CONTAINERS_CONF", str(_CONFIGURATION))


@cache
def missing() -> str:
    """The reason why there can be no containers here, or nothing."""
    if os.geteuid() != 0:
        return "podman and debootstrap are run as root here"
    programs = ["podman"] if _has_base() else ["podman", "debootstrap"]
    absent = [each for each in programs if not shutil.which(each, path=ENVIRONMENT["PATH"])]
    return f"not installed: {', '.join(absent)}" if absent else ""


def podman(*arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Raises `AssertionError` with what it printed if it fails."""
    done = subprocess.run(["podman", *arguments], env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert not check or done.returncode == 0, f"podman {' '.join(arguments)}\n{done.stdout}{done.stderr}"
    return done


def base() -> str:
    """An image of Debian 13 with its Python. It takes minutes to make, once on each machine."""
    with locked(Path(__file__)):
        if not _has_base():
            with tempfile.TemporaryDirectory() as folder:
                _run("debootstrap", "--variant=minbase", f"--include={_PACKAGES}", "trixie", f"{folder}/root")
                _run("tar", "-C", f"{folder}/root", "-cf", f"{folder}/root.tar", ".")
                podman("import", f"{folder}/root.tar", BASE)
    return BASE


def _has_base() -> bool:
    program = shutil.which("podman", path=ENVIRONMENT["PATH"])
    return program is not None and podman("image", "exists", BASE, check=False).returncode == 0


def _run(*command: str) -> None:
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
