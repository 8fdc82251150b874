"""Stops the development PostgreSQL when every process that used it was killed, so that none could stop it.

`embedded_postgres` starts this program beside the server.
"""

import fcntl
import sys
import time
from pathlib import Path


def guard(users: Path) -> None:
    """Waits until no process uses the server, and stops it if it runs. `users` is the file that its users lock."""
    folder = users.parent
    for pause in (1, 0):
        # Opened anew each time, because the folder may have been removed and made again.
        with users.open("r+") as lock:
            # The kernel drops the lock of a user whatever ends it. New users wait until this lock is dropped.
            fcntl.flock(lock, fcntl.LOCK_EX)
            if (folder / "data" / "postmaster.pid").exists():
                # Only here, as it takes more memory than all else in this program.
                from persistence.development import embedded_postgres

                embedded_postgres.stop(folder)
        # If a user was killed while it started the server, the server may come up a moment later.
        time.sleep(pause)


if __name__ == "__main__":
    guard(Path(sys.argv[1]))
