"""The server keeps its contract, whatever is sent; `make fuzz` sends a hundred times as much."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from wsgiref.simple_server import make_server
from wsgiref.types import StartResponse, WSGIEnvironment

import pytest

from persistence.dsn import Dsn
from tests.servers import WebServer, url_of

EXAMPLES = 30


@pytest.fixture
def seed(pytestconfig: pytest.Config) -> int:
    """That of pytest-randomly, so that `--randomly-seed` repeats a run."""
    return int(pytestconfig.getoption("randomly_seed", 1))


@contextmanager
def thoughtless_server() -> Iterator[str]:
    """It has the same answer to everything."""

    def answer(_environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
        start_response("200 OK", [("Content-Type", "application/json")])
        return [b"{}"]

    with make_server("127.0.0.1", 0, answer) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize("phases", [("examples", "coverage"), ("fuzzing",), ("stateful",)], ids=", ".join)
def test_the_server_keeps_its_contract(phases: tuple[str, ...], seed: int, dsn: Dsn, tmp_path: Path) -> None:
    # Only here, as it takes half a second that every process of pytest would spend.
    from tests.fuzz.rounds import fuzz

    with WebServer(tmp_path, {"ENVIRONMENT": "production", "DATABASE_URL": url_of(dsn), "WEB_CONCURRENCY": "1"}) as web:
        report = fuzz(web.url, dsn, seed, EXAMPLES, phases)

    assert not report.failures, "\n\n".join([f"--randomly-seed={seed}", *report.failures])
    assert "Traceback" not in web.log
    successful = {operation for operation, status in report.answers if status < 400}
    assert successful == {operation for operation, _ in report.answers}


def test_answers_that_break_the_contract_are_noticed(seed: int, dsn: Dsn) -> None:
    from tests.fuzz.rounds import fuzz

    with thoughtless_server() as url:
        report = fuzz(url, dsn, seed, 1, ["examples"])

    assert any("response_schema_conformance" in failure for failure in report.failures)
    assert any("response_headers_conformance" in failure for failure in report.failures)
