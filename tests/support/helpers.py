"""What the tests of the API do again and again."""

from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import httpx
import psycopg
from psycopg import sql

from config.asgi import handler
from persistence.postgres.database import Database, open_database
from persistence.postgres.dsn import Dsn
from persistence.postgres.options import DatabaseOptions
from web.handler import Message, Receive

type Json = dict[str, Any]

PROBLEM = "urn:problem:todo:"


async def make_task(client: httpx.AsyncClient, user: UUID, **values: Any) -> Json:
    response = await client.post(f"{user}/tasks", json={"title": "Buy milk"} | values)
    assert response.status_code == 201, response.text
    task: Json = response.json()
    return task


async def make_tasks(database: Database, user: UUID, count: int) -> None:
    """Many at once; every three of them were created at the same moment, so that only the id tells them apart."""
    async with database.connection() as connection:
        await connection.execute(
            "INSERT INTO tasks (id, user_id, title, created_at)"
            " SELECT gen_random_uuid(), %s, 'Task ' || n, now() - interval '1 hour' - n / 3 * interval '1 second'"
            " FROM generate_series(1, %s) AS n",
            (user, count),
        )


async def get_task(client: httpx.AsyncClient, task: Json) -> Json:
    response = await client.get(address(task))
    assert response.status_code == 200, response.text
    stored: Json = response.json()
    return stored


def address(task: Json) -> str:
    return f"{task['user_id']}/tasks/{task['id']}"


async def send(client: httpx.AsyncClient, method: str, url: str, body: bytes) -> httpx.Response:
    """Sends bytes as JSON, which they may not be."""
    return await client.request(method, url, content=body, headers={"Content-Type": "application/json"})


def assert_problem(response: "httpx.Response | Answer", status: int, kind: str, *fields: str) -> Json:
    """It is a problem document (RFC 9457) of this kind that blames these fields, in this order."""
    assert response.status_code == status, response.content
    assert response.headers["content-type"] == "application/problem+json"
    assert b"<html" not in response.content.lower()
    document: Json = httpx.Response(200, content=response.content).json()
    assert set(document) - {"errors"} == {"type", "title", "status", "detail"}
    assert document["type"] == PROBLEM + kind
    assert document["status"] == status
    assert all(isinstance(document[member], str) and document[member] for member in ("title", "detail"))
    errors = document.get("errors", [])
    assert all(set(error) == {"field", "detail"} and error["detail"] for error in errors)
    assert tuple(error["field"] for error in errors) == fields
    return document


@dataclass(frozen=True)
class Answer:
    """What the application sent, read from the ASGI messages."""

    status_code: int
    headers: httpx.Headers
    content: bytes


async def ask(
    database: Database,
    method: str,
    path: str,
    receive: Receive | None = None,
    *,
    headers: Iterable[tuple[str, str]] = (),
    query: bytes = b"",
) -> Answer | None:
    """Makes a request in raw ASGI messages, as a server would; None when nothing was answered."""
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    scope: Message = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query,
        "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in headers],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
        "state": {"database": database},
    }
    await handler(scope, receive or body_of(b""), send)
    if not sent:
        return None
    start, *bodies = sent
    assert start["type"] == "http.response.start"
    assert [message["type"] for message in bodies] == ["http.response.body"]
    return Answer(start["status"], httpx.Headers(start["headers"]), bodies[0]["body"])


def body_of(*parts: bytes) -> Receive:
    """Messages with the parts of a body; nobody may ask for more."""
    messages = [
        {"type": "http.request", "body": part, "more_body": number < len(parts)} for number, part in enumerate(parts, 1)
    ]

    async def receive() -> Message:
        return messages.pop(0)

    return receive


@contextmanager
def limited_role(server: Dsn, dsn: Dsn, limit: int) -> Iterator[Dsn]:
    """The address with a role that may have so many connections; such limits do not hold for superusers."""
    name = f"few_{uuid4().hex}"
    role = sql.Identifier(name)
    with psycopg.connect(server.conninfo, autocommit=True) as admin:
        admin.execute(
            sql.SQL("CREATE ROLE {} LOGIN PASSWORD 'hunter2' CONNECTION LIMIT {} IN ROLE pg_read_all_data").format(
                role, limit
            )
        )
        try:
            yield Dsn(dsn.parameters | {"user": name, "password": "hunter2"})
        finally:
            admin.execute("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE usename = %s", [name])
            admin.execute(sql.SQL("DROP ROLE {}").format(role))


@asynccontextmanager
async def lost_database(server: Dsn, dsn: Dsn) -> AsyncIterator[Database]:
    """A database that was open when it went away: it ends its connections and accepts no more."""
    async with open_database(dsn, DatabaseOptions(connect_timeout=2)) as database:
        with psycopg.connect(server.conninfo, autocommit=True) as connection:
            connection.execute(f'ALTER DATABASE "{dsn.database}" ALLOW_CONNECTIONS false')
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (dsn.database,)
            )
        yield database
