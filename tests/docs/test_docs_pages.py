"""The interactive documentation, which asks no other host for anything."""

import re
from html.parser import HTMLParser
from typing import override
from urllib.parse import urljoin

import httpx
import pytest

from tests.support.helpers import assert_problem


class _References(HTMLParser):
    """Collects the addresses that a browser would load for the page."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    @override
    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value for name, value in attrs if name in ("src", "href") and value]


async def _docs(client: httpx.AsyncClient) -> str:
    response = await client.get("docs")
    assert response.status_code == 200
    assert response.headers["Content-Type"].startswith("text/html")
    return response.text


async def test_the_page_names_no_other_host(client: httpx.AsyncClient) -> None:
    page = await _docs(client)

    assert "/api/openapi.json" in page
    assert not re.search(r"(https?:)?//\w", page)


async def test_everything_that_the_page_loads_is_served_here(client: httpx.AsyncClient) -> None:
    references = _References()
    references.feed(await _docs(client))

    assert {reference.rpartition(".")[2] for reference in references.found} >= {"js", "css"}
    for reference in references.found:
        # A proxy passes this prefix on, and no other.
        assert reference.startswith("/api/")
        response = await client.get(urljoin("http://test", reference))
        assert response.status_code == 200, reference
        assert response.content
        assert "max-age" in response.headers["Cache-Control"]
        assert response.headers["X-Content-Type-Options"] == "nosniff"


async def test_only_the_page_may_run_scripts_and_only_those_of_this_server(client: httpx.AsyncClient) -> None:
    others = ["/api/openapi.json", "/api/v1/live", "/api/nowhere", "/api/static/ninja/favicon.svg"]
    page, *rest = [await client.get(f"http://test{path}") for path in ("/api/docs", *others)]
    refused = await client.post("http://test/api/docs")

    for response in (*rest, refused):
        assert response.headers["Content-Security-Policy"] == "default-src 'none'; frame-ancestors 'none'"
        assert response.headers["Cross-Origin-Resource-Policy"] == "same-origin"
    policy = dict(rule.split(" ", 1) for rule in page.headers["Content-Security-Policy"].split("; "))
    assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"


@pytest.mark.parametrize(
    ("name", "content_type"),
    [
        ("swagger-ui-bundle.js", "text/javascript"),
        ("swagger-ui-init.js", "text/javascript"),
        ("swagger-ui.css", "text/css"),
        ("favicon.png", "image/png"),
    ],
)
async def test_a_file_has_its_content_type(client: httpx.AsyncClient, name: str, content_type: str) -> None:
    response = await client.get(f"http://test/api/static/ninja/{name}")

    assert response.status_code == 200
    assert response.headers["Content-Type"].partition(";")[0] == content_type


@pytest.mark.parametrize(
    "name", ["", "nope.js", "..", "%2e%2e%2f__init__.py", "../__init__.py", "%00", "%FF.js", "swagger-ui.css/", ".css"]
)
async def test_an_unknown_file_is_not_found(client: httpx.AsyncClient, name: str) -> None:
    assert_problem(await client.get(f"http://test/api/static/ninja/{name}"), 404, "path-not-found")
