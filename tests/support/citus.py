"""A cluster of Citus that runs on this machine: a database of a test's own on its nodes, and its nodes as processes.

`CITUS_TEST_URL` names its coordinator, as a superuser, and two workers belong to it. The nodes need
`wal_level=logical`.
"""

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Self
from uuid import uuid4

import psutil
import psycopg

from persistence.development import embedded_postgres
from persistence.postgres.dsn import Dsn
from tests.support.databases import database_on, execute
from tests.support.nodes import connect_nodes, nodes_of
from tests.support.processes import each_process
from tests.support.servers import LONG, eventually

VARIABLE = "CITUS_TEST_URL"
MISSING = f"{VARIABLE} does not name a coordinator of Citus with two workers"


def servers() -> list[Dsn]:
    """The coordinator and its workers, with the database that `CITUS_TEST_URL` names. Empty without that variable."""
    if not (url := os.environ.get(VARIABLE)):
        return []
    nodes = nodes_of(Dsn.parse(url))
    assert len(nodes) >= 3, MISSING
    return nodes


def version(server: Dsn) -> str:
    """The versions of Citus and of PostgreSQL."""
    query = "SELECT extversion || ' on PostgreSQL ' || current_setting('server_version') FROM pg_extension"
    with psycopg.connect(server.conninfo) as connection:
        [(text,)] = connection.execute(f"{query} WHERE extname = 'citus'".encode()).fetchall()
    return str(text)


@contextmanager
def new_database(servers: Sequence[Dsn], known: int | None = None) -> Iterator[list[Dsn]]:
    """An empty database on all servers. Its coordinator, which comes first, knows as many of them as `known` says.

    Two databases must not be spread, nor have shards moved, at once: their replication slots have the same names.
    """
    with database_on(servers) as nodes:
        connect_nodes(nodes, known)
        try:
            yield nodes
        finally:
            with contextlib.suppress(psycopg.Error):
                # What a move or a two-phase commit has left behind would keep the database from being dropped.
                execute(nodes[0], "SELECT recover_prepared_transactions()", "CALL citus_cleanup_orphaned_resources()")


@contextmanager
def new_role(coordinator: Dsn) -> Iterator[str]:
    """A role on all nodes, as that of a server, with no rights yet."""
    name = f"role_{uuid4().hex}"
    execute(coordinator, f"CREATE ROLE {name} LOGIN")
    try:
        yield name
    finally:
        execute(coordinator, f"DROP OWNED BY {name}", f"DROP ROLE {name}")


class Node:
    """A node that runs, which may be mistreated. At the end of the block it runs with the settings from before."""

    def __init__(self, dsn: Dsn) -> None:
        self.dsn = dsn
        with psycopg.connect(dsn.conninfo) as connection:
            rows = connection.execute("SELECT setting, pg_read_file('postmaster.pid') FROM pg_settings"
                                      " WHERE name = 'data_directory'").fetchall()  # fmt: skip
        [(folder, pid_file)] = rows
        self._data = Path(folder)
        postmaster = psutil.Process(int(pid_file.split("\n", 1)[0]))
        self._command, self._environment = postmaster.cmdline(), postmaster.environ()
        self._folder, self._log = postmaster.cwd(), Path(f"/proc/{postmaster.pid}/fd/2").readlink()
        self._run_as = embedded_postgres._unprivileged(self._data)[1]
        self._configured = list[str]()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.thaw()
        if not self._is_accepting():
            self.start()
        self.reset()

    @property
    def address(self) -> tuple[str, int]:
        """The host and the port by which the other nodes know it."""
        return self.dsn.host, int(self.dsn.parameters["port"])

    def start(self) -> None:
        """Runs the command line that it was started with, as the same user, and waits until it accepts connections."""
        with contextlib.ExitStack() as stack:
            log = stack.enter_context(self._log.open("a")) if self._log.is_file() else subprocess.DEVNULL
            subprocess.run(
                ["setsid", "--fork", *self._run_as, *self._command],
                cwd=self._folder, env=self._environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=True,
            )  # fmt: skip
        eventually(self._is_accepting)

    def stop(self) -> None:
        """Ends it as an administrator would: clients are disconnected at once."""
        postmaster = self._postmaster()
        postmaster.send_signal(signal.SIGINT)
        postmaster.wait(LONG)

    def kill(self) -> None:
        """Ends every process of it at once, as a power cut would."""
        psutil.wait_procs(each_process(self._data, psutil.Process.kill), timeout=LONG)

    def freeze(self) -> None:
        """Stalls it: the network still takes what clients send, and no answer comes."""
        each_process(self._data, psutil.Process.suspend)

    def thaw(self) -> None:
        each_process(self._data, psutil.Process.resume)

    def configure(self, name: str, value: str) -> None:
        """Alters a setting of the whole node until `reset`."""
        self._configured.append(name)
        execute(self.dsn, f"ALTER SYSTEM SET {name} = '{value}'", "SELECT pg_reload_conf()")

    def reset(self) -> None:
        while self._configured:
            execute(self.dsn, f"ALTER SYSTEM RESET {self._configured[-1]}", "SELECT pg_reload_conf()")
            self._configured.pop()

    def _postmaster(self) -> psutil.Process:
        return psutil.Process(int((self._data / "postmaster.pid").read_text().split("\n", 1)[0]))

    def _is_accepting(self) -> bool:
        with contextlib.suppress(psycopg.OperationalError):
            psycopg.connect(self.dsn.conninfo, connect_timeout=2).close()
            return True
        return False
