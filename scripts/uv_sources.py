"""Prints what uv's own files say about where packages come from, in the form of such a file.

Any other option in them, such as `exclude-newer` or `target`, would change or break what a lock file describes. Takes
the path in `UV_CONFIG_FILE`, if that is set.
"""

import json
import os
import sys
import tomllib
from itertools import chain
from pathlib import Path
from typing import Any

KEPT = {
    "allow-insecure-host", "cache-dir", "extra-index-url", "find-links", "http-proxy", "https-proxy", "index",
    "index-strategy", "index-url", "keyring-provider", "native-tls", "no-index", "no-proxy", "offline", "system-certs",
}  # fmt: skip


def files() -> list[Path]:
    """The files that uv would read, the user's before the machine's."""
    user = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    machine = (os.environ.get("XDG_CONFIG_DIRS") or "/etc/xdg").split(":")
    of_user, *of_machine = (Path(folder, "uv", "uv.toml").expanduser() for folder in (user, *machine, "/etc"))
    return [of_user, *[file for file in of_machine if file.is_file()][:1]]


def sources(files: list[Path]) -> dict[str, Any]:
    """What counts of the files: of two values the first, of two lists both."""
    found: dict[str, Any] = {}
    for file in files:
        options = tomllib.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
        for name, value in chain(options.get("pip", {}).items(), options.items()):
            if name in KEPT and isinstance(value, list):
                found[name] = [*found.get(name, []), *value]
            elif name in KEPT:
                found.setdefault(name, value)
    return found


def as_toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(name)} = {as_toml(each)}" for name, each in value.items()) + "}"
    if isinstance(value, list):
        return f"[{', '.join(map(as_toml, value))}]"
    return json.dumps(value, ensure_ascii=False)


for name, value in sources([Path(sys.argv[1])] if sys.argv[1] else files()).items():
    print(f"{name} = {as_toml(value)}")
