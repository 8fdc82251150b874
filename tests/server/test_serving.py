"""gunicorn as in production: several processes on a real database, under load, and with clients that hang up."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Iterator
from functools import partial

import pytest

from persistence.postgres.dsn import Dsn
from tests.faults.connections import Watch
from tests.faults.http import Http
from tests.support.databases import as_owner, new_user, temporary_database
from tests.support.servers import LONG, eventually
from tests.support.sites import POOL_MAX, WORKERS, Site, raw_post, running_site
from tests.support.sockets import LIVE, answer_from, connect, reset_when_closed


@pytest.fixture(scope="module")
def shared(server: Dsn, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with temporary_database(server, template) as dsn, running_site(dsn, tmp_path_factory.mktemp("web")) as site:
        eventually(lambda: site.listening == WORKERS)
        yield site


@pytest.fixture
def site(shared: Site) -> Iterator[Site]:
    """The server, with a user for each test."""
    yield Site(shared.web, new_user(shared.dsn), shared.dsn)
    shared.assert_calm()
    assert shared.listening == WORKERS


def test_a_client_that_hangs_up_does_not_cancel_its_write(site: Site) -> None:
    def is_waiting(number: int) -> bool:
        return site.waiting_for_locks() == number

    # Those of one user would wait for each other before they reach the database.
    users = [site.new_user() for _ in range(4)]
    with site.locked_tasks():
        for number, user in enumerate(users):
            client = connect(site.web.port)
            client.sendall(raw_post(user, "Hung up"))
            eventually(partial(is_waiting, number + 1))
            if number % 2:
                reset_when_closed(client)
            client.close()
        # A client that has closed only its half could still read the answer.
        eventually(lambda: site.connections_of_clients() == 2)

    eventually(lambda: all(site.titles(user) == ["Hung up"] for user in users))
    eventually(lambda: set(site.connection_states()) == {"idle"})


def test_clients_that_hang_up_before_their_request_is_whole_leave_nothing(site: Site) -> None:
    whole = raw_post(site.user, "Never sent")
    for end in (0, 10, whole.index(b"\r\n\r\n") + 4, len(whole) - 1):
        with connect(site.web.port) as client:
            client.sendall(whole[:end])
            reset_when_closed(client)

    assert site.web.http.post(site.tasks, json={"title": "Sent"}).status_code == 201
    eventually(lambda: not site.connections_of_clients())
    assert site.titles() == ["Sent"]


@pytest.mark.parametrize("path", ["/api/v1/live", "/api/v1/nowhere", "/%00", "/api/docs"])
def test_every_answer_has_each_header_once(site: Site, path: str) -> None:
    answer = site.web.http.get(path)

    names = Counter(name.lower() for name, _ in answer.headers.multi_items())
    assert names.keys() >= {
        "cache-control", "content-security-policy", "content-type", "cross-origin-resource-policy", "date",
        "referrer-policy", "server", "x-content-type-options", "x-request-id",
    }  # fmt: skip
    assert set(names.values()) == {1}


def test_a_crowd_of_clients_can_wait_for_a_busy_server(site: Site) -> None:
    for worker in site.workers:
        worker.suspend()
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(connect(site.web.port)) for _ in range(300)]
        for worker in site.workers:
            worker.resume()
        for client in clients:
            client.sendall(LIVE)
        assert {answer_from(client).status for client in clients} == {200}


async def test_a_hundred_clients_meet_no_error_and_the_pools_keep_their_limit(site: Site) -> None:
    statuses = Counter[int]()

    async def use() -> None:
        client = Http(site.web.port, timeout=LONG)
        created = await client.request("POST", tasks, {"title": "Storm"})
        task = f"{tasks}/{created.json['id']}"
        answers = [
            created,
            await client.request("GET", task),
            await client.request("GET", f"{tasks}?limit=5"),
            await client.request("PATCH", task, {"completed": True}),
            await client.request("DELETE", task),
        ]
        statuses.update(answer.status for answer in answers)
        client.close()

    tasks = f"/api{site.tasks}"
    with Watch(as_owner(site.dsn).conninfo) as watch:
        await asyncio.gather(*(use() for _ in range(100)))
        await asyncio.to_thread(eventually, lambda: watch.samples > 0)

    assert statuses == {201: 100, 200: 400}
    assert watch.most <= WORKERS * POOL_MAX
    eventually(lambda: set(site.connection_states()) == {"idle"})
    assert site.connection_states().total() <= WORKERS * POOL_MAX
    assert site.titles() == []


@pytest.mark.slow
async def test_a_thousand_clients_at_once_are_all_answered(site: Site) -> None:
    request = b"GET /api%s HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n" % site.tasks.encode()

    async def ask(barrier: asyncio.Barrier) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", site.web.port)
        await barrier.wait()
        writer.write(request)
        status_line = await reader.readline()
        await reader.read()
        writer.close()
        await writer.wait_closed()
        return status_line.split(b" ")[1]

    barrier = asyncio.Barrier(1000)
    statuses = await asyncio.gather(*(ask(barrier) for _ in range(1000)))

    assert Counter(statuses) == {b"200": 1000}
    eventually(lambda: set(site.connection_states()) == {"idle"})
