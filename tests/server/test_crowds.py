"""More clients than there is room for: the idle ones go first, and the rest get to know that they cannot stay."""

import resource
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import psutil
import pytest

from persistence.postgres.dsn import Dsn
from tests.support.servers import eventually
from tests.support.sites import Site, made_site
from tests.support.sockets import Answer, all_from, answer_from, answers_in, check_problem, connect

LIVE = b"GET /api/v1/live HTTP/1.1\r\nHost: test\r\n\r\n"
ROOM = 8


@pytest.fixture(scope="module")
def site(server: Dsn, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("web")
    with made_site(server, folder, "--workers", "1", "--worker-connections", str(ROOM)) as site:
        yield site


def ask(site: Site) -> Answer:
    with connect(site.web.port) as client:
        client.sendall(LIVE[:-2] + b"Connection: close\r\n\r\n")
        [answer] = answers_in(all_from(client))
    return answer


def test_beyond_the_limit_a_client_is_told_to_come_again(site: Site) -> None:
    with ExitStack() as stack:
        for _ in range(ROOM):
            stack.enter_context(connect(site.web.port)).sendall(LIVE[:-2])
        refused = [ask(site) for _ in range(100)]
    eventually(lambda: ask(site).status == 200)

    for answer in refused:
        check_problem(answer)
        assert answer.status == 503
        assert answer.headers[b"retry-after"] == b"1"
        assert answer.headers[b"connection"] == b"close"
    assert not any(word in site.web.log for word in ("Traceback", "WARNING", "ERROR", "CRITICAL"))


def test_whoever_has_been_idle_longest_goes_for_a_new_client(site: Site) -> None:
    with ExitStack() as stack:
        clients = [stack.enter_context(connect(site.web.port)) for _ in range(ROOM)]
        for client in clients:
            client.sendall(LIVE)
            assert answer_from(client).status == 200
        # They count as idle after a second, and are looked at once a second.
        eventually(lambda: ask(site).status == 200)
        gone = []
        for number, client in enumerate(clients):
            client.settimeout(0.2)
            try:
                gone += [number] * (client.recv(1) == b"")
            except TimeoutError:
                client.sendall(LIVE)
                assert answer_from(client).status == 200

    assert gone
    assert len(gone) < ROOM


@contextmanager
def few_files(number: int) -> Iterator[None]:
    """Whatever is started in the block may open so many files, unless it asks for more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (number, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_worker_takes_as_many_files_as_it_may(server: Dsn, tmp_path_factory: pytest.TempPathFactory) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with few_files(200), made_site(server, tmp_path_factory.mktemp("web"), "--workers", "1") as site:
        [worker] = site.workers
        assert worker.rlimit(psutil.RLIMIT_NOFILE) == (hard, hard)


@pytest.mark.slow
def test_a_worker_never_runs_out_of_files(server: Dsn, tmp_path_factory: pytest.TempPathFactory) -> None:
    # Only for the worker, as the test itself needs more.
    config = ("-c", "python:tests.support.cramped", "--workers", "1")
    with made_site(server, tmp_path_factory.mktemp("web"), *config) as site, ExitStack() as stack:
        for _ in range(500):
            stack.enter_context(connect(site.web.port))
        time.sleep(1)
        [worker] = site.workers
        assert worker.num_fds() < 256
        assert ask(site).status == 503
        stack.close()
        eventually(lambda: ask(site).status == 200)
        assert site.web.http.get(site.tasks).status_code == 200
        assert not any(word in site.web.log for word in ("Traceback", "WARNING", "ERROR", "CRITICAL")), site.web.log
