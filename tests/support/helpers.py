"""Steps that many tests of the API share."""

import json
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import httpx
import psycopg
from psycopg import sql

from config.asgi import handler
from identity.options import TokenRules
from persistence.postgres.database import Database, open_database
from persistence.postgres.dsn import Dsn
from persistence.postgres.options import DatabaseOptions
from tests.support.contract import Operation
from tests.support.issuer import Issuer
from web.handler import Message, Receive

type Json = dict[str, Any]
type Client = httpx.AsyncClient
type Response = httpx.Response

PROBLEM = "urn:problem:todo:"
WRITES = ("POST", "PUT", "PATCH")
"""The methods that take a body."""


async def make_task(client: Client, user: UUID, **values: Any) -> Json:
    response = await client.post(f"{user}/tasks", json={"title": "Buy milk"} | values)
    assert response.status_code == 201, response.text
    task: Json = response.json()
    return task


async def insert_task(database: Database, user: UUID, title: str, **values: Any) -> None:
    """A task as it may have become, with times that no client could choose."""
    completed_at = datetime.now(UTC) if values.get("status") == "completed" else None
    row = {"id": uuid4(), "user_id": user, "title": title, "completed_at": completed_at} | values
    names, places = ", ".join(row), ", ".join(f"%({name})s" for name in row)
    async with database.connection() as connection:
        await connection.execute(f"INSERT INTO tasks ({names}) VALUES ({places})".encode(), row)


async def make_tasks(database: Database, user: UUID, count: int) -> None:
    """Many at once; every three of them were created at the same time, so that only the id tells them apart."""
    async with database.connection() as connection:
        await connection.execute(
            "INSERT INTO tasks (id, user_id, title, created_at)"
            " SELECT gen_random_uuid(), %s, 'Task ' || n, now() - interval '1 hour' - n / 3 * interval '1 second'"
            " FROM generate_series(1, %s) AS n",
            (user, count),
        )


async def get_task(client: Client, task: Json) -> Json:
    response = await client.get(address(task))
    assert response.status_code == 200, response.text
    stored: Json = response.json()
    return stored


async def delete_task(client: Client, task: Json) -> Json:
    """The task in the trash."""
    response = await client.delete(address(task))
    assert response.status_code == 200, response.text
    deleted: Json = response.json()
    return deleted


def signed_in(client: Client, token: str) -> Client:
    """The same client, which sends the token from now on."""
    client.headers["Authorization"] = f"Bearer {token}"
    return client


def rules_of(issuer: Issuer) -> TokenRules:
    """Accepts the tokens of this issuer, as a server does that is set up for it."""
    return TokenRules(
        issuer=issuer.url,
        audience=issuer.url,
        authorized_parties=(),
        jwks_url=issuer.jwks_url,
        algorithms=("EdDSA",),
        subject="uuid",
        max_lifetime=24 * 3600,
    )


def address(task: Json) -> str:
    return f"{task['user_id']}/tasks/{task['id']}"


def in_trash(task: Json) -> str:
    """The address of a deleted task."""
    return f"{task['user_id']}/trash/{task['id']}"


async def send(client: Client, method: str, url: str, body: bytes) -> Response:
    """Sends bytes as JSON, which they may not be."""
    return await client.request(method, url, content=body, headers={"Content-Type": "application/json"})


async def call(
    client: Client, operation: Operation, user: object, task: object = "", query: str = "", **sent: Any
) -> Response:
    """Sends a request to an operation of the contract, with the body that the contract shows unless told otherwise."""
    path = operation.path.format(user_id=user, task_id=task)
    sent = sent or {"json": operation.body_example}
    return await client.request(operation.method, f"http://test{path}{query}", **sent)


def url_for(method: str, task: Json) -> str:
    """The address of this task for PUT and PATCH, and that of the list which it is in for POST."""
    return f"{task['user_id']}/tasks" if method == "POST" else address(task)


async def write(client: Client, method: str, task: Json, body: Any) -> Response:
    """Sends a body by one of `WRITES`: POST creates another task, PUT and PATCH change this one."""
    return await send(client, method, url_for(method, task), json.dumps(body).encode())


def assert_problem(response: "Response | Answer", status: int, kind: str, *fields: str) -> Json:
    """Checks that it is a problem document (RFC 9457) of this kind that blames these fields, in this order."""
    assert response.status_code == status, response.content
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers["x-request-id"]
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


class NoAnswer(Exception):
    """The application sent nothing."""


@dataclass(frozen=True)
class Answer:
    """An answer of the application, read from the ASGI messages."""

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
) -> Answer:
    """Makes a request in raw ASGI messages, as a server would. Raises `NoAnswer`."""
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
        "state": {"database": database, "verifier": None},
    }
    await handler(scope, receive or body_of(b""), send)
    if not sent:
        raise NoAnswer
    start, *bodies = sent
    assert start["type"] == "http.response.start"
    assert [message["type"] for message in bodies] == ["http.response.body"]
    return Answer(start["status"], httpx.Headers(start["headers"]), bodies[0]["body"])


def body_of(*parts: bytes) -> Receive:
    """Messages with the parts of a body; a call beyond them fails."""
    messages = [
        {"type": "http.request", "body": part, "more_body": number < len(parts)} for number, part in enumerate(parts, 1)
    ]

    async def receive() -> Message:
        return messages.pop(0)

    return receive


@contextmanager
def limited_role(server: Dsn, dsn: Dsn, limit: int) -> Iterator[Dsn]:
    """The address with a role that may have so many connections, as such limits do not hold for superusers."""
    name = f"few_{uuid4().hex}"
    role = sql.Identifier(name)
    with psycopg.connect(server.conninfo, autocommit=True) as admin:
        admin.execute(
            sql.SQL("CREATE ROLE {} LOGIN PASSWORD 'hunter2' CONNECTION LIMIT {} IN ROLE {}").format(
                role, limit, sql.Identifier(dsn.parameters["user"])
            )
        )
        try:
            yield Dsn(dsn.parameters | {"user": name, "password": "hunter2"})
        finally:
            admin.execute("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE usename = %s", [name])
            admin.execute(sql.SQL("DROP ROLE {}").format(role))


@asynccontextmanager
async def lost_database(server: Dsn, dsn: Dsn) -> AsyncIterator[Database]:
    """A database that was open when it went away: it has ended its connections and accepts no more."""
    async with open_database(dsn, DatabaseOptions(connect_timeout=2)) as database:
        with psycopg.connect(server.conninfo, autocommit=True) as connection:
            connection.execute(f'ALTER DATABASE "{dsn.database}" ALLOW_CONNECTIONS false')
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (dsn.database,)
            )
        yield database


def subclasses[T](cls: type[T]) -> set[type[T]]:
    """All of them, those of subclasses, too."""
    return {each for direct in cls.__subclasses__() for each in (direct, *subclasses(direct))}
