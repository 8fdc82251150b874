"""Stops the development PostgreSQL when every process that used it was killed, so that none could stop it.

`embedded_postgres` starts this program beside the server.
"""

import fcntl
import sys
import time
from pathlib import Path
from typing import IO

USERS = "users.lock"
"""The file on which each process that uses the server holds a shared lock."""
MUTEX = "server.lock"
"""The file whose lock a process holds while it starts or stops the server."""

PAUSE = 1.0
"""Seconds between two looks."""
LOOKS = 2
"""Looks in a row that find no user. A server that was being started when its user was killed may miss the first."""


def is_only_user(file: IO[str]) -> bool:
    """Tells if no other process holds a lock on the file, and then makes the own lock exclusive."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def guard(folder: Path) -> None:
    """Returns when the server is no longer used, or at once if the folder has a guard."""
    unused = 0
    with (
        (folder / "guard.lock").open("a") as duty,
        (folder / USERS).open("a") as users,
        (folder / MUTEX).open("a") as mutex,
    ):
        while unused < LOOKS and is_only_user(duty):
            time.sleep(PAUSE)
            fcntl.flock(mutex, fcntl.LOCK_EX)
            unused = unused + 1 if is_only_user(users) else 0
            if unused and (folder / "data" / "postmaster.pid").exists():
                # Only here, as it takes more memory than all else in this program.
                from persistence.development import embedded_postgres

                embedded_postgres.stop(folder)
            if unused == LOOKS:
                # Before a user can come again, who starts another guard.
                fcntl.flock(duty, fcntl.LOCK_UN)
            fcntl.flock(users, fcntl.LOCK_UN)
            fcntl.flock(mutex, fcntl.LOCK_UN)


if __name__ == "__main__":
    guard(Path(sys.argv[1]))
