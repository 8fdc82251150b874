"""More clients than a worker may have: idle ones are closed for new ones, and the rest are told to come again."""

import resource
import select
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import psutil
import pytest

from persistence.postgres.dsn import Dsn
from tests.support.databases import temporary_database
from tests.support.servers import eventually
from tests.support.sites import Site, running_site
from tests.support.sockets import LIVE, Answer, all_from, answer_from, answers_in, check_problem, connect

MOST = 8


@contextmanager
def few_files(number: int) -> Iterator[None]:
    """A process that starts in the block may open this many files, unless it asks for more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (number, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture(scope="module")
def site(server: Dsn, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    limit = ("--workers", "1", "--worker-connections", str(MOST))
    with temporary_database(server, template) as dsn, ExitStack() as stack:
        with few_files(200):
            site = stack.enter_context(running_site(dsn, tmp_path_factory.mktemp("web"), *limit))
        yield site


def ask(site: Site) -> Answer:
    with connect(site.web.port) as client:
        client.sendall(LIVE[:-2] + b"Connection: close\r\n\r\n")
        [answer] = answers_in(all_from(client))
    return answer


def test_a_worker_takes_as_many_files_as_it_may(site: Site) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    [worker] = site.workers

    assert worker.rlimit(psutil.RLIMIT_NOFILE) == (hard, hard)


def test_beyond_the_limit_a_client_is_told_to_come_again(site: Site) -> None:
    with ExitStack() as stack:
        for _ in range(MOST):
            stack.enter_context(connect(site.web.port)).sendall(LIVE[:-2])
        refused = [ask(site) for _ in range(100)]
    eventually(lambda: ask(site).status == 200)

    for answer in refused:
        check_problem(answer)
        assert answer.status == 503
        assert answer.headers[b"retry-after"] == b"1"
        assert answer.headers[b"connection"] == b"close"
        # A script in a browser can see that, too.
        assert answer.headers[b"access-control-allow-origin"] == b"*"
    site.assert_calm()


def test_clients_that_have_been_idle_longest_are_closed_for_a_new_one(site: Site) -> None:
    with ExitStack() as stack:
        clients = [stack.enter_context(connect(site.web.port)) for _ in range(MOST)]
        for client in clients:
            client.sendall(LIVE)
            assert answer_from(client).status == 200
        # They count as idle after a second, and the worker sweeps once a second.
        eventually(lambda: ask(site).status == 200)
        closed = select.select(clients, [], [])[0]
        for client in clients:
            if client in closed:
                assert client.recv(1) == b""
            else:
                client.sendall(LIVE)
                assert answer_from(client).status == 200

    assert 0 < len(closed) < MOST


@pytest.mark.slow
def test_a_worker_never_runs_out_of_files(migrated_dsn: Dsn, tmp_path_factory: pytest.TempPathFactory) -> None:
    # The limit is only for the worker, as the test itself needs more.
    config = ("-c", "python:tests.support.cramped", "--workers", "1")
    with running_site(migrated_dsn, tmp_path_factory.mktemp("web"), *config) as site, ExitStack() as stack:
        for _ in range(500):
            stack.enter_context(connect(site.web.port))
        eventually(lambda: ask(site).status == 503)
        [worker] = site.workers
        assert worker.num_fds() < 256
        stack.close()
        eventually(lambda: ask(site).status == 200)
        assert site.web.http.get(site.tasks).status_code == 200
        site.assert_calm()
