"""The needs of tests and benchmarks that start servers: a port, an environment, and a PostgreSQL reached by TCP."""

import contextlib
import os
import socket
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import override

import psutil
import psycopg

from persistence.development import embedded_postgres

_OURS = (
    "AUTH_", "AUTO_MIGRATE", "BODY_", "CORS_", "DATABASE_", "DJANGO_", "ENVIRONMENT", "GUNICORN_", "LOG_", "METRICS_",
    "NO_COLOR", "PG", "REQUEST_", "WEB_",
)  # fmt: skip


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def clean_environment() -> dict[str, str]:
    """The environment of this process without our settings, so that a test sets all that a server gets."""
    # Each of many servers would compile the project anew where Python may not keep what it compiled.
    names = os.environ.keys() - {"PYTHONDONTWRITEBYTECODE"}
    return {name: os.environ[name] for name in names if not name.startswith(_OURS)}


def each_process(data: Path, treat: Callable[[psutil.Process], None]) -> list[psutil.Process]:
    """Treats each process of the PostgreSQL with this folder of data, if it runs, and returns them."""
    treated = []
    with contextlib.suppress(FileNotFoundError, psutil.NoSuchProcess):
        postmaster = psutil.Process(int((data / "postmaster.pid").read_text().split("\n", 1)[0]))
        # It must not start a child that would be missed, as it may until it has stopped.
        postmaster.suspend()
        while postmaster.status() not in {psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE}:
            time.sleep(0.001)
        for process in (*postmaster.children(recursive=True), postmaster):
            with contextlib.suppress(psutil.NoSuchProcess):
                treat(process)
                treated.append(process)
    return treated


class TcpServer(embedded_postgres._Server):
    """The embedded server, listening on a port of 127.0.0.1 as well. `settings` are `name=value`."""

    def __init__(self, folder: Path, port: int, settings: Sequence[str]) -> None:
        super().__init__(folder, ("listen_addresses=127.0.0.1", f"port={port}", *settings))
        self._port = port

    @override
    def _create_database(self) -> None:
        # The port is a part of the socket's name, too.
        conninfo = f"host=127.0.0.1 port={self._port} user=postgres dbname=postgres"
        with psycopg.connect(conninfo, autocommit=True) as connection:
            if not connection.execute(
                "SELECT 1 FROM pg_database WHERE datname = %s", [embedded_postgres.DATABASE]
            ).fetchone():
                connection.execute(f"CREATE DATABASE {embedded_postgres.DATABASE}")
