"""The machine of a run, and the versions of everything that takes part in it."""

import json
import platform
import subprocess
from pathlib import Path
from typing import Any

import psutil

from benchmarks.contenders import FASTIFY, PEERS_PYTHON, PRODUCTION_PYTHON
from benchmarks.tables import markdown
from benchmarks.wrk import WRK
from persistence.development import embedded_postgres

_PRODUCTION = ("django", "django-ninja", "gunicorn", "orjson", "psycopg", "pydantic", "sqlalchemy", "sqlmodel")
_PEERS = ("asyncpg", "djangorestframework", "fastapi", "httptools", "starlette", "uvicorn", "uvloop")
_NODE_PEERS = ("drizzle-orm", "fastify", "pg")
_ASK = "import importlib.metadata as m, json, sys; print(json.dumps({n: m.version(n) for n in sys.argv[1:]}))"


def describe() -> dict[str, Any]:
    return {
        "processor": _processor(),
        "cores": psutil.cpu_count(),
        "memory": psutil.virtual_memory().total,
        "system": _system(),
        "python": platform.python_version(),
        "postgresql": _output(str(embedded_postgres._binaries() / "postgres"), "--version").split()[-1],  # noqa: SLF001
        "wrk": _output(WRK, "-v").split()[1] if WRK else "missing",
        "node": _output("node", "--version").strip().removeprefix("v"),
        "packages": _versions(PEERS_PYTHON, _PEERS) | _versions(PRODUCTION_PYTHON, _PRODUCTION) | _node_versions(),
    }


def table(machine: dict[str, Any]) -> str:
    packages = ", ".join(f"{name} {version}" for name, version in sorted(machine["packages"].items()))
    rows = [
        ["processor", f"{machine['processor']}, {machine['cores']} cores"],
        ["memory", f"{machine['memory'] / 2**30:.0f} GB"],
        ["system", machine["system"]],
        ["Python", machine["python"]],
        ["Node", machine["node"]],
        ["PostgreSQL", machine["postgresql"]],
        ["wrk", machine["wrk"]],
        ["packages", packages],
    ]
    return markdown(["Part", "Version"], rows)


def _versions(python: str, names: tuple[str, ...]) -> dict[str, str]:
    """Returns the versions of packages in another environment."""
    versions: dict[str, str] = json.loads(_output(python, "-c", _ASK, *names))
    return versions


def _node_versions() -> dict[str, str]:
    descriptions = {name: FASTIFY / "node_modules" / name / "package.json" for name in _NODE_PEERS}
    return {name: json.loads(path.read_text())["version"] for name, path in descriptions.items()}


def _output(*command: str) -> str:
    """Returns what a program prints. wrk prints its version with an error status."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - the commands are our own
    return done.stdout + done.stderr


def _processor() -> str:
    listed = Path("/proc/cpuinfo")
    if listed.exists():
        for line in listed.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return _output("sysctl", "-n", "machdep.cpu.brand_string").strip() if platform.system() == "Darwin" else "unknown"


def _system() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except OSError:
        return f"{platform.system()} {platform.release()}"
