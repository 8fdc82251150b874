"""No request holds up a worker, and with it every other client, for longer than some ten creates do.

What counts is the CPU time of the worker as a multiple of what a create takes beside it. That does not depend on how
fast the machine is; counts of calls do not see what C does, and virtual machines have no counters of instructions.
"""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from time import clock_gettime

import pytest

from persistence.postgres.dsn import Dsn
from tests.support import worst_inputs
from tests.support.databases import temporary_database
from tests.support.sites import Site, running_site
from tests.support.sockets import all_from, connect
from todos.batches import ITEMS_MAX

CREATES = 10.0
LARGEST_BODY = 1024 * 1024
TRIES = 8
"""Other load on the machine makes a request cost more now and then, but not each time."""


@pytest.fixture(scope="module")
def site(server: Dsn, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    # Counting lines costs some requests twice what they take, and others nothing.
    settings = {"BODY_MAX_BYTES": str(LARGEST_BODY), "COVERAGE_PROCESS_CONFIG": ""}
    with (
        temporary_database(server, template) as dsn,
        running_site(dsn, tmp_path_factory.mktemp("web"), "--workers", "1", **settings) as site,
    ):
        yield site


def cost(site: Site, sent: bytes, times: int) -> tuple[float, set[int]]:
    """CPU seconds of the worker for one such request, and the statuses of its answers."""
    [worker] = site.workers
    # The clock of another process (clock_getcpuclockid in C).
    clock = (~worker.pid << 3) | 2
    sent, statuses = sent.replace(b"TASKS", f"/api{site.tasks}".encode()), set()
    before = clock_gettime(clock)
    for _ in range(times):
        with connect(site.web.port) as client:
            # The server may refuse it early, and not take all of it.
            with suppress(ConnectionError):
                client.sendall(sent)
            statuses.add(int(all_from(client)[9:12]))
    return (clock_gettime(clock) - before) / times, statuses


def dear(site: Site, requests: Mapping[str, bytes], most: float = CREATES) -> dict[str, str]:
    """The requests that cost too much, by name, and what each costs."""
    found = {}
    for name, sent in requests.items():
        creates = list[float]()
        while len(creates) < TRIES and min(creates, default=most) >= most:
            plain, created = cost(site, worst_inputs.PLAIN, 4)
            spent, statuses = cost(site, sent, 2)
            creates.append(spent / plain)
            assert created == {201}
            assert len(statuses) == 1, name
            assert statuses <= {200, 201, 400, 404, 412, 415, 431}, name
        if min(creates) >= most:
            found[name] = f"{min(creates):.0f} creates"
    return found


def test_no_first_line_and_no_header_holds_up_other_clients(site: Site) -> None:
    assert dear(site, worst_inputs.heads()) == {}


@pytest.mark.parametrize("size", [64 * 1024, pytest.param(LARGEST_BODY, marks=pytest.mark.slow)])
def test_no_body_holds_up_other_clients(site: Site, size: int) -> None:
    assert dear(site, worst_inputs.bodies(size)) == {}


@pytest.mark.slow
def test_no_batch_holds_up_other_clients_for_longer_than_as_many_creates_do(site: Site) -> None:
    assert dear(site, worst_inputs.batches(), ITEMS_MAX) == {}
