"""What can go wrong with the database, told apart by SQLSTATE; never by psycopg's classes, which mislead.

25006 (read only) and 25P03 (idle in transaction) come as `InternalError`, and a lost connection comes without a code.
"""

import psycopg


class Unavailable(Exception):
    """The database cannot serve this now, and may soon. Nothing in the text is secret."""

    retry_after = 1
    """Seconds after which a client may try again."""


class PoolTimeout(Unavailable):
    """No connection came free in time (D13)."""


class DeadlineExceeded(Unavailable):
    """The statement did not finish in time and was cut off; a write may have happened all the same."""


class ConstraintViolated(Exception):
    """The database refused a value; `constraint` is the name of the rule, from `persistence.models`."""

    def __init__(self, constraint: str) -> None:
        super().__init__(constraint)
        self.constraint = constraint


class UniqueViolated(ConstraintViolated):
    """The value exists already."""


class ForeignKeyViolated(ConstraintViolated):
    """What the value refers to does not exist."""


class InvalidValue(Exception):
    """A value that PostgreSQL cannot store at all, such as text with a NUL character."""


UNAVAILABLE = {
    "08": "connection exception",
    "25006": "read-only transaction: a standby, or a disk that is full",
    "28": "invalid authorization: credentials expired or rotated",
    "3D000": "the database does not exist (any more)",
    "40": "transaction rollback: deadlock or serialization failure",
    "53": "insufficient resources: connections, memory, disk",
    "55P03": "lock not available",
    "57": "operator intervention: shutdown, crash, cancelled statement",
    "58": "system error: I/O",
}
"""SQLSTATEs, or whole classes of them, that say `Unavailable`: waiting can help."""

REFUSED = {
    "23503": ForeignKeyViolated,
    "23505": UniqueViolated,
    "23": ConstraintViolated,
}
"""SQLSTATEs that name a constraint."""


def translate(error: psycopg.Error) -> Exception:
    """The error of this module that says what happened, or the same error when nobody expects it.

    `from error` keeps the original for the log; its text may hold values of a row, so it must not reach a client.
    """
    state = error.sqlstate
    if state is None:
        if isinstance(error, psycopg.DataError):
            return InvalidValue("A value holds a character that cannot be stored.")
        if isinstance(error, psycopg.OperationalError):
            return Unavailable("The connection to the database was lost.")
        return error
    if state in UNAVAILABLE or state[:2] in UNAVAILABLE:
        return Unavailable("The database cannot serve this request now.")
    if refusal := REFUSED.get(state) or REFUSED.get(state[:2]):
        return refusal(error.diag.constraint_name or error.diag.column_name or "unknown")
    if state.startswith("22"):
        return InvalidValue("A value is out of its range.")
    return error
