"""The files in deploy/, and the programs that read them."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.servers import ROOT

DEPLOY = ROOT / "deploy"
ALERTS = DEPLOY / "prometheus" / "alerts.yml"
_PATH = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin"
"""Debian installs servers in a folder that is not in the PATH of every user."""


def program(name: str) -> str:
    """The path of a program; skips the test where it is missing."""
    found = shutil.which(name, path=_PATH)
    if not found:
        pytest.skip(f"not installed: {name}")
    return found


def run(*command: object, folder: Path | None = None) -> str:
    """The output of a command that must succeed."""
    name, *arguments = map(str, command)
    done = subprocess.run(
        [program(name), *arguments],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def replaced(file: Path, words: dict[str, object]) -> str:
    """The text of a file for another place than the one it is written for. Each word must be there."""
    text = file.read_text(encoding="utf-8")
    for here, there in words.items():
        assert here in text, f"{file.name} does not have {here}"
        text = text.replace(here, str(there))
    return text


def alarms() -> dict[str, str]:
    """The rule of each alarm, by its name."""
    parts = re.split(r"^ *- alert: (\w+)\n", ALERTS.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def expressions(rule: str) -> str:
    """The expression of a rule of alerts.yml."""
    found = re.search(r"expr:(.*?)^ *(?:for|labels):", rule, re.DOTALL | re.MULTILINE)
    assert found
    return found[1].removeprefix(" >-").strip()


def metrics_of(expression: str) -> set[str]:
    """The names of the series in an expression, but for `up`, which is Prometheus' own."""
    bare = re.sub(r"\{[^}]*\}|\[[^\]]*\]|\b(by|on|without) \([^)]*\)|\"[^\"]*\"", " ", expression)
    return {*re.findall(r"\b[a-z]+(?:_[a-z]+)+\b(?! *\()", bare)}
