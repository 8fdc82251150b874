"""The errors of the database, told apart by SQLSTATE and by the state of the connection.

Never by psycopg's classes, which mislead: 25006 (read only) and 25P03 (idle in transaction) come as `InternalError`,
and a lost connection comes without a code.
"""

import re
from dataclasses import dataclass

import psycopg


class Unavailable(Exception):
    """The database cannot serve this now, and may soon; nothing has happened. Nothing in the text is secret."""

    retry_after = 1
    """Seconds after which a client may try again."""


class PoolTimeout(Unavailable):
    """No connection came free in time (D13), or none would."""


class DeadlineExceeded(Unavailable):
    """The statement did not finish in time and was cut off."""


class OutcomeUnknown(Unavailable):
    """A write was sent and its answer was lost: it may have happened, or not."""


class SchemaMismatch(Unavailable):
    """The database lacks something that a statement names: it is not migrated to what the code needs."""

    retry_after = 30


class ConstraintViolated(Exception):
    """The database refused a value; `constraint` is the name of the rule, from `persistence.models`."""

    def __init__(self, constraint: str) -> None:
        super().__init__(constraint)
        self.constraint = constraint


class UniqueViolated(ConstraintViolated):
    """The value exists already."""


class ForeignKeyViolated(ConstraintViolated):
    """The value refers to a row that does not exist."""


class InvalidValue(Exception):
    """A value that PostgreSQL cannot store at all, such as text with a NUL character."""


@dataclass(frozen=True)
class Rule:
    """The consequences of an SQLSTATE, or of a whole class of them."""

    meaning: str
    becomes: type[Exception] = Unavailable
    is_retried: bool = False
    """The statement runs again when it is a read or cannot have happened (`database.py` decides)."""
    is_renewed: bool = False
    """The connection is replaced, as a new one may lead to a server that can."""


RULES = {
    "": Rule("no code: the connection was lost", is_retried=True),
    "08": Rule("connection exception; a pooler says so as well", is_retried=True),
    "22": Rule("a value that is out of its range", InvalidValue),
    "23": Rule("a constraint refuses the value", ConstraintViolated),
    "23503": Rule("what the value refers to does not exist", ForeignKeyViolated),
    "23505": Rule("the value exists already", UniqueViolated),
    "25P03": Rule("`idle_in_transaction_session_timeout` of the server"),
    "25P04": Rule("`transaction_timeout` of the server"),
    "25006": Rule("read-only transaction: a standby, or a server that was told so", is_renewed=True),
    "28": Rule("invalid authorization: credentials expired or rotated"),
    "3D000": Rule("the database does not exist (any more)"),
    "40": Rule("transaction rollback: deadlock or serialization failure", is_retried=True),
    "40003": Rule("it is not known if the statement was completed"),
    "42501": Rule("insufficient privilege: rights were revoked, or never granted"),
    "42703": Rule("there is no such column", SchemaMismatch),
    "42704": Rule("there is no such type", SchemaMismatch),
    "42804": Rule("a column has another type", SchemaMismatch),
    "42883": Rule("there is no such function or operator", SchemaMismatch),
    "42P01": Rule("there is no such table", SchemaMismatch),
    "42P10": Rule("there is no such key", SchemaMismatch),
    "53": Rule("insufficient resources: connections, memory, disk"),
    "55": Rule("an object is in use, or not in the state that is needed"),
    "55P03": Rule("a lock is not available within `lock_timeout`", is_retried=True),
    "57": Rule("operator intervention: a cancelled statement, a server that starts or crashes"),
    "57P01": Rule("the server ended the connection: a shutdown, or an administrator", is_retried=True),
    "57P05": Rule("the server ended the connection: it was idle for too long", is_retried=True),
    "58": Rule("system error: I/O"),
    "CI": Rule("Citus: a part of the statement failed, or its rows are on the move", is_retried=True),
}
"""Rules by SQLSTATE or, where that has none of its own, by its class. An error without a rule is unexpected."""

INTERNAL = "XX000"
"""PostgreSQL's mistakes, and every error of Citus to which Citus gives no code."""
MEANT_BY_CITUS = {
    "could not find valid entry for shard": "CI",
    "server closed the connection unexpectedly": "08006",
    "could not commit transaction for shard": "08006",
    "failure on connection marked as essential": "08006",
}
"""What stands for such an error of Citus, by the beginning of its message, which has no translations. The first comes
when rows are moved between the planning of a statement and its run, the others when a node is lost on the way."""
NO_SUCH_KEY = "42P10"
"""Said of an ON CONFLICT that names columns which no constraint keeps unique."""
ENDED_BY_SERVER = ("25P04", "57P01", "57P05")
"""Told by a server process that ends in good order: it rolls back what it has not committed."""
IN_DOUBT = ("08", "25P03", "25P04", "40003", "57P")
"""Classes and SQLSTATEs of a connection that is lost. If it goes on, a pooler or a coordinator has lost a connection of
its own, and a write may have happened or not."""


def is_in_doubt(error: psycopg.Error) -> bool:
    """Tells if an error leaves it open whether a transaction was committed; psycopg's own, without a code, does."""
    return (_state_of(error) or "08").startswith(IN_DOUBT)


def _state_of(error: psycopg.Error) -> str | None:
    if error.sqlstate != INTERNAL:
        return error.sqlstate
    message = error.diag.message_primary or ""
    return next((state for begin, state in MEANT_BY_CITUS.items() if message.startswith(begin)), INTERNAL)


def rule_for(error: psycopg.Error) -> Rule | None:
    state = _state_of(error)
    if state is not None:
        return RULES.get(state) or RULES.get(state[:2])
    # psycopg's own: it cannot write a value down, has lost the connection, or was used wrongly.
    if isinstance(error, psycopg.DataError):
        return RULES["22"]
    return RULES[""] if isinstance(error, psycopg.OperationalError) else None


def cause_of(error: BaseException | None) -> psycopg.Error | None:
    """The server's error behind an error, or None: psycopg's own, what this module made of it, or SQLAlchemy's."""
    while error is not None and getattr(error, "sqlstate", None) is None:
        error = error.__cause__
    return error if isinstance(error, psycopg.Error) else None


def explain(error: psycopg.Error) -> str:
    """The server's own words in one line."""
    return f"{error.sqlstate}: {error.diag.message_primary}"


def for_log(error: Unavailable) -> str:
    """The error with the server's reason, for the log: no value of a row is in the primary message of these errors."""
    origin = cause_of(error)
    return f"{error} ({explain(origin)})" if origin else str(error)


def _broken(error: psycopg.Error) -> str:
    """The name of the rule, or of the column that may not be null."""
    if name := error.diag.constraint_name or error.diag.column_name:
        return name
    # Citus hands on the words alone, with the number of the shard.
    found = re.search(r'(?:constraint|column) "(.+?)(?:_\d+)?"', error.diag.message_primary or "")
    return found[1] if found else "unknown"


def translate(error: psycopg.Error, *, nothing_happened: bool) -> Exception:
    """The error of this module that says what happened, or the same error when it is unexpected.

    `from error` keeps the original for the log; its text may hold values of a row, so it must not reach a client.
    """
    rule = rule_for(error)
    if rule is None:
        return error
    if issubclass(rule.becomes, ConstraintViolated):
        return rule.becomes(_broken(error))
    if rule.becomes is InvalidValue:
        return InvalidValue(
            "A value is out of its range." if error.sqlstate else "A value holds a character that cannot be stored."
        )
    if not nothing_happened:
        return OutcomeUnknown("The connection to the database was lost, so the change may have been made, or not.")
    if rule.becomes is SchemaMismatch:
        return SchemaMismatch("The database is not migrated to what the service needs.")
    return Unavailable(
        "The database cannot serve this request now." if error.sqlstate else "The connection to the database was lost."
    )
