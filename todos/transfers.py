"""The endpoints that carry all tasks of a user out and in, as files (D44)."""

from typing import Annotated

from ninja import Query, Router
from pydantic import BaseModel, Field

from todos import contract, exports
from todos.exports import ExportFormat
from todos.requests import Request
from todos.responses import StreamedResponse
from todos.strictness import strict
from todos.types import UserId

router = Router(tags=["tasks"])
router.add_decorator(strict, mode="view")


class ExportQuery(BaseModel):
    """The form of the file."""

    format: Annotated[
        ExportFormat,
        Field(
            description="`jsonl` has everything, a JSON object in each line; `csv` has it for spreadsheets; `todotxt` "
            "and `ics` (iCalendar) have live tasks, and what those formats can say of them."
        ),
    ] = "jsonl"


@router.get("/{segment:user_id}/export", response={200: None}, **contract.EXPORT_TASKS)
async def export_tasks(
    request: Request, user_id: UserId, query: Annotated[ExportQuery, Query(...)]
) -> StreamedResponse:
    """All tasks of the user as a file, those in the trash included where the format can tell, all of one moment.

    They come in the order of their last changes, and are sent while they are read. A file that is not whole is cut off
    in its last chunk, so that clients report an error. An unknown user has none.
    """
    format_ = exports.FORMATS[query.format]
    pieces = exports.exported(request.database, user_id, format_)
    response = StreamedResponse(await anext(pieces), pieces, format_.content_type)
    response["Content-Disposition"] = f'attachment; filename="{format_.file_name}"'
    return response
