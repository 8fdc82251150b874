"""The interactive documentation in a real browser, which can reach no host but ours."""

import json
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import override
from uuid import UUID, uuid4

import pytest

from persistence.postgres.dsn import Dsn
from tests.support.browser import Browser, browser, is_installed
from tests.support.issuer import Issuer
from tests.support.servers import WebServer, eventually
from tests.support.sites import production

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not is_installed(), reason="not installed: chromium, chromium-driver"),
]


class QuietHandler(SimpleHTTPRequestHandler):
    @override
    def log_message(self, *_: object) -> None:
        pass


HOST = "todo.example"  # Swagger UI takes a name such as localhost for a developer's machine and does less there.


@pytest.fixture
def web(dsn: Dsn, tmp_path: Path) -> Iterator[WebServer]:
    with production(dsn, tmp_path, "--workers", "1") as web:
        yield web


@pytest.fixture
def page(web: WebServer, tmp_path: Path) -> Iterator[Browser]:
    with browser(tmp_path, HOST) as page:
        page.open(f"http://{HOST}:{web.port}/api/docs")
        yield page


def test_every_operation_is_shown_and_no_other_host_is_asked(web: WebServer, page: Browser) -> None:
    paths = web.http.get("/openapi.json").json()["paths"]

    page.click(".opblock-summary-control")

    methods, shown = page.texts(".opblock-summary-method"), page.texts(".opblock-summary-path")
    assert {(method.lower(), path.replace("\u200b", "")) for method, path in zip(methods, shown, strict=True)} == {
        (method, path) for path, operations in paths.items() for method in operations
    }
    assert "Errors" not in page.texts("h4")
    assert page.complaints() == []
    requests = page.requests()
    assert f"http://{HOST}:{web.port}/api/openapi.json" in requests
    assert {url: end for url, end in requests.items() if end != 200 or not url.startswith(f"http://{HOST}")} == {}


def test_the_proposal_of_the_page_creates_a_task(web: WebServer, page: Browser, alice: UUID) -> None:
    page.click("#operations-tasks-create_task .opblock-summary-control")
    page.fill("[data-param-name=user_id] input", str(alice))
    [proposed] = page.values(".body-param__text")

    page.click(".execute")

    assert page.texts(".live-responses-table .response .response-col_status") == ["201"]
    [task] = web.http.get(f"/{alice}/tasks").json()["items"]
    assert json.loads(proposed).items() <= task.items()
    assert page.complaints() == []


def test_what_is_put_into_the_page_from_elsewhere_neither_runs_nor_asks_anybody(page: Browser) -> None:
    page.run("""
        const script = document.createElement("script")
        script.textContent = "document.title = 'taken'"
        document.body.append(script)
        const handler = document.createElement("div")
        handler.innerHTML = "<img src='/nothing' onerror='document.title = `taken`'>"
        document.body.append(handler)
        return fetch("http://127.0.0.1:9/").catch(() => null)
    """)

    complaints = page.complaints()
    assert sum("Content Security Policy" in complaint for complaint in complaints) >= 3, complaints
    assert page.run("return document.title") == "Todo API"


def test_a_front_end_of_another_origin_may_fetch_answers_and_nobody_may_embed_them(dsn: Dsn, tmp_path: Path) -> None:
    (tmp_path / "page").mkdir()
    (tmp_path / "page" / "index.html").write_text("<title>Front end</title>")
    handler = partial(QuietHandler, directory=tmp_path / "page")
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as front_end:
        Thread(target=front_end.serve_forever, daemon=True).start()
        origin = f"http://127.0.0.1:{front_end.server_port}"
        with (
            production(dsn, tmp_path, "--workers", "1", CORS_ORIGINS=origin) as web,
            browser(tmp_path, HOST) as page,
        ):
            page.open(origin)
            live = f"http://{HOST}:{web.port}/api/v1/live"
            assert page.run(f"return fetch('{live}').then(answer => answer.json())") == {"status": "alive"}
            refused = page.run(f"return fetch('{live}', {{mode: 'no-cors'}}).then(() => null, error => error.name)")
            assert refused == "TypeError"
            page.complaints()
            page.run(
                f"const frame = document.createElement('iframe'); frame.src = '{live}'; document.body.append(frame)"
            )
            eventually(lambda: any("frame-ancestors" in complaint for complaint in page.complaints()))
        front_end.shutdown()


def test_the_authorize_button_takes_a_token_and_sends_it(dsn: Dsn, tmp_path: Path) -> None:
    user = uuid4()
    with (
        Issuer() as issuer,
        production(dsn, tmp_path, "--workers", "1", issuer=issuer) as web,
        browser(tmp_path, HOST) as page,
    ):
        page.open(f"http://{HOST}:{web.port}/api/docs")
        page.click(".auth-wrapper .authorize")
        page.fill(".auth-container input", issuer.token(user))
        page.click(".auth-btn-wrapper .authorize")
        page.click(".btn-done")
        page.click("#operations-account-get_account .opblock-summary-control")
        page.click(".execute")

        assert page.texts(".live-responses-table .response .response-col_status") == ["200"]
        assert str(user) in "".join(page.texts(".live-responses-table .response-col_description .microlight"))
