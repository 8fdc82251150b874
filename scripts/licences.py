"""Prints the licence of each installed package, and fails on one that is not in `tool.licences` of pyproject.toml.

`make licences` runs it in the environment of production.
"""

import sys
import tomllib
from importlib.metadata import Distribution, distributions
from pathlib import Path

ALLOWED: list[str] = tomllib.loads(Path("pyproject.toml").read_text("utf-8"))["tool"]["licences"]["allowed"]


def licence(package: Distribution) -> str:
    """The licence as the package states it: in one of three places, of which the first is the most exact."""
    stated = package.metadata.get("License-Expression") or package.metadata.get("License") or ""
    classifiers = package.metadata.get_all("Classifier") or []
    # Some packages put the whole text of the licence there.
    if not stated or "\n" in stated:
        stated = "; ".join(name.rpartition(" :: ")[2] for name in classifiers if name.startswith("License :: "))
    return stated or "none"


refused = False
for package in sorted(distributions(), key=lambda package: package.name.lower()):
    stated = licence(package)
    is_allowed = stated in ALLOWED
    refused |= not is_allowed
    print(f"{package.name:20} {package.version:12} {stated}{'' if is_allowed else '   <- not allowed'}")
if refused:
    sys.exit("pyproject.toml does not allow a licence above; docs/releasing.md says what to ask of one.")
