"""Limits of a user: requests a minute, and tasks (docs/adr/0031-limits-of-a-user.md)."""

import asyncio
from collections.abc import AsyncIterator
from uuid import UUID, uuid4

import pytest
from django.conf import settings

from tests.support.helpers import Client, Json, Response, assert_problem, make_task, signed_in
from tests.support.issuer import Issuer
from web import access, user_rate
from web.observation import COUNTS
from web.user_rate import UserRate

SECOND = 1_000_000_000


class Clock:
    """A clock that stands still until a test moves it on."""

    now = 1_000 * SECOND

    def __call__(self) -> int:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(user_rate, "monotonic_ns", clock)
    return clock


@pytest.fixture
def three_a_minute(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Clock:
    monkeypatch.setattr(access, "rate", UserRate(3))
    return clock


def refused(response: Response, kind: str) -> int:
    assert_problem(response, 429, kind)
    return int(response.headers["Retry-After"])


async def test_requests_beyond_a_users_rate_are_refused_until_retry_after_and_nobody_else_is(
    client: Client, alice: UUID, bob: UUID, three_a_minute: Clock
) -> None:
    for _ in range(3):
        assert (await client.get(f"{alice}/tasks")).status_code == 200
    assert (await client.get(f"{bob}/tasks")).status_code == 200
    before = COUNTS.refused["rate"]
    for user in (alice, str(alice).upper()):
        wait = refused(await client.get(f"{user}/tasks"), "too-many-requests")
    assert wait == 20
    assert COUNTS.refused["rate"] == before + 2
    three_a_minute.now += wait * SECOND - 1
    assert refused(await client.get(f"{alice}/tasks"), "too-many-requests") == 1
    three_a_minute.now += 1
    assert (await client.get(f"{alice}/tasks")).status_code == 200
    assert refused(await client.get(f"{alice}/tasks"), "too-many-requests") == wait


async def test_over_a_long_time_the_rate_is_kept_to_the_request(clock: Clock) -> None:
    rate, passed = UserRate(6), 0
    for _ in range(600 * 10 + 1):
        passed += rate.seconds_to_wait("alice") == 0
        clock.now += SECOND // 10
    # Ten minutes, and what may come at once.
    assert passed == 6 * 10 + 6


async def test_the_token_tells_the_user_whatever_the_path_says(
    guarded: Client, issuer: Issuer, alice: UUID, bob: UUID, three_a_minute: Clock
) -> None:
    signed_in(guarded, issuer.token(alice))
    for path, status in (("me/tasks", 200), ("v1/me", 200), (f"{bob}/tasks", 403)):
        assert (await guarded.get(path)).status_code == status
    refused(await guarded.get(f"{alice}/tasks"), "too-many-requests")
    # Another token of the same user makes no difference.
    refused(await signed_in(guarded, issuer.token(alice)).get("me/tasks"), "too-many-requests")
    assert (await signed_in(guarded, issuer.token(bob)).get("me/tasks")).status_code == 200


async def test_the_body_of_a_request_too_many_is_not_read(client: Client, alice: UUID, three_a_minute: Clock) -> None:
    async def body() -> AsyncIterator[bytes]:
        raise AssertionError("the body was read")
        yield b""

    for _ in range(3):
        await client.get(f"{alice}/tasks")
    refused(await client.post(f"{alice}/tasks", content=body()), "too-many-requests")


async def test_what_is_of_no_user_is_not_counted(client: Client, three_a_minute: Clock) -> None:
    for path, status in (("v1/live", 200), ("v1/health", 200), ("v1/ready", 200), ("docs", 200), ("x/tasks", 400)):
        assert {(await client.get(path)).status_code for _ in range(4)} == {status}


def test_of_batches_at_once_one_leaves_a_debt_of_at_most_a_minute(clock: Clock) -> None:
    rate = UserRate(3)
    # Whenever the generations change.
    for pause in range(0, 120, 17):
        user = f"user {pause}"
        clock.now += 300 * SECOND
        rate.seconds_to_wait("other")
        clock.now += pause * SECOND
        # Both have passed before either is counted by its items.
        assert [rate.seconds_to_wait(user) for _ in range(2)] == [0, 0]
        assert [rate.count_more(user, 99) for _ in range(2)] == [0, 60]
        for second in range(80):
            assert rate.seconds_to_wait(user) == 80 - second
            clock.now += SECOND
            rate.seconds_to_wait("other")
        assert [rate.seconds_to_wait(user) for _ in range(2)] == [0, 20]


async def test_an_import_counts_as_a_request_for_every_100_tasks(
    client: Client, alice: UUID, three_a_minute: Clock
) -> None:
    for count, left in ((100, 2), (101, 1), (500, 0)):
        three_a_minute.now += 120 * SECOND
        content = "\n".join(f'{{"title": "Task {count} {number}"}}' for number in range(count))
        assert (await client.post(f"{alice}/import", content=content)).json()["imported"] == count
        for _ in range(left):
            assert (await client.get(f"{alice}/tasks")).status_code == 200
        refused(await client.get(f"{alice}/tasks"), "too-many-requests")


async def test_any_number_of_users_takes_no_more_memory_than_a_few(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(user_rate, "USERS_MAX", 10)
    rate = UserRate(1)

    def remembered() -> int:
        # Nothing else tells what it keeps.
        return len(rate._young) + len(rate._old)

    for number in range(1_000):
        assert rate.seconds_to_wait(str(number)) == 0
        assert remembered() <= 20
    assert rate.seconds_to_wait("999") == 60
    clock.now += 60 * SECOND
    assert rate.seconds_to_wait("999") == 0
    for _ in range(2):
        clock.now += 120 * SECOND
        rate.seconds_to_wait("alice")
    assert remembered() <= 2


async def test_a_user_is_remembered_until_its_requests_are_a_minute_old(clock: Clock) -> None:
    rate = UserRate(2)
    # Whenever the generations change.
    for pause in range(0, 60 * SECOND, 7 * SECOND):
        clock.now += 240 * SECOND
        rate.seconds_to_wait("other")
        clock.now += pause
        assert [rate.seconds_to_wait(f"user {pause}") for _ in range(3)] == [0, 0, 30]
        clock.now += 30 * SECOND - 1
        rate.seconds_to_wait("other")
        assert rate.seconds_to_wait(f"user {pause}") == 1


@pytest.fixture
def three_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "USER_TASKS_MAX", 3)


async def test_a_task_too_many_is_refused_until_one_is_deleted(
    client: Client, alice: UUID, bob: UUID, three_tasks: None
) -> None:
    tasks = [await make_task(client, alice) for _ in range(3)]
    before = COUNTS.refused["tasks"]
    answer = await client.post(f"{alice}/tasks", json={"title": "A fourth"})
    assert COUNTS.refused["tasks"] == before + 1
    assert refused(answer, "too-many-tasks") >= 1
    assert "3 tasks" in answer.json()["detail"]
    assert len((await client.get(f"{alice}/tasks")).json()["items"]) == 3
    await make_task(client, bob)
    assert (await client.patch(f"{alice}/tasks/{tasks[0]['id']}", json={"completed": True})).status_code == 200

    await client.delete(f"{alice}/tasks/{tasks[0]['id']}")
    await make_task(client, alice)
    refused(await client.post(f"{alice}/tasks", json={"title": "A fourth"}), "too-many-tasks")


async def test_a_repeat_is_answered_although_there_are_as_many_tasks_as_there_may_be(
    client: Client, alice: UUID, bob: UUID, three_tasks: None
) -> None:
    keyed: Json = {"json": {"title": "By key"}, "headers": {"Idempotency-Key": "k"}}
    named: Json = {"json": {"title": "By id", "id": str(uuid4())}}
    first = [await client.post(f"{alice}/tasks", **sent) for sent in (keyed, named)]
    await make_task(client, alice)
    again = [await client.post(f"{alice}/tasks", **sent) for sent in (keyed, named)]

    assert [answer.status_code for answer in (*first, *again)] == [201, 201, 200, 200]
    assert [answer.json() for answer in first] == [answer.json() for answer in again]
    # The id of another owner's task is no way in.
    for _ in range(3):
        await make_task(client, bob)
    refused(await client.post(f"{bob}/tasks", **named), "too-many-tasks")


async def test_repeats_at_once_make_one_task_and_are_all_answered(
    client: Client, alice: UUID, three_tasks: None
) -> None:
    for _ in range(2):
        await make_task(client, alice)
    keyed: Json = {"json": {"title": "By key"}, "headers": {"Idempotency-Key": "k"}}
    answers = await asyncio.gather(*(client.post(f"{alice}/tasks", **keyed) for _ in range(12)))

    assert sorted(answer.status_code for answer in answers) == [200] * 11 + [201]


async def test_the_first_tasks_of_a_user_who_signs_in_count_and_an_unknown_user_is_not_found(
    guarded: Client, client: Client, issuer: Issuer, three_tasks: None
) -> None:
    user = uuid4()
    signed_in(guarded, issuer.token(user))
    for _ in range(3):
        await make_task(guarded, user)
    refused(await guarded.post("me/tasks", json={"title": "A fourth"}), "too-many-tasks")
    await guarded.delete("v1/me")
    assert_problem(await guarded.post("me/tasks", json={"title": "Erased"}), 403, "account-erased")
    assert_problem(await client.post(f"{uuid4()}/tasks", json={"title": "No user"}), 404, "user-not-found")
