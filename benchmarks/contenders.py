"""The contenders: this project, what people would pick instead, and a lower bound for Python."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import data, wrk
from benchmarks.postgres import address
from benchmarks.processes import ROOT, Server
from tests.support.processes import free_port

POOL = 15
"""Database connections that each server may open: FastAPI's documented 5 and an overflow of 10."""

PRODUCTION_PYTHON = os.environ.get("BENCH_PRODUCTION_PYTHON", str(ROOT / ".venv-production/bin/python"))
"""The environment with exactly the packages that are deployed, because others could change how this project runs."""
PEERS_PYTHON = os.environ.get("BENCH_PEERS_PYTHON", str(ROOT / ".venv-bench/bin/python"))
FASTIFY = ROOT / "benchmarks/peers/fastify"
"""The folder of the contenders on Node."""

type Command = Callable[[int], list[str]]
"""Returns the command that starts a server on a port."""


def _gunicorn(python: str, *arguments: str) -> Command:
    return lambda port: [python, "-m", "gunicorn", "--bind", f"127.0.0.1:{port}", "--workers", "1", *arguments]


def _gunicorn_with_threads(application: str) -> Command:
    # Each thread has a database connection of its own, and another thread runs while it waits for the database.
    return _gunicorn(
        PEERS_PYTHON, "--worker-class", "gthread", "--threads", str(POOL), "--keep-alive", "65", application
    )


def _uvicorn(application: str) -> Command:
    return lambda port: [
        PEERS_PYTHON, "-m", "uvicorn", application, "--host", "127.0.0.1", "--port", str(port),
        "--loop", "uvloop", "--http", "httptools", "--no-access-log", "--log-level", "warning",
    ]  # fmt: skip


def _node(program: str) -> Command:
    # The program reads its port from the environment.
    return lambda _: ["node", str(FASTIFY / f"build/{program}.js")]


@dataclass(frozen=True)
class Contender:
    name: str
    title: str
    command: Command
    environment: Mapping[str, str] = field(default_factory=dict)
    probe: str = f"/api/{data.user_id(1)}/tasks?limit=1"
    """The path that is answered with 200 when the server is up."""
    folder: Path = ROOT
    """Where its files are."""

    def server(self, database_port: int, folder: Path) -> Server:
        """Returns a server, not yet started, of one process; its database listens on a port of 127.0.0.1."""
        port = free_port()
        environment = {**self.environment, "DATABASE_URL": address(database_port), "PORT": str(port)}
        return Server(self.command(port), environment, port, folder / f"{self.name}.log", self.folder)


THIS_PROJECT = Contender(
    "this_project",
    "this project",
    _gunicorn(PRODUCTION_PYTHON, "-c", "python:config.gunicorn"),
    # None of the others logs requests.
    {"ENVIRONMENT": "production", "AUTH_MODE": "trusted", "LOG_LEVEL": "WARNING", "DATABASE_POOL_MAX": str(POOL)},
)
FASTAPI = Contender("fastapi", "FastAPI + SQLModel", _uvicorn("benchmarks.peers.fastapi_sqlmodel:app"))
NINJA = Contender("ninja", "Django Ninja + Django ORM", _gunicorn_with_threads("benchmarks.peers.ninja_orm.wsgi"))
DRF = Contender("drf", "REST Framework + Django ORM", _gunicorn_with_threads("benchmarks.peers.drf_orm.wsgi"))
FASTIFY_DRIZZLE = Contender("fastify_drizzle", "Fastify + Drizzle", _node("drizzle"), {"NODE_ENV": "production"})
FASTIFY_PG = Contender("fastify_pg", "Fastify + node-postgres", _node("node_postgres"), {"NODE_ENV": "production"})
LOWER_BOUND = Contender("lower_bound", "lower bound", _uvicorn("benchmarks.peers.bare:app"))
NO_RESET = Contender("no_reset", "lower bound, no reset", LOWER_BOUND.command, {"POOL_RESET": "no"})

CONTENDERS = (THIS_PROJECT, FASTAPI, NINJA, DRF, FASTIFY_DRIZZLE, FASTIFY_PG, LOWER_BOUND, NO_RESET)
TITLES = {contender.name: contender.title for contender in CONTENDERS}


def missing() -> list[str]:
    """Returns a sentence for each thing that has to be installed first."""
    pythons = [python for python in (PRODUCTION_PYTHON, PEERS_PYTHON) if not shutil.which(python)]
    found = [f"{python} is missing: `make bench-setup` makes it" for python in pythons]
    if not (shutil.which("node") and (FASTIFY / "build").exists()):
        found.append(f"{FASTIFY}/build is missing: install Node 20 and npm, then `make bench-setup` makes it")
    return found + ([] if wrk.WRK else [wrk.HOW_TO_GET_WRK])


@contextmanager
def serving(database_port: int, chosen: Sequence[Contender] = CONTENDERS) -> Iterator[dict[str, Server]]:
    """Starts contenders on a database with rows, and yields their servers by name when each of them answers."""
    with tempfile.TemporaryDirectory(prefix="todo-benchmark-logs-") as folder, ExitStack() as stack:
        servers = {}
        for contender in chosen:
            servers[contender.name] = contender.server(database_port, Path(folder)).start()
            stack.callback(servers[contender.name].stop)
        for contender in chosen:
            servers[contender.name].wait(contender.probe)
        yield servers
