"""Many clients at once, against gunicorn with two processes: nothing is lost, doubled, skipped or shown twice."""

import asyncio
import random
import ssl
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from uuid import UUID, uuid4

import httpx
import pytest

from persistence.postgres.database import Database
from persistence.postgres.dsn import Dsn
from tests.api.test_etags import tag, write_if
from tests.api.test_idempotency import count, create
from tests.api.test_paging import in_order, make_mixed_tasks, walk
from tests.fuzz.site import web_server
from tests.support import contract
from tests.support.helpers import Client, address, get_task, make_task
from tests.support.servers import WebServer


@pytest.fixture(scope="module")
def web(dsn: Dsn, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebServer]:
    with web_server(tmp_path_factory.mktemp("web"), dsn) as web:
        yield web


@pytest.fixture(scope="module")
async def crowd(web: WebServer) -> AsyncIterator[Client]:
    """A client with many connections, as many clients have; both processes answer some of them."""
    async with httpx.AsyncClient(
        base_url=f"{web.url}/api",
        timeout=60,
        # httpx looks at every connection for each request.
        limits=httpx.Limits(max_connections=20),
        # Nothing here is encrypted, and reading the system's certificates takes long.
        verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
        trust_env=False,
        event_hooks={"response": [contract.check_async]},
    ) as crowd:
        # The connections are open before the race begins.
        await asyncio.gather(*(crowd.get("v1/live") for _ in range(20)))
        yield crowd


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
async def test_of_ten_writers_with_the_same_entity_tag_exactly_one_wins(
    crowd: Client, alice: UUID, method: str
) -> None:
    for _ in range(10):
        task = await make_task(crowd, alice)
        bodies = [None if method == "DELETE" else {"title": f"Writer {number}"} for number in range(10)]
        answers = await asyncio.gather(*(write_if(crowd, task, method, body, tag(task)) for body in bodies))

        [winner] = [answer for answer in answers if answer.status_code == 200]
        losers = [answer for answer in answers if answer is not winner]
        assert {loser.status_code for loser in losers} == ({404} if method == "DELETE" else {412})
        if method != "DELETE":
            assert {loser.headers["ETag"] for loser in losers} == {winner.headers["ETag"]}
            assert await get_task(crowd, task) == winner.json()


async def test_writers_that_get_the_task_again_when_they_lose_lose_nothing(crowd: Client, alice: UUID) -> None:
    task = await make_task(crowd, alice, description="")

    async def add(word: str) -> None:
        status = 412
        while status == 412:
            now = await get_task(crowd, task)
            body = {"description": f"{now['description']} {word}"}
            status = (await write_if(crowd, task, "PATCH", body, tag(now))).status_code

    words = [f"w{number}" for number in range(10)]
    await asyncio.gather(*(add(word) for word in words))

    assert sorted((await get_task(crowd, task))["description"].split()) == words


async def test_the_later_write_is_never_dated_before_the_earlier_one(crowd: Client, alice: UUID) -> None:
    task = await make_task(crowd, alice)
    answers = await asyncio.gather(
        *(crowd.patch(address(task), json={"title": f"Writer {number}"}) for number in range(40))
    )
    changes = sorted((answer.json() for answer in answers), key=lambda change: change["version"])

    versions = [task["version"], *(change["version"] for change in changes)]
    assert versions == sorted(set(versions))
    times = [change["updated_at"] for change in changes]
    assert times == sorted(set(times))


@pytest.mark.parametrize("by", ["key", "id"])
async def test_any_number_of_repeats_create_one_task_of_each_user(
    crowd: Client, alice: UUID, bob: UUID, by: str
) -> None:
    for round_number in range(5):
        key, values = (f"key-{round_number}", {}) if by == "key" else (None, {"id": str(uuid4())})
        answers = await asyncio.gather(
            *(create(crowd, user, key, **values) for _ in range(10) for user in (alice, bob))
        )

        for answers_of_one in (answers[::2], answers[1::2]):
            assert sorted(answer.status_code for answer in answers_of_one) == [200] * 9 + [201]
            assert len({answer.content for answer in answers_of_one}) == 1
            replayed = [answer for answer in answers_of_one if answer.headers.get("Idempotency-Replayed") == "true"]
            assert [answer.status_code for answer in replayed] == [200] * 9
        assert await count(crowd, alice) == await count(crowd, bob) == round_number + 1


async def test_a_keyed_change_that_comes_many_times_at_once_is_made_once_and_undoes_nothing(
    crowd: Client, alice: UUID
) -> None:
    task = await make_task(crowd, alice)
    for number in range(8):
        mine = {"title": f"Mine {number}"}
        changes = [
            crowd.patch(address(task), json=mine, headers={"Idempotency-Key": f"key-{number}"}) for _ in range(8)
        ] + [crowd.patch(address(task), json={"title": f"Theirs {number}"}) for _ in range(2)]
        answers = await asyncio.gather(*random.sample(changes, len(changes)))

        assert {answer.status_code for answer in answers} == {200}
        keyed = [answer for answer in answers if answer.request.headers.get("Idempotency-Key")]
        assert [answer.headers.get("Idempotency-Replayed") for answer in keyed].count(None) == 1
        versions = {answer.json()["version"] for answer in answers}
        # One change by the key, and two without one.
        assert len(versions) == 3


@pytest.mark.parametrize("sort", ["-created_at", "updated_at", "due_date", "-priority", "title"])
async def test_nothing_is_skipped_or_shown_twice_while_others_write_around_it(
    crowd: Client, owner: Database, alice: UUID, sort: str
) -> None:
    await make_mixed_tasks(owner, alice)
    before = await walk(crowd, alice, limit=500)
    still, moving = before[:40], before[40:]
    expected = [task["id"] for task in in_order(still, sort)]
    rounds, ends = [0] * 4, asyncio.Event()

    async def disturb(seed: int) -> None:
        dice = random.Random(seed)  # noqa: S311 - test data is not a secret
        while not ends.is_set():
            new = await make_task(crowd, alice, title=dice.choice(["Milk", "a", "z"]), priority="low")
            victim = dice.choice(moving[seed::4])
            await crowd.patch(address(victim), json={"title": dice.choice("abcz"), "due_date": None})
            await crowd.delete(address(new))
            rounds[seed] += 1

    async with asyncio.TaskGroup() as group:
        for seed in range(4):
            group.create_task(disturb(seed))
        while min(rounds) < 4:
            # Tasks that are changed all the time never stop coming at the end of a list that is sorted by change.
            end = {"updated_before": datetime.now(UTC).isoformat()} if sort == "updated_at" else {}
            seen = [task["id"] for task in await walk(crowd, alice, sort=sort, limit=3, **end)]
            assert [task_id for task_id in seen if task_id in expected] == expected
        ends.set()
