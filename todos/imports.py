"""Tasks of a file into those of a user: each line on its own, and once, however often the file is sent (D44)."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import batched
from time import monotonic
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel, Field

from persistence import transfers
from persistence.postgres.database import Database
from persistence.tasks import TaskRow
from persistence.transfers import Owner
from todos.errors import AccountErased, InvalidInput, UserNotFound
from todos.formats import google_tasks, jsonl, todoist, todotxt
from todos.formats.drafts import Draft, NotThisFormat
from todos.formats.encoding import check_size, decoded
from todos.import_lines import ImportLine, Line, checked

TASKS_MAX = 10_000
"""Tasks of one request."""
LINES_SHOWN = 500
"""Lines that an answer has at most, so that it stays far smaller than the file."""
SLICE = 0.005
"""Seconds of work after which other requests have their turn."""
BATCH = 100
"""Tasks that one statement inserts, and that count as a request. Between two other requests have their turn."""

type ImportFormat = Annotated[
    Literal["jsonl", "todoist-csv", "google-tasks", "todotxt"], Field(description="A form of a file to import.")
]

PARSERS: dict[ImportFormat, Callable[[str], Iterator[Draft | None]]] = {
    "jsonl": jsonl.parsed,
    "todoist-csv": todoist.parsed,
    "google-tasks": google_tasks.parsed,
    "todotxt": todotxt.parsed,
}


_Count = Annotated[int, Field(ge=0)]


class ImportResult(BaseModel):
    """The result of an import. With `dry_run`, it is the result that an import would have."""

    imported: Annotated[_Count, Field(description="Tasks that were not there.")]
    known: Annotated[_Count, Field(description="Tasks that were there already, and stay as they are.")]
    deleted: Annotated[_Count, Field(description="Tasks that were there, and have been deleted, and stay so.")]
    refused: Annotated[_Count, Field(description="Tasks that were not imported.")]
    dry_run: bool
    lines_shown: _Count
    lines: Annotated[
        list[ImportLine],
        Field(
            description=f"At most {LINES_SHOWN}: those that were refused first, then those that were deleted, or have "
            "notes."
        ),
    ]


class _Pace:
    """Lets other requests have their turn while this one works."""

    def __init__(self) -> None:
        self._began = monotonic()

    async def keep(self) -> None:
        if monotonic() - self._began > SLICE:
            await asyncio.sleep(0)
            self._began = monotonic()


class _Room:
    """How many more tasks there may be: live ones, and as many in the trash, or a file could have any number there."""

    def __init__(self, owner: Owner, most: int) -> None:
        self._most = most
        self._live, self._trashed = most - owner.live, most - owner.trashed

    def refusal(self, row: TaskRow) -> str:
        """Takes the place of one more, or tells why it is refused."""
        if not self._most:
            return ""
        if row["deleted_at"]:
            self._trashed -= 1
            return f"A file may fill the trash with {self._most:,} tasks" if self._trashed < 0 else ""
        self._live -= 1
        return f"A user may have {self._most:,} tasks" if self._live < 0 else ""


async def import_file(
    database: Database,
    user_id: UUID,
    form: ImportFormat,
    content: bytes,
    *,
    dry_run: bool,
    makes_owner: bool = False,
    user_tasks_max: int = 0,
    tasks_max: int | None = TASKS_MAX,
    counted: Callable[[int, int], None] = lambda _done, _total: None,
    count_more: Callable[[int], None] | None = None,
) -> dict[str, Any]:
    """Imports what can be, in batches, and returns an `ImportResult`. What is there already stays as it is.

    Raises `InvalidInput` for a file that is not of this form or has more than `tasks_max` tasks, `UserNotFound`, unless
    `makes_owner`, and `AccountErased`. A failure half-way leaves whole batches; the same file again does the rest.
    `counted` gets the number of tasks that are done, and that of all; `count_more` is that of a request.
    """
    drafts = await _drafts(form, content, tasks_max)
    if count_more and len(drafts) > BATCH:
        count_more((len(drafts) - 1) // BATCH)
    owner = await transfers.owner_and_numbers(database, user_id, user_tasks_max)
    if owner is None and not makes_owner:
        raise UserNotFound
    if owner and owner.is_erased:
        raise AccountErased
    room = _Room(owner or Owner(), user_tasks_max)
    lines = list[Line]()
    first_of = dict[UUID, int]()
    # The order of creation is that of the file, where it says nothing else.
    now = datetime.now(UTC) - timedelta(microseconds=len(drafts))
    for batch in batched(drafts, BATCH, strict=False):
        if user_tasks_max and lines and owner and not dry_run:
            # Other requests may have made tasks meanwhile.
            room = _Room(await transfers.owner_and_numbers(database, user_id, user_tasks_max) or owner, user_tasks_max)
        found, pace = list[Line](), _Pace()
        for draft in batch:
            found.append(checked(draft, user_id, form, now + timedelta(microseconds=len(lines) + len(found))))
            await pace.keep()
        lines += found
        for line in found:
            if not line.errors and first_of.setdefault(line.id, line.draft.line) != line.draft.line:
                line.refuse(f"It has the same id as line {first_of[line.id]}")
        new = await _new(database, user_id, [line for line in found if not line.errors])
        for line in new:
            if line.row and (detail := room.refusal(line.row)):
                line.refuse(detail)
                line.status = "refused"
        rows = [line.row for line in new if line.row and not line.errors]
        if rows and not dry_run:
            inserted = await transfers.insert_tasks(database, user_id, rows, makes_owner=owner is None)
            owner = owner or Owner()
            # Another request was faster, or has erased the account.
            late = [line for line in new if not line.errors and line.id not in inserted]
            if await _new(database, user_id, late):
                raise AccountErased
        counted(len(lines), len(drafts))
    return _result(lines, dry_run=dry_run)


async def _drafts(form: ImportFormat, content: bytes, tasks_max: int | None) -> list[Draft]:
    drafts, pace = list[Draft](), _Pace()
    try:
        text = decoded(content)
        if tasks_max is not None:
            check_size(text)
        for draft in PARSERS[form](text):
            if draft:
                drafts.append(draft)
            await pace.keep()
            if tasks_max is not None and len(drafts) > tasks_max:
                raise _refused(f"It has more than {tasks_max:,} tasks. Send it in parts.")
    except NotThisFormat as error:
        raise _refused(str(error)) from None
    return drafts


def _refused(detail: str) -> InvalidInput:
    return InvalidInput.of({"field": "body", "detail": detail})


async def _new(database: Database, user_id: UUID, lines: Sequence[Line]) -> list[Line]:
    """The lines without a task yet; sets the status of all lines."""
    known = await transfers.known(database, user_id, [line.id for line in lines]) if lines else {}
    for line in lines:
        there = known.get(line.id)
        if there is None:
            line.status = "imported"
        elif there.is_erased or (there.deleted_at and line.row and not line.row["deleted_at"]):
            line.status = "deleted"
        else:
            line.status = "known"
    return [line for line in lines if line.id not in known]


_FIRST = ("refused", "deleted")


def _result(lines: Sequence[Line], *, dry_run: bool) -> dict[str, Any]:
    statuses = [line.status for line in lines]

    def rank(line: Line) -> int:
        return _FIRST.index(line.status) if line.status in _FIRST else 2 + (not line.draft.notes)

    shown = sorted(lines, key=rank)[:LINES_SHOWN]
    return {
        **{status: statuses.count(status) for status in ("imported", "known", "deleted", "refused")},
        "dry_run": dry_run,
        "lines_shown": len(shown),
        "lines": [line.shown for line in shown],
    }
