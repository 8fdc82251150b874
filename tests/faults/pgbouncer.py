"""A real PgBouncer in transaction mode, in front of a PostgreSQL on this machine."""

import contextlib
import os
import shutil
import socket
import subprocess
import time
from pathlib import Path
from typing import Any, Self

import psycopg

from persistence.development import embedded_postgres
from tests.faults.certificates import Certificate
from tests.support.processes import free_port

# Where Debian puts it is not on every user's path.
_PROGRAM = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/usr/local/sbin")
START_TIMEOUT = 10.0
ADMINISTRATOR = "administrator"


def available() -> bool:
    return _PROGRAM is not None


class PgBouncer:
    """Everybody on this machine may connect to `port` as `postgres`; what he does is done as `postgres` at `target`.

    At most `pool_size` connections go on to PostgreSQL. With a certificate, clients must use TLS. Further
    `settings` are those of its configuration file.
    """

    def __init__(
        self,
        folder: Path,
        target: int,
        *,
        pool_size: int = 16,
        certificate: Certificate | None = None,
        **settings: object,
    ) -> None:
        self.port = free_port()
        self.pool_size = pool_size
        self._folder = folder
        self._uses_tls = certificate is not None
        self._settings: dict[str, object] = {
            "listen_addr": "127.0.0.1",
            "listen_port": self.port,
            "unix_socket_dir": "",
            "pool_mode": "transaction",
            "default_pool_size": pool_size,
            "max_client_conn": 1000,
            # A login that fails, or that PAUSE cuts off, otherwise keeps every client waiting for 15 seconds.
            "server_login_retry": 0.2,
            "auth_type": "trust",
            "auth_file": folder / "users",
            "admin_users": ADMINISTRATOR,
            "logfile": folder / "log",
        }
        if certificate:
            self._settings |= {"client_tls_sslmode": "require", "client_tls_cert_file": certificate.file}
            self._settings |= {"client_tls_key_file": certificate.key}
        self._settings |= settings
        self._database = f"{embedded_postgres.DATABASE} = host=127.0.0.1 port={target} dbname={embedded_postgres.DATABASE} user=postgres"

    def __enter__(self) -> Self:
        self._folder.mkdir()
        self._folder.chmod(0o777)
        (self._folder / "users").write_text(f'"postgres" ""\n"{ADMINISTRATOR}" ""\n')
        lines = ["[databases]", self._database, "[pgbouncer]"]
        lines += [f"{name} = {value}" for name, value in self._settings.items()]
        (self._folder / "pgbouncer.ini").write_text("\n".join(lines) + "\n")
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/{embedded_postgres.DATABASE}"

    @property
    def log(self) -> str:
        return (self._folder / "log").read_text()

    def start(self) -> None:
        assert _PROGRAM
        # It refuses to run as root, as PostgreSQL does.
        _, run_as = embedded_postgres._unprivileged(self._folder / "none")
        command = [*run_as, _PROGRAM, "--quiet", str(self._folder / "pgbouncer.ini")]
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
        deadline = time.monotonic() + START_TIMEOUT
        while not self._listens():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise AssertionError(f"PgBouncer did not start:\n{self.log}")
            time.sleep(0.01)

    def stop(self) -> None:
        """Ends it at once, and with it every connection."""
        self._process.terminate()
        self._process.wait(10)

    def restart(self) -> None:
        self.stop()
        self.start()

    def pause(self) -> None:
        """Keeps clients waiting once they have finished their transactions; returns when all have."""
        self.tell("PAUSE")

    def resume(self) -> None:
        self.tell("RESUME")

    def tell(self, command: str) -> list[tuple[Any, ...]]:
        """Gives a command to its console."""
        sslmode = "require" if self._uses_tls else "disable"
        conninfo = f"host=127.0.0.1 port={self.port} dbname=pgbouncer user={ADMINISTRATOR} sslmode={sslmode}"
        with psycopg.connect(conninfo, autocommit=True, prepare_threshold=None) as console:
            cursor = console.execute(command)
            return cursor.fetchall() if cursor.description else []

    def _listens(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port)):
            return True
        return False
