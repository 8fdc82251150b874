"""A SQL statement built from the models once, when its module is imported, and only run afterwards.

Building and compiling a `select()` costs more than running it, so requests must not do that; and a text that never
changes can be prepared on each connection.
"""

from collections.abc import Mapping
from copy import copy
from typing import Any, Self, override

from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.dml import UpdateBase
from sqlalchemy.sql.schema import ScalarElementColumnDefault
from sqlalchemy.sql.selectable import SelectBase

# Parameters are numbered as in PostgreSQL's protocol, and each says its type, as the dialect casts them.
_DIALECT = PGDialect_psycopg(paramstyle="numeric_dollar")  # type: ignore[no-untyped-call] # SQLAlchemy has no types


class Statement:
    """PostgreSQL text and its constants; `bindparam("name")` marks a value that each run supplies.

    Metrics tell statements apart by `name`, so all shapes of one statement have the same.
    """

    __slots__ = ("columns", "constants", "is_script", "name", "parameters", "query", "reads", "text")

    def __init__(self, name: str, clause: SelectBase | UpdateBase) -> None:
        self.name = name
        self.is_script = False
        compiled = clause.compile(dialect=_DIALECT)
        assert isinstance(compiled, SQLCompiler)
        self.reads = clause.is_select and not any(cte.element.is_dml for cte in compiled.ctes or ())
        """True for a statement that only reads, which may run again whatever has become of it."""
        self.text = str(compiled)
        self.query = self.text.encode()
        self.columns = tuple(str(column.key) for column in clause.exported_columns)
        self.parameters = tuple(compiled.positiontup or ())
        """The name of each numbered parameter."""
        self.constants = {name: value for name, value in compiled.params.items() if value is not None}
        for column in compiled.insert_prefetch:
            # A default of the model that the statement does not set; one that must be called has no place in a text.
            assert isinstance(column.default, ScalarElementColumnDefault), f"{column} needs a value"
            self.constants[column.key] = column.default.arg

    def bind(self, values: Mapping[str, Any]) -> Mapping[str, Any]:
        return {**self.constants, **values} if self.constants else values

    @classmethod
    def script(cls, name: str, *commands: str, columns: tuple[str, ...] = ()) -> Self:
        """Several commands in one transaction and one round trip; the rows, with these columns, are those of the last.

        It has no parameters and must change nothing, as it may run again.
        """
        made = cls.__new__(cls)
        made.name = name
        made.is_script = made.reads = True
        made.text, made.query = commands[-1], ";\n".join(commands).encode()
        made.columns, made.parameters, made.constants = columns, (), {}
        return made

    def as_cursor(self, name: str) -> "Statement":
        """The statement that declares a cursor of this name for the rows of this one, with the same parameters."""
        made = copy(self)
        made.text = f"DECLARE {name} NO SCROLL CURSOR FOR {self.text}"
        made.query, made.columns = made.text.encode(), ()
        return made

    @override
    def __repr__(self) -> str:
        return f"Statement({self.text!r})"


type Step = tuple[Statement, Mapping[str, Any]]
"""A statement and the values for its parameters."""
