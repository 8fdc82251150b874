"""The application with operations that fail with errors whose texts quote what the client sent, as libraries' do."""

from typing import Any, NoReturn

from pydantic import TypeAdapter

from persistence import task_lists, tasks
from tests.support import failing

application = failing.application


async def _patch(
    _database: object, _user: object, _task: object, values: dict[str, Any], *_: Any, **__: Any
) -> NoReturn:
    raise KeyError(values["title"])


async def _replace(
    _database: object, _user: object, _task: object, values: dict[str, Any], *_: Any, **__: Any
) -> NoReturn:
    try:
        int(values["title"])
    except ValueError as error:
        TypeAdapter(dict[str, int]).validate_python(values)
        raise AssertionError from error
    raise AssertionError


async def _summary(_database: object, user_id: object) -> NoReturn:
    raise UnicodeEncodeError("ascii", f"{user_id}", 0, 1, f"{user_id}")


tasks.patch, tasks.replace, task_lists.summary = _patch, _replace, _summary  # type: ignore[assignment] # they only fail
