"""All tasks of a user as a file."""

from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field

from persistence import transfers
from persistence.postgres.database import Database
from persistence.tasks import TaskRow
from persistence.transfers import EXPORTED
from todos.formats import icalendar, jsonl, spreadsheet, todotxt

type ExportFormat = Annotated[
    Literal["jsonl", "csv", "todotxt", "ics"], Field(description="A form of a file of tasks.")
]


@dataclass(frozen=True)
class Format:
    content_type: str
    file_name: str
    written: Callable[[TaskRow], bytes]
    has_trash: bool = False
    """False where nothing could tell a task in the trash from a live one."""
    header: bytes = b""
    footer: bytes = b""


FORMATS: dict[ExportFormat, Format] = {
    "jsonl": Format("application/jsonl", "tasks.jsonl", jsonl.line_of, has_trash=True),
    "csv": Format(
        "text/csv; charset=utf-8",
        "tasks.csv",
        spreadsheet.line_of,
        has_trash=True,
        header=spreadsheet.header(str(column.key) for column in EXPORTED),
    ),
    "todotxt": Format("text/plain; charset=utf-8", "todo.txt", todotxt.line_of),
    "ics": Format(
        "text/calendar; charset=utf-8",
        "tasks.ics",
        icalendar.component_of,
        header=icalendar.HEADER,
        footer=icalendar.FOOTER,
    ),
}


async def exported(
    database: Database, user_id: UUID, format_: Format, counted: Callable[[int], None] = lambda _number: None
) -> AsyncGenerator[bytes]:
    """The file, piece by piece; the first one says that the database has begun to answer.

    `counted` gets the number of the tasks in each piece that the caller has taken. The caller closes the generator.
    Raises what `Database.stream` raises.
    """
    batches = transfers.export(database, user_id, with_trash=format_.has_trash)
    try:
        piece = format_.header
        async for rows in batches:
            yield piece + b"".join(map(format_.written, rows))
            piece = b""
            counted(len(rows))
        yield piece + format_.footer
    finally:
        await batches.aclose()
