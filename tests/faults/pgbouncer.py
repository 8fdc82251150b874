"""A real PgBouncer in transaction mode, in front of a PostgreSQL on this machine."""

import contextlib
import os
import shutil
import socket
import subprocess
import time
from pathlib import Path
from typing import Self

import psycopg

from persistence.development import embedded_postgres
from persistence.development.embedded_postgres import DATABASE
from tests.faults.certificates import Certificate
from tests.support.processes import free_port

# Debian installs it in a directory that is not in the PATH of every user.
PROGRAM = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/usr/local/sbin")
START_TIMEOUT = 10.0
ADMINISTRATOR = "administrator"


def available() -> bool:
    return PROGRAM is not None


class PgBouncer:
    """Accepts every client on this machine as `role`, and connects to `target` as `role`.

    It opens at most `pool_size` connections to PostgreSQL. With a certificate, clients must use TLS.
    """

    def __init__(
        self,
        folder: Path,
        target: int,
        pool_size: int = 16,
        certificate: Certificate | None = None,
        role: str = "postgres",
    ) -> None:
        self.port = free_port()
        self.url = f"postgresql://{role}@127.0.0.1:{self.port}/{DATABASE}"
        self._folder = folder
        self._role = role
        self._conninfo = f"host=127.0.0.1 port={self.port} dbname=pgbouncer user={ADMINISTRATOR}"
        self._conninfo += f" sslmode={'require' if certificate else 'disable'}"
        settings = {
            "listen_addr": "127.0.0.1",
            "listen_port": self.port,
            "unix_socket_dir": "",
            "pool_mode": "transaction",
            "default_pool_size": pool_size,
            "max_client_conn": 1000,
            # After a failed login, or one that PAUSE interrupts, every client otherwise waits for 15 seconds.
            "server_login_retry": 0.2,
            "auth_type": "trust",
            "auth_file": folder / "users",
            "admin_users": ADMINISTRATOR,
            "logfile": folder / "log",
        }
        if certificate:
            settings |= {"client_tls_sslmode": "require", "client_tls_cert_file": certificate.file}
            settings["client_tls_key_file"] = certificate.key
        database = f"{DATABASE} = host=127.0.0.1 port={target} dbname={DATABASE} user={role}"
        lines = ["[databases]", database, "[pgbouncer]", *(f"{name} = {value}" for name, value in settings.items())]
        self._configuration = "\n".join([*lines, ""])

    def __enter__(self) -> Self:
        self._folder.mkdir()
        self._folder.chmod(0o777)
        (self._folder / "users").write_text(f'"{self._role}" ""\n"{ADMINISTRATOR}" ""\n')
        (self._folder / "pgbouncer.ini").write_text(self._configuration)
        self._start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    @property
    def log(self) -> str:
        return (self._folder / "log").read_text()

    def restart(self) -> None:
        """Stops it at once, which ends every connection, and starts it at the same address."""
        self._stop()
        self._start()

    def pause(self) -> None:
        """Makes clients wait before their next transaction. Returns when all have finished the current one."""
        self._tell("PAUSE")

    def resume(self) -> None:
        self._tell("RESUME")

    def _start(self) -> None:
        assert PROGRAM
        # PgBouncer refuses to run as root, as PostgreSQL does.
        _, run_as = embedded_postgres._unprivileged(self._folder / "none")
        command = [*run_as, PROGRAM, "--quiet", str(self._folder / "pgbouncer.ini")]
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
        deadline = time.monotonic() + START_TIMEOUT
        while not self._listens():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self._stop()
                raise AssertionError(f"PgBouncer did not start:\n{self.log}")
            time.sleep(0.01)

    def _stop(self) -> None:
        self._process.terminate()
        self._process.wait(10)

    def _tell(self, command: str) -> None:
        with psycopg.connect(self._conninfo, autocommit=True, prepare_threshold=None) as console:
            console.execute(command.encode())

    def _listens(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port)):
            return True
        return False
