import asyncio
import os
import signal
import socket
import sys
from typing import Any, override
from uuid import UUID

from django.conf import settings
from django.core.management.base import CommandParser

from persistence import migrator
from persistence.postgres.dsn import Dsn
from todos import seed
from todos.management.base import Command as BaseCommand
from todos.management.base import Error, located_database, opened_database

DEFAULT_ADDRESS = "127.0.0.1:8000"
SIGN_IN = {
    "jwt": "a bearer token is needed (AUTH_MODE=jwt)",
    "trusted": "left to a gateway in front (AUTH_MODE=trusted)",
    "open": "none (AUTH_MODE=open): every client that reaches this port can read and change all tasks",
}


class Command(BaseCommand):
    help = "Serves the API as in production, but with one worker, and takes each change of the code."

    @override
    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "address", nargs="?", default=DEFAULT_ADDRESS, metavar="[HOST:]PORT", help=f"default: {DEFAULT_ADDRESS}"
        )
        parser.add_argument("--seed", action="store_true", help="migrate and make the development data first")
        parser.add_argument("--noreload", action="store_true", help="do not take changes of the code")

    @override
    def handle(self, *args: Any, address: str, **options: Any) -> None:
        if settings.IS_PRODUCTION:
            raise Error("runserver is for development; in production run `gunicorn -c python:config.gunicorn`.")
        host, port = _split(address)
        _check_free(host, port)
        if options["seed"]:
            with located_database(direct=True) as dsn:
                migrator.migrate(dsn, connect_timeout=settings.DATABASE_OPTIONS.connect_timeout)
                user_id = asyncio.run(_seed(dsn))
            self._welcome(f"http://{host}:{port}", user_id)
        self.stdout.flush()
        # Python would end with a traceback while it loads gunicorn. Ctrl-C waits until config/gunicorn.py is there.
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
        # This process becomes gunicorn, so that signals and an end by kill -9 reach the server itself.
        os.execv(  # noqa: S606 - our own interpreter with our own arguments
            sys.executable,
            [
                sys.executable, "-m", "gunicorn", "-c", "python:config.gunicorn", "--bind", f"{host}:{port}",
                *([] if options["noreload"] else ["--reload"]),
            ],
        )  # fmt: skip

    def _welcome(self, url: str, user_id: UUID) -> None:
        user, name, token = str(user_id), seed.EMAIL, ""
        if settings.AUTH_MODE == "jwt":
            user, name, token = "me", "the user of a token in $TOKEN", ' -H "Authorization: Bearer $TOKEN"'
        tasks = f"{url}/api/{user}/tasks{token}"
        self.stdout.write(
            f"\n  Documentation:  {url}/api/docs\n"
            f"  Health:         {url}/api/v1/health\n"
            f"  Sign-in:        {SIGN_IN[settings.AUTH_MODE]}\n\n"
            f"  Try it, as {name}:\n\n"
            f"    curl {tasks}\n"
            f"    curl {tasks} -H 'Content-Type: application/json' -d '{{\"title\": \"Water the plants\"}}'\n"
            f"    curl {url}/api/v1/health\n\n"
            "  Ctrl-C stops the server and the database.\n"
        )


async def _seed(dsn: Dsn) -> UUID:
    async with opened_database(dsn) as database:
        return (await seed.seed(database)).user_id


def _split(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    if not (port.isascii() and port.isdigit()) or not 1 <= int(port) <= 65535:
        raise Error(f"{address!r} is not an address; write a port from 1 to 65535, or HOST:PORT.")
    return host or "127.0.0.1", int(port)


def _check_free(host: str, port: int) -> None:
    """Raises `Error` for a port in use now, rather than after the database has started."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise Error(
                f"Cannot listen on {host}:{port}: {error.strerror}. Choose another port, as in `make run PORT=8001`."
            ) from error
