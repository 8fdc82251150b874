"""An endpoint that needs more than one statement gets a session by injection (D19).

The module is a site of its own: an API with one endpoint, at the same place as the real one.
"""

from uuid import UUID, uuid4

import pytest
from django.http import HttpResponse
from django.urls import path
from ninja import NinjaAPI
from sqlalchemy import func
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from persistence.models import Task, User
from persistence.postgres.database import Database, open_database
from persistence.postgres.dsn import Dsn
from persistence.postgres.options import DatabaseOptions, PoolLimits
from tests.conftest import client_of
from tests.support.databases import as_owner
from tests.support.helpers import PROBLEM, Client, Response, assert_problem
from todos.errors import TaskNotFound
from todos.requests import Request, with_session
from web import errors

pytestmark = pytest.mark.urls(__name__)

api = NinjaAPI(urls_namespace="sessions", docs_url=None)
errors.register(api)
sessions: list[AsyncSession] = []


@api.post("/users")
@with_session
async def create_user(request: Request, session: AsyncSession, email: str, outcome: str = "success") -> HttpResponse:
    """Makes a user with two tasks, in three statements."""
    sessions.append(session)
    user = User(email=email)
    session.add(user)
    await session.flush()
    session.add_all([Task(user_id=user.id, title="First"), Task(user_id=user.id, title="Second")])
    await session.flush()
    count = (await session.exec(select(func.count()).where(col(Task.user_id) == user.id))).one()
    match outcome:
        case "not-found":
            raise TaskNotFound
        case "failure":
            raise RuntimeError("on purpose")
        case "invalid":
            session.add(Task(user_id=user.id, title=""))
        case "unknown-owner":
            session.add(Task(user_id=uuid4(), title="Nobody's"))
    return HttpResponse(f"{user.id} {count}")


urlpatterns = [path("api/", api.urls)]


@pytest.fixture
def database(owner: Database) -> Database:
    """The endpoint writes addresses, which a server may not."""
    return owner


@pytest.fixture
def email() -> str:
    return f"carol-{uuid4()}@example.com"


async def _post(client: Client, email: str, outcome: str = "success") -> Response:
    return await client.post("users", params={"email": email, "outcome": outcome})


async def _user_id(database: Database, email: str) -> UUID | None:
    async with database.session() as session:
        return (await session.exec(select(User.id).where(col(User.email) == email))).one_or_none()


@pytest.mark.plain("has a rule that keeps addresses unique")
async def test_what_it_did_is_committed_when_it_returns(client: Client, database: Database, email: str) -> None:
    response = await _post(client, email)

    assert response.status_code == 200
    user_id, count = response.text.split()
    assert count == "2"
    assert await _user_id(database, email) == UUID(user_id)
    assert_problem(await _post(client, email), 409, "conflict")


async def test_nothing_of_it_remains_when_it_raises(client: Client, database: Database, email: str) -> None:
    for outcome, status, kind in (
        ("not-found", 404, "task-not-found"),
        ("failure", 500, "internal-error"),
        ("invalid", 400, "invalid-input"),
        # Only the commit finds this out.
        ("unknown-owner", 400, "invalid-input"),
    ):
        response = await _post(client, email, outcome)
        assert (response.status_code, response.json()["type"]) == (status, f"{PROBLEM}{kind}")
        assert await _user_id(database, email) is None


async def test_its_connection_is_given_back(dsn: Dsn, email: str) -> None:
    options = DatabaseOptions(limits=PoolLimits(min_size=1, max_size=3))
    async with open_database(as_owner(dsn), options) as database, client_of(database) as client:
        for number in range(database.pool.limits.max_size + 1):
            for outcome in ("success", "not-found", "failure", "invalid"):
                await _post(client, f"{number}-{outcome}-{email}", outcome)

        assert database.pool.stats.in_use == 0
        assert database.pool.stats.size <= database.pool.limits.max_size


async def test_each_request_gets_a_session_of_its_own(client: Client, email: str) -> None:
    sessions.clear()
    await _post(client, f"1-{email}")
    await _post(client, f"2-{email}")
    assert_problem(await client.post("users"), 400, "invalid-input", "email")

    # The request that was refused did not get a session.
    first, second = sessions
    assert first is not second
    assert not list(first)
    sessions.clear()


async def test_a_client_can_neither_see_nor_send_the_session(client: Client, email: str) -> None:
    [operation] = (await client.get("openapi.json")).json()["paths"]["/api/users"].values()
    assert [parameter["name"] for parameter in operation["parameters"]] == ["email", "outcome"]
    assert "requestBody" not in operation

    response = await client.post("users", params={"email": email, "session": "mine", "request": "mine"})
    assert response.status_code == 200
