"""The reason why a database cannot be reached or used, and what to do about it, in words for its administrator."""

import re
from dataclasses import dataclass
from typing import override

import psycopg

from persistence.postgres.errors import explain


@dataclass(frozen=True)
class Diagnosis:
    """The words of the server or the network, in one line, and a hint; neither holds the password."""

    problem: str
    hint: str

    @override
    def __str__(self) -> str:
        return f"{self.problem}. {self.hint}".rstrip()


GRANT = "Run `manage.py grant_app` for the server's role, or set DATABASE_URL_DIRECT (docs/database.md, Rights)."
_HINTS = {
    r"timeout|timed out": "Nothing answered in time: check the host, the port and any firewall between.",
    r"translate host name|name or service not known|failed to resolve|no address associated": (
        "The host name is unknown: check its spelling, and that DNS works here."
    ),
    r"certificate|\bssl\b|\btls\b": (
        "The TLS connection cannot be made or trusted: check the host name, sslmode and sslrootcert in DATABASE_URL."
    ),
    r"authentication failed|no password supplied": (
        "Check the user and the password in DATABASE_URL; they may have been rotated."
    ),
    r"not permitted to log in": "The role may not log in: ALTER ROLE ... LOGIN, or check the user in DATABASE_URL.",
    r"permission denied for database": GRANT,
    r'role ".*" does not exist': "There is no such user: check the user in DATABASE_URL.",
    r'database ".*" does not exist': "Create the database, or check its name at the end of DATABASE_URL.",
    r"too many clients|too many connections|no more connections|remaining connection slots": (
        "The server has no connection left: lower DATABASE_POOL_MAX or the number of workers, or raise its limit."
    ),
    r"starting up|shutting down|recovery": "The server is starting or stopping: try again in a moment.",
    r"connection refused": "No server listens there: check the host and the port, and that PostgreSQL runs.",
    r"is the oldest": "Upgrade the server, or set DATABASE_URL to a newer one.",
    r"its encoding is": "Make another database: CREATE DATABASE ... TEMPLATE template0 ENCODING 'UTF8'.",
    r"no such file or directory": "There is no such socket: check `host=` in DATABASE_URL, and that PostgreSQL runs.",
}
_NOT_SEEN = "Run `manage.py migrate_sql`, or let the role and its search_path see the schema that has the tables."
_HINTS_BY_SQLSTATE = {
    "25006": "The server only reads, as a standby or by a setting: DATABASE_URL has to lead to one that writes.",
    "42501": GRANT,
    "42P01": _NOT_SEEN,
    "42704": _NOT_SEEN,
    "42": "Run `manage.py migrate_sql`.",
}
_OTHER_HINT = "Check DATABASE_URL and its query parameters; docs/configuration.md explains them."


def diagnose(error: BaseException) -> Diagnosis:
    """Reads the SQLSTATE, or libpq's message: most failures to connect have none."""
    if isinstance(error, psycopg.Error) and (state := error.sqlstate):
        return Diagnosis(explain(error), _HINTS_BY_SQLSTATE.get(state) or _HINTS_BY_SQLSTATE.get(state[:2]) or "")
    if isinstance(error, TimeoutError | psycopg.errors.ConnectionTimeout):
        problem = "the connection timed out"
    else:
        problem = _statement(str(error)) or type(error).__name__
    hint = next((hint for pattern, hint in _HINTS.items() if re.search(pattern, problem, re.IGNORECASE)), _OTHER_HINT)
    return Diagnosis(problem, hint)


def _statement(text: str) -> str:
    # libpq repeats itself for each address that a name has, so the last line counts, but for the questions it asks, the
    # advice it gives, and what the server adds to its message.
    lines = [line.strip() for line in text.splitlines()]
    added = ("Either provide", "DETAIL:", "HINT:")
    said = [line for line in lines if line and not line.endswith("?") and not line.startswith(added)]
    return said[-1].rstrip(".") if said else ""
