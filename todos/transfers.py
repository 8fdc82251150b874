"""The endpoints that carry all tasks of a user out and in, as files (D44)."""

from typing import Annotated

from django.conf import settings
from django.http import HttpResponse
from ninja import Query, Router
from pydantic import BaseModel, Field

from todos import contract, exports, imports
from todos.errors import InvalidInput
from todos.exports import ExportFormat
from todos.imports import ImportFormat, ImportResult
from todos.requests import Request
from todos.responses import StreamedResponse, json_response
from todos.strictness import strict
from todos.types import QueryBool, UserId

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


class ImportQuery(BaseModel):
    """The form of the file, and whether to try it only."""

    format: Annotated[
        ImportFormat,
        Field(
            description="`jsonl` is what an export writes; `todoist-csv` is Todoist's CSV of a project; `google-tasks` "
            "is `Tasks.json` of Google Takeout; `todotxt` is todo.txt."
        ),
    ] = "jsonl"
    dry_run: Annotated[QueryBool, Field(description="`true`: nothing is written, and the answer is the same.")] = False


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


@router.post("/{segment:user_id}/import", response={200: ImportResult}, **contract.IMPORT_TASKS)
async def import_tasks(request: Request, user_id: UserId, query: Annotated[ImportQuery, Query(...)]) -> HttpResponse:
    """Imports the tasks of a file, which is the body itself: each on its own, and once, however often it is sent.

    Nothing is dropped without a word: a task is refused with its reasons, or notes say what is in its description. What
    is there already stays as it is. A due date may be in the past.
    """
    if request.META.get("CONTENT_TYPE", "").startswith("multipart/"):
        raise InvalidInput.of({"field": "Content-Type", "detail": "Send the file as the body itself, not as a form"})
    if "HTTP_CONTENT_ENCODING" in request.META:
        raise InvalidInput.of({"field": "Content-Encoding", "detail": "Send the file as it is, not compressed"})
    result = await imports.import_file(
        request.database, user_id, query.format, request.body,
        dry_run=query.dry_run, makes_owner=request.signed_in is not None, user_tasks_max=settings.USER_TASKS_MAX,
        count_more=request.count_more,
    )  # fmt: skip
    return json_response(result)
