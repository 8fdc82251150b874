"""On what something was measured: the machine and the versions of everything that takes part."""

import json
import platform
import subprocess
from pathlib import Path
from typing import Any

import psutil

from benchmarks.contenders import PEERS_PYTHON, PRODUCT_PYTHON
from benchmarks.load import WRK
from benchmarks.tables import markdown
from persistence.development import embedded_postgres

_PRODUCT = ("django", "django-ninja", "gunicorn", "orjson", "psycopg", "pydantic", "sqlalchemy", "sqlmodel")
_PEERS = ("asyncpg", "djangorestframework", "fastapi", "httptools", "starlette", "uvicorn", "uvloop")
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
        "packages": _versions(PEERS_PYTHON, _PEERS) | _versions(PRODUCT_PYTHON, _PRODUCT),
    }


def table(machine: dict[str, Any]) -> str:
    packages = ", ".join(f"{name} {version}" for name, version in sorted(machine["packages"].items()))
    rows = [
        ["processor", f"{machine['processor']}, {machine['cores']} cores"],
        ["memory", f"{machine['memory'] / 2**30:.0f} GB"],
        ["system", machine["system"]],
        ["Python", machine["python"]],
        ["PostgreSQL", machine["postgresql"]],
        ["wrk", machine["wrk"]],
        ["packages", packages],
    ]
    return markdown(["What", "Which"], rows)


def _versions(python: str, names: tuple[str, ...]) -> dict[str, str]:
    """Of packages of another environment."""
    versions: dict[str, str] = json.loads(_output(python, "-c", _ASK, *names))
    return versions


def _output(*command: str) -> str:
    """What a program prints; wrk does so with an error status."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own commands
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
        return f"{platform.system()} {platform.check_in()}"
