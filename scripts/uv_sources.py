"""Prints what uv's own files say about where packages and Pythons come from, in the form of such a file.

Any other option in them, such as `exclude-newer` or `target`, would change or break what a lock file describes. This
runs before there is a .venv, with whatever Python 3 there is.
"""

from __future__ import annotations

import json
import os
import sys
from itertools import chain
from pathlib import Path
from typing import Any

KEPT = {
    "allow-insecure-host", "cache-dir", "extra-index-url", "find-links", "http-proxy", "https-proxy", "index",
    "index-strategy", "index-url", "keyring-provider", "native-tls", "no-index", "no-proxy", "offline",
    "python-downloads-json-url", "python-install-mirror", "system-certs",
}  # fmt: skip


def files() -> list[Path]:
    """The file that UV_CONFIG_FILE names, else those that uv would read, the user's before the machine's."""
    if named := os.environ.get("UV_CONFIG_FILE"):
        return [Path(named)]
    user = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    machine = (os.environ.get("XDG_CONFIG_DIRS") or "/etc/xdg").split(":")
    of_user, *of_machine = (Path(folder, "uv", "uv.toml").expanduser() for folder in (user, *machine, "/etc"))
    return [file for file in (of_user, *[file for file in of_machine if file.is_file()][:1]) if file.is_file()]


def sources() -> dict[str, Any]:
    """What counts of the files: of two values the first, of two lists both."""
    found: dict[str, Any] = {}
    for file in files():
        try:
            options = _parse(file.read_text(encoding="utf-8"))
        except (OSError, ValueError, ImportError) as error:
            sys.exit(f"setup: uv's settings in {file.absolute()} cannot be read: {error}")
        for name, value in chain(options.get("pip", {}).items(), options.items()):
            if name in KEPT and isinstance(value, list):
                found[name] = [*found.get(name, []), *value]
            elif name in KEPT:
                found.setdefault(name, value)
    return found


def _parse(text: str) -> dict[str, Any]:
    try:
        import tomllib
    except ImportError:
        # Python is older than 3.11, but a pip of 21.2 or newer has that module, too.
        from pip._vendor import tomli as tomllib  # type: ignore[import-not-found, no-redef] # .venv has no pip
    return tomllib.loads(text)


def as_toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(name)} = {as_toml(each)}" for name, each in value.items()) + "}"
    if isinstance(value, list):
        return f"[{', '.join(map(as_toml, value))}]"
    return json.dumps(value, ensure_ascii=False)


for name, value in sources().items():
    print(f"{name} = {as_toml(value)}")
