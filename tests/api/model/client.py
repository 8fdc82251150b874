"""The application as the machine sees it."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from persistence import purge
from persistence.postgres.database import Database
from tests.database.helpers import new_user
from tests.support.helpers import PROBLEM, Client, Json, Response
from tests.support.model.answers import Answer, Choice
from tests.support.model.lists import Query
from tests.support.model.tasks import Key, Task

NO_BODY: Any = object()
_HEADERS = ("Cache-Control", "ETag", "Idempotency-Replayed", "Link", "Location")


class Api:
    """The application in this process, on an event loop of its own that runs only while it answers."""

    def __init__(self, runner: asyncio.Runner, owner: Database, client: Client) -> None:
        self._runner = runner
        self._owner = owner
        self._client = client

    def new_user(self) -> str:
        return str(self._runner.run(new_user(self._owner)))

    def insert(self, tasks: Sequence[Task]) -> None:
        """Tasks with times that no client could choose, as an import would leave them."""
        rows = [task.row | {"tags": [*task.values["tags"]]} for task in tasks]

        async def insert() -> None:
            async with self._owner.connection() as connection, connection.cursor() as cursor:
                names, places = ", ".join(rows[0]), ", ".join(f"%({name})s" for name in rows[0])
                await cursor.executemany(f"INSERT INTO tasks ({names}) VALUES ({places})".encode(), rows)

        self._runner.run(insert())

    def choices_about(self, user: str) -> Choice:
        """The versions of the tombstones, which no answer tells where they are made."""
        query = "SELECT id::text, version, updated_at FROM tasks WHERE user_id::text = %s AND is_erased"
        return Choice(
            tasks={task: Choice(task, at, version) for task, version, at in self._execute(query, user.lower())}
        )

    def age(self, tasks: Sequence[Key], days: timedelta) -> None:
        """Makes these tasks look as if they had been deleted or erased so long ago."""
        find = "SELECT deleted_at, updated_at, is_erased FROM tasks WHERE (user_id, id) = (%s, %s)"
        for task in tasks:
            # Reckoned here, as Citus takes no sum of a time and an interval in an UPDATE.
            for deleted_at, updated_at, is_erased in self._execute(find, *task):
                times = (deleted_at and deleted_at - days, updated_at - days if is_erased else updated_at)
                query = "UPDATE tasks SET deleted_at = %s, updated_at = %s WHERE (user_id, id) = (%s, %s)"
                self._execute(query, *times, *task)

    def purge(self) -> None:
        """Does what `manage.py purge` does."""
        self._runner.run(self._purge())

    async def _purge(self) -> None:
        for kind, days in ((purge.TRASH, 30), (purge.TOMBSTONES, 90)):
            async for _ in purge.purge(self._owner, kind, await purge.days_ago(self._owner, days)):
                pass

    def start_anew(self, user: str) -> int:
        """Raises the revision and the horizon, as one does after a restore of a backup.

        The revision becomes that of a minute from now, as if the clock had gone back since.
        """
        query = (
            "UPDATE users SET (revision, horizon) = (SELECT new, new FROM greatest(revision + 1,"
            " (extract(epoch FROM now() + interval '1 minute') * 1000000)::bigint) AS new) WHERE id = %s"
            " RETURNING revision"
        )
        [(revision,)] = self._execute(query, user)
        return int(revision)

    def _execute(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        async def execute() -> list[tuple[Any, ...]]:
            async with self._owner.connection() as connection:
                cursor = await connection.execute(query.encode(), values)
                return await cursor.fetchall() if cursor.description else []

        return self._runner.run(execute())

    def __call__(
        self, method: str, path: str, body: Any = NO_BODY, query: Query = (), headers: Mapping[str, str] | None = None
    ) -> tuple[Answer, Choice]:
        """Its answer in the model's terms, and what it chose. A body of bytes is sent as it is."""
        content = None if body is NO_BODY else body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"} | dict(headers or {})
        request = self._client.request(method, path, content=content, params=list(query) or None, headers=headers)
        return _answer(self._runner.run(request))


def _answer(response: Response) -> tuple[Answer, Choice]:
    body: Json | None = response.json() if response.content else None
    headers = {name: response.headers[name] for name in _HEADERS if name in response.headers}
    if response.is_error and body is not None:
        fields = frozenset(error["field"] for error in body.get("errors", ()))
        return Answer(response.status_code, None, headers, body["type"].removeprefix(PROBLEM), fields), Choice()
    if body and "results" in body:
        body = {"results": [_reduced(result) for result in body["results"]]}
        tasks = [result["task"] for result in body["results"] if "task" in result]
        return Answer(response.status_code, body, headers), Choice(tasks={task["id"]: _told(task) for task in tasks})
    choice = Choice(cursor=body.get("next_cursor")) if body else Choice()
    return Answer(response.status_code, body, headers), _told(body) if body and "version" in body else choice


def _told(task: Json) -> Choice:
    return Choice(task["id"], datetime.fromisoformat(task["updated_at"]), task["version"])


def _reduced(result: Json) -> Json:
    if "problem" not in result:
        return result
    problem = result["problem"]
    fields = sorted({error["field"] for error in problem.get("errors", ())})
    return result | {"problem": {"kind": problem["type"].removeprefix(PROBLEM), "fields": fields}}
