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
from tests.api.test_etags import tag, write
from tests.api.test_idempotency import count, create
from tests.api.test_paging import SORTS, in_order, make_mixed_tasks, walk
from tests.support import contract
from tests.support.helpers import address, get_task, make_task
from tests.support.servers import WebServer, url_of


@pytest.fixture(scope="module")
def web(dsn: Dsn, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebServer]:
    settings = {"ENVIRONMENT": "production", "DATABASE_URL": url_of(dsn), "WEB_CONCURRENCY": "2"}
    with WebServer(tmp_path_factory.mktemp("web"), settings) as web:
        yield web


@pytest.fixture
async def crowd(web: WebServer) -> AsyncIterator[httpx.AsyncClient]:
    """A client with many connections, as many clients have; both processes answer some of them."""
    hooks = {"response": [contract.check_async]}
    async with httpx.AsyncClient(
        base_url=f"{web.url}/api",
        timeout=30,
        # Nothing here is encrypted, and reading the system's certificates takes long.
        verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
        trust_env=False,
        event_hooks=hooks,
    ) as crowd:
        # So that the connections are there when the race begins.
        await asyncio.gather(*(crowd.get("v1/live") for _ in range(40)))
        yield crowd


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
async def test_of_ten_writers_with_the_same_entity_tag_exactly_one_wins(
    crowd: httpx.AsyncClient, alice: UUID, method: str
) -> None:
    for _ in range(5):
        task = await make_task(crowd, alice)
        bodies = [None if method == "DELETE" else {"title": f"Writer {number}"} for number in range(10)]
        answers = await asyncio.gather(*(write(crowd, task, method, body, tag(task)) for body in bodies))

        [winner] = [answer for answer in answers if answer.status_code == 200]
        losers = [answer for answer in answers if answer is not winner]
        assert {loser.status_code for loser in losers} == ({404} if method == "DELETE" else {412})
        if method != "DELETE":
            assert {loser.headers["ETag"] for loser in losers} == {winner.headers["ETag"]}
            assert await get_task(crowd, task) == winner.json()


async def test_writers_who_get_the_task_again_when_they_lose_lose_nothing(
    crowd: httpx.AsyncClient, alice: UUID
) -> None:
    task = await make_task(crowd, alice, description="")

    async def add(word: str) -> None:
        for _ in range(200):
            now = await get_task(crowd, task)
            body = {"description": f"{now['description']} {word}"}
            if (await write(crowd, task, "PATCH", body, tag(now))).status_code == 200:
                return
        raise AssertionError("never had a turn")

    await asyncio.gather(*(add(f"w{number}") for number in range(10)))
    words = (await get_task(crowd, task))["description"].split()

    assert sorted(words) == [f"w{number}" for number in range(10)]


async def test_the_later_write_is_never_dated_before_the_earlier_one(crowd: httpx.AsyncClient, alice: UUID) -> None:
    task = await make_task(crowd, alice)
    answers = await asyncio.gather(
        *(crowd.patch(address(task), json={"title": f"Writer {number}"}) for number in range(40))
    )
    changes = sorted((answer.json() for answer in answers), key=lambda change: change["version"])

    assert [change["version"] - task["version"] for change in changes] == list(range(1, 41))
    moments = [change["updated_at"] for change in changes]
    assert moments == sorted(set(moments))


@pytest.mark.parametrize("by", ["key", "id"])
async def test_any_number_of_repeats_create_one_task(crowd: httpx.AsyncClient, alice: UUID, by: str) -> None:
    for round_number in range(5):
        key = f"key-{round_number}" if by == "key" else None
        values = {} if by == "key" else {"id": str(uuid4())}
        answers = await asyncio.gather(*(create(crowd, alice, key, **values) for _ in range(20)))

        assert sorted(answer.status_code for answer in answers) == [200] * 19 + [201]
        assert len({answer.content for answer in answers}) == 1
        replayed = [answer for answer in answers if answer.headers.get("Idempotency-Replayed") == "true"]
        assert [answer.status_code for answer in replayed] == [200] * 19
        assert await count(crowd, alice) == round_number + 1


async def test_of_two_users_who_want_the_same_id_one_gets_it(crowd: httpx.AsyncClient, alice: UUID, bob: UUID) -> None:
    for _ in range(5):
        task_id = str(uuid4())
        answers = await asyncio.gather(*(create(crowd, user, id=task_id) for user in (alice, bob) for _ in range(10)))

        assert sorted(answer.status_code for answer in answers) == [200] * 9 + [201] + [409] * 10


@pytest.mark.parametrize("sort", SORTS)
async def test_nothing_is_skipped_or_shown_twice_while_others_write_around_it(
    crowd: httpx.AsyncClient, database: Database, alice: UUID, sort: str
) -> None:
    await make_mixed_tasks(database, alice)
    before = await walk(crowd, alice, limit=500)
    still, moving = before[:40], before[40:]
    expected = [task["id"] for task in in_order(still, sort)]
    ends = asyncio.Event()

    async def disturb(seed: int) -> int:
        dice = random.Random(seed)  # noqa: S311 - test data is no secret
        own, rounds = moving[seed::4], 0
        while not ends.is_set():
            new = await make_task(crowd, alice, title=dice.choice(["Milk", "a", "z"]), priority="low")
            victim = dice.choice(own)
            await crowd.patch(address(victim), json={"title": dice.choice("abcz"), "due_date": None})
            await crowd.delete(address(new))
            rounds += 1
        return rounds

    disturbers = [asyncio.create_task(disturb(seed)) for seed in range(4)]
    try:
        for _ in range(2):
            # What is changed all the time never stops coming at the end of a list that is sorted by change.
            end = {"updated_before": datetime.now(UTC).isoformat()} if sort == "updated_at" else {}
            seen = [task["id"] for task in await walk(crowd, alice, sort=sort, limit=3, **end)]
            assert [task_id for task_id in seen if task_id in expected] == expected
    finally:
        ends.set()
        rounds = await asyncio.gather(*disturbers)
    assert min(rounds) > 1
