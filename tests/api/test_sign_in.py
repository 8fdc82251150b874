"""Only the owner gets in: every operation with no token, a bad one, another user's, `me`, and an erased user's."""

import re
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import datetime
from time import time
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.urls import URLPattern, URLResolver, get_resolver

from identity.key_store import Pace
from identity.verifier import Verifier, open_verifier
from persistence import users
from persistence.postgres.database import Database, open_database
from persistence.postgres.dsn import Dsn
from persistence.postgres.options import DatabaseOptions
from tests.conftest import client_of
from tests.support.contract import OPERATIONS
from tests.support.helpers import (
    Client,
    Response,
    address,
    assert_problem,
    call,
    lost_database,
    make_task,
    rules_of,
    signed_in,
)
from tests.support.issuer import Issuer, SigningKey
from tests.support.nodes import is_one_moment
from web.access import PUBLIC

OPEN = {name: operation for name, operation in OPERATIONS.items() if operation.path.lstrip("/") in PUBLIC}
GUARDED = {name: operation for name, operation in OPERATIONS.items() if name not in OPEN}
OF_USERS = {name: operation for name, operation in GUARDED.items() if operation.is_of_a_user}


def refused(response: Response, kind: str) -> str:
    assert_problem(response, 401, kind)
    return response.headers["WWW-Authenticate"]


def visible(response: Response) -> tuple[int, bytes, list[tuple[str, str]]]:
    headers = [(name, value) for name, value in response.headers.items() if name != "x-request-id"]
    return response.status_code, response.content, headers


def routes(patterns: list[Any], prefix: str = "") -> list[str]:
    found = []
    for pattern in patterns:
        path = prefix + str(pattern.pattern)
        found += routes(pattern.url_patterns, path) if isinstance(pattern, URLResolver) else [path]
        assert isinstance(pattern, URLResolver | URLPattern)
    return found


def test_only_what_holds_nobodys_data_needs_no_token() -> None:
    assert set(OPEN) == {"get_health", "get_liveness", "get_readiness"}
    for operation in OPERATIONS.values():
        assert operation.described["security"] == ([] if operation in OPEN.values() else [{"bearer": []}])
    assert set(routes(get_resolver().url_patterns)) >= PUBLIC


async def test_every_route_that_is_not_known_to_be_public_asks_for_a_token(guarded: Client) -> None:
    for route in routes(get_resolver().url_patterns):
        path = "http://test/" + re.sub("<[^>]+>", str(uuid4()), route)
        for method in ("GET", "HEAD", "OPTIONS", "POST", "PUT"):
            asks = (await guarded.request(method, path)).status_code == 401
            assert asks == (route not in PUBLIC), (method, route)


@pytest.mark.parametrize("name", GUARDED)
async def test_without_a_token_every_operation_says_that_it_needs_one(name: str, guarded: Client) -> None:
    for user in (uuid4(), "me", "x"):
        assert refused(await call(guarded, GUARDED[name], user, uuid4()), "token-missing") == "Bearer"


@pytest.mark.parametrize("name", GUARDED)
async def test_a_bad_token_opens_no_operation(name: str, guarded: Client, issuer: Issuer, alice: UUID) -> None:
    good, other = issuer.token(alice), issuer.token(alice)
    tokens = [
        issuer.token(alice, exp=int(time()) - 60),
        issuer.token(alice, aud="https://another.example.com"),
        issuer.token("alice"),
        good[:-1],
        f"{good.rpartition('.')[0]}.{other.rpartition('.')[2]}",
        f"{good},{good}",
        "x",
    ]
    for token in tokens:
        response = await call(signed_in(guarded, token), GUARDED[name], alice, uuid4())
        assert re.fullmatch(
            r'Bearer error="invalid_token", error_description="[A-Z][^"\\]+\."', refused(response, "token-refused")
        )
        assert token not in response.text


@pytest.mark.parametrize("name", OF_USERS)
async def test_another_users_path_is_forbidden_whether_that_user_exists_or_not(
    name: str, guarded: Client, issuer: Issuer, alice: UUID, bob: UUID
) -> None:
    task = await make_task(signed_in(guarded, issuer.token(bob)), bob)
    signed_in(guarded, issuer.token(alice))
    answers = [await call(guarded, OF_USERS[name], user, task["id"]) for user in (bob, str(bob).upper(), uuid4())]

    for answer in answers:
        assert_problem(answer, 403, "other-user")
        assert visible(answer) == visible(answers[0])


@pytest.mark.parametrize("name", GUARDED)
async def test_me_and_ones_own_id_in_either_case_are_the_same(
    name: str, guarded: Client, issuer: Issuer, alice: UUID
) -> None:
    signed_in(guarded, issuer.token(alice))
    operation = GUARDED[name]
    for user in (alice, "me", str(alice).upper()) if operation.is_of_a_user else ("me",):
        task = await make_task(guarded, alice)
        if operation.is_of_the_trash:
            await guarded.delete(address(task))
        response = await call(guarded, operation, user, task["id"])
        assert response.is_success
        assert "/me" not in str(response.headers)


async def test_a_path_with_what_is_not_an_id_gets_the_usual_answer(
    guarded: Client, issuer: Issuer, alice: UUID
) -> None:
    for user in ("", "x", "ME", f"{alice}0", "null"):
        response = await signed_in(guarded, issuer.token(alice)).get(f"http://test/api/{user}/tasks")
        assert_problem(response, 400, "invalid-input", "user_id")


@pytest.mark.parametrize("name", GUARDED)
async def test_the_token_of_an_erased_user_shows_and_makes_nothing(
    name: str, guarded: Client, issuer: Issuer, alice: UUID
) -> None:
    signed_in(guarded, issuer.token(alice))
    task = await make_task(guarded, alice)
    assert (await guarded.delete("v1/me")).status_code == 204
    response = await call(guarded, GUARDED[name], "me", task["id"])

    if name in {"create_task", "get_account", "import_tasks"}:
        assert_problem(response, 403, "account-erased")
    elif name == "erase_account":
        assert response.status_code == 204
    elif GUARDED[name].is_of_a_task:
        assert_problem(response, 404, "task-not-found")
    elif name == "write_batch":
        assert [result["status"] for result in response.json()["results"]] == [403, 404]
    elif name == "list_changes":
        # The cursor is each user's own.
        assert response.json() == {"items": [], "next_cursor": response.json()["next_cursor"], "more": False}
    else:
        nobody = await call(signed_in(guarded, issuer.token(uuid4())), GUARDED[name], "me")
        assert visible(response) == visible(nobody)


@pytest.mark.parametrize("name", GUARDED)
async def test_who_may_not_call_is_told_so_without_the_database(
    name: str, server: Dsn, migrated_dsn: Dsn, verifier: Verifier, issuer: Issuer
) -> None:
    operation = GUARDED[name]
    async with lost_database(server, migrated_dsn) as database, client_of(database, verifier) as client:
        for token in ("x", issuer.token(uuid4(), exp=1)):
            assert (await call(signed_in(client, token), operation, uuid4(), uuid4())).status_code == 401
        if operation.is_of_a_user:
            answer = await call(signed_in(client, issuer.token(uuid4())), operation, uuid4(), uuid4())
            assert answer.status_code == 403


@pytest.mark.parametrize("path", ["me/tasks", "nowhere"])
async def test_who_may_not_call_can_leave_no_body_here(guarded: Client, issuer: Issuer, alice: UUID, path: str) -> None:
    async def body() -> AsyncIterator[bytes]:
        sent.append(path)
        yield b'{"title": "x"}'

    sent: list[str] = []
    assert (await guarded.post(path, content=body())).status_code in {401, 404}
    await signed_in(guarded, issuer.token(exp=1)).post(path, content=body())
    assert not sent

    await signed_in(guarded, issuer.token(alice)).post("me/tasks", content=body())
    assert sent


async def test_the_first_task_of_a_new_user_makes_the_account(guarded: Client, issuer: Issuer) -> None:
    user = uuid4()
    signed_in(guarded, issuer.token(user))
    before = (await guarded.get("v1/me")).json()
    first = await guarded.post("me/tasks", json={"title": "First"})
    await guarded.post("me/tasks", json={"title": "Second", "completed": True})
    after = (await guarded.get("v1/me")).json()

    assert before == {"id": str(user), "created_at": None, "tasks": {"total": 0, "pending": 0, "completed": 0}}
    assert first.status_code == 201
    assert first.json()["user_id"] == str(user)
    assert first.headers["Location"] == f"/api/{user}/tasks/{first.json()['id']}"
    assert after["tasks"] == {"total": 2, "pending": 1, "completed": 1}
    assert is_one_moment(*(datetime.fromisoformat(each["created_at"]) for each in (after, first.json())))


async def test_somebodys_address_in_a_token_leads_to_no_tasks_of_theirs_and_is_not_stored(
    guarded: Client, issuer: Issuer, owner: Database
) -> None:
    address, stranger = f"{uuid4()}@example.com", uuid4()
    holder = await users.create(owner, address)
    assert holder
    for user in (holder, stranger):
        await make_task(signed_in(guarded, issuer.token(user, email=address, email_verified=True)), user)

    assert len((await guarded.get("me/tasks")).json()["items"]) == 1
    assert await users.find(owner, address) == holder
    assert [each.email async for each in users.listed(owner) if each.id == stranger] == [None]


async def test_the_same_subject_of_another_issuer_is_another_user(database: Database) -> None:
    accounts = []
    for _ in range(2):
        with Issuer() as issuer:
            rules = replace(rules_of(issuer), subject="derived")
            async with open_verifier(rules, 30) as verifier, client_of(database, verifier) as client:
                signed_in(client, issuer.token("user_1", email="ana@example.com"))
                assert (await client.post("me/tasks", json={"title": "Mine"})).status_code == 201
                accounts.append((await client.get("v1/me")).json())

    assert accounts[0]["id"] != accounts[1]["id"]
    assert [each["tasks"]["total"] for each in accounts] == [1, 1]


async def test_pages_of_me_lead_on_by_the_id(guarded: Client, issuer: Issuer, alice: UUID) -> None:
    signed_in(guarded, issuer.token(alice))
    for _ in range(3):
        await make_task(guarded, alice)
    page = await guarded.get("me/tasks?limit=2&status=pending")

    assert page.headers["Link"].startswith(f"</api/{alice}/tasks?limit=2&status=pending&cursor=")
    following = await guarded.get("http://test" + page.headers["Link"].partition(">")[0][1:])
    assert len(following.json()["items"]) == 1


@pytest.mark.parametrize("form", ["Bearer {}", "bearer {}", "BEARER  {}", "Bearer {} "])
async def test_a_token_is_taken_however_the_scheme_is_written(
    form: str, guarded: Client, issuer: Issuer, alice: UUID
) -> None:
    headers = {"Authorization": form.format(issuer.token(alice))}
    assert (await guarded.get("me/tasks", headers=headers)).status_code == 200


@pytest.mark.parametrize("form", ["", "Bearer", "Bearer ", "Basic {}", "{}", "Token {}", "Bearer {} x", "Bearer{}"])
async def test_what_is_not_a_bearer_token_counts_as_none(
    form: str, guarded: Client, issuer: Issuer, alice: UUID
) -> None:
    token = issuer.token(alice)
    assert (await guarded.get("me/tasks", headers={"Authorization": f"Bearer {token}"})).status_code == 200
    headers = {"Authorization": form.format(token)}
    assert refused(await guarded.get("me/tasks", headers=headers), "token-missing") == "Bearer"


async def test_two_tokens_are_none(guarded: Client, issuer: Issuer, alice: UUID, bob: UUID) -> None:
    headers = [("Authorization", f"Bearer {issuer.token(user)}") for user in (alice, bob)]
    assert refused(await guarded.get("me/tasks", headers=headers), "token-missing") == "Bearer"


async def test_a_token_in_the_query_counts_as_none(guarded: Client, issuer: Issuer, alice: UUID) -> None:
    path = f"me/tasks?access_token={issuer.token(alice)}"
    assert_problem(await guarded.get(path), 401, "token-missing")


async def test_a_preflight_needs_no_token_and_scripts_may_read_what_is_wrong_with_one(guarded: Client) -> None:
    ours = {"Origin": "http://localhost:3000"}
    asked = {"Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": "authorization"}
    preflight = await guarded.options("me/tasks", headers=ours | asked)
    answer = await guarded.get("me/tasks", headers=ours)

    assert preflight.status_code == 200
    assert "authorization" in preflight.headers["Access-Control-Allow-Headers"].lower()
    assert answer.status_code == 401
    assert "WWW-Authenticate" in answer.headers["Access-Control-Expose-Headers"]


async def test_while_no_key_can_be_had_the_answer_is_503_and_never_401(database: Database, alice: UUID) -> None:
    with Issuer() as issuer:
        token, issuer.fault = issuer.token(alice), "refused"
        async with open_verifier(rules_of(issuer), 30) as verifier, client_of(database, verifier) as client:
            signed_in(client, token)
            response = await client.get("me/tasks")
            assert_problem(response, 503, "service-unavailable")
            assert int(response.headers["Retry-After"]) >= 1
            issuer.fault = None
            while (response := await client.get("me/tasks")).status_code == 503:
                pass
    assert response.status_code == 200


async def test_an_unknown_key_is_not_logged_as_a_fault_of_the_issuer(
    database: Database, alice: UUID, caplog: pytest.LogCaptureFixture
) -> None:
    with Issuer() as issuer:
        async with (
            open_verifier(rules_of(issuer), 5, Pace(first=60)) as verifier,
            client_of(database, verifier) as client,
        ):
            await signed_in(client, issuer.token(alice)).get("me/tasks")
            response = await signed_in(client, issuer.token(alice, key=SigningKey())).get("me/tasks")

    assert_problem(response, 503, "service-unavailable")
    assert "Answering 503: a token names a key that is not known" in caplog.text
    assert "cannot be fetched" not in caplog.text


async def test_the_wait_for_a_key_counts_as_time_of_the_request(dsn: Dsn) -> None:
    with Issuer() as issuer:
        issuer.delay = 2.0
        async with (
            open_database(dsn, DatabaseOptions(statement_timeout=1)) as database,
            open_verifier(rules_of(issuer), 30) as verifier,
            client_of(database, verifier) as client,
        ):
            signed_in(client, issuer.token(uuid4()))
            assert_problem(await client.get("me/tasks"), 503, "service-unavailable")
            # A busy machine may take longer than a second.
            while (await client.get("me/tasks")).status_code == 503:
                pass


async def test_an_account_is_erased_with_everything_in_it(
    guarded: Client, client: Client, issuer: Issuer, alice: UUID, bob: UUID
) -> None:
    signed_in(guarded, issuer.token(alice))
    await make_task(guarded, alice)
    erased = [await guarded.delete("v1/me") for _ in range(2)]
    kept = await make_task(signed_in(guarded, issuer.token(bob)), bob)

    assert [(each.status_code, each.content) for each in erased] == [(204, b"")] * 2
    assert (await client.get(f"{alice}/tasks")).json()["items"] == []
    assert (await client.get(f"{bob}/tasks")).json()["items"] == [kept]


@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_where_no_tokens_are_asked_for_there_is_no_account(client: Client, method: str) -> None:
    for headers in ({}, {"Authorization": "Bearer x"}):
        assert_problem(await client.request(method, "v1/me", headers=headers), 404, "sign-in-off")
