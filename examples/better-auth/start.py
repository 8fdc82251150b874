"""Runs server.js in the development database: `make auth`."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from psycopg.pq import Conninfo

HERE = Path(__file__).parent
DEFAULTS = {
    "BETTER_AUTH_URL": "http://localhost:3000",
    "API_URL": "http://127.0.0.1:8000",
    # Signs the cookies and encrypts the keys in the database; so it has to stay. In production it is a real secret.
    "BETTER_AUTH_SECRET": "for-development-only-and-known-to-all",
}


def main() -> int:
    # The program stands beside the packages, not among them.
    sys.path.insert(0, str(HERE.parents[1]))
    from config.env import env

    if env.auth_mode != "jwt":
        print("The API asks for no tokens yet; docs/authentication.md says what to put into .env.")
    # It makes tables of its own.
    with env.database_location_direct.running() as dsn:
        # libpq's variables, which `pg` reads, too.
        names = {option.keyword.decode(): (option.envvar or b"").decode() for option in Conninfo.get_defaults()}
        database = {names[name]: value for name, value in dsn.parameters.items() if names[name]}
        if database.get("PGSSLMODE") == "prefer":
            # `pg` would insist on TLS.
            del database["PGSSLMODE"]
        node = subprocess.Popen(
            ["node", "server.js"],  # noqa: S607 - the developer's own
            cwd=HERE,
            env={**DEFAULTS, **os.environ, **database},
        )
        # Ctrl-C at the terminal reaches Node, too.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, lambda *_: node.terminate())
        return node.wait()


if __name__ == "__main__":
    sys.exit(main())
