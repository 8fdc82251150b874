"""Every example of the pages is executed against a running server, and prints the lines that the page shows.

`make record-docs` writes the output that the examples have now into the pages.
"""

import re
import shutil
from collections.abc import Iterator
from difflib import unified_diff
from pathlib import Path

import psycopg
import pytest

from persistence.postgres.dsn import Dsn
from tests.support.databases import as_owner, temporary_database
from tests.support.record_docs import recorded
from tests.support.servers import ROOT, WebServer, command, url_of
from tests.support.transcripts import comparable, replacements, replayed

PAGES = [
    pytest.param("docs/api.md", marks=pytest.mark.plain("has one node, as the health on the page")),
    "docs/export-import.md",
    "docs/sync.md",
    "README.md",
]


@pytest.fixture(scope="module")
def own_dsn(server: Dsn, template: str) -> Iterator[Dsn]:
    with temporary_database(server, template) as dsn:
        yield dsn


@pytest.fixture(scope="module")
def web(own_dsn: Dsn, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebServer]:
    settings = {
        "ENVIRONMENT": "production",
        "AUTH_MODE": "trusted",
        "DATABASE_URL": url_of(own_dsn),
        "REQUEST_TIMEOUT": "60",
    }
    with WebServer(tmp_path_factory.mktemp("web"), settings) as web:
        yield web


@pytest.mark.skipif(not shutil.which("curl"), reason="not installed: curl")
@pytest.mark.parametrize("name", PAGES)
def test_every_example_prints_what_the_page_shows(name: str, web: WebServer, own_dsn: Dsn, tmp_path: Path) -> None:
    page = (ROOT / name).read_text(encoding="utf-8")
    with psycopg.connect(as_owner(own_dsn).conninfo) as connection:
        connection.execute("DELETE FROM users")
    user = re.search(r"[0-9a-f-]{36}", command(url_of(own_dsn), "seed_dev").out)
    assert user
    assert page.count("\n$ curl") >= 3

    now = replayed(page, replacements(page, web.url, user[0]), tmp_path, settings={})

    assert not difference(page, now), difference(page, now)


@pytest.mark.slow
@pytest.mark.parametrize("page_name", ["commands", "configuration", "database", "operations"])
def test_every_command_prints_what_the_page_shows(page_name: str, tmp_path: Path) -> None:
    name = f"docs/{page_name}.md"
    page = (ROOT / name).read_text(encoding="utf-8")

    now = recorded(name, page, tmp_path)

    assert not difference(page, now), difference(page, now)


def difference(page: str, now: str) -> str:
    shown = comparable(page).splitlines(), comparable(now).splitlines()
    return "\n".join(unified_diff(*shown, "the page", "the server", n=0, lineterm=""))


def test_a_page_that_shows_something_else_is_noticed() -> None:
    shown = '$ curl x\n{"id":"3fa85f64-5717-4562-b3fc-2c963f66afa6","version":1795320897069274}\n'
    other = '$ curl x\n{"id":"055fcdb6-2179-4226-9200-60ebedb11f2c","version":1795320897069999}\n'

    assert comparable(shown) == comparable(other)
    assert comparable(shown) != comparable(other.replace("}", ',"more":1}'))
    assert comparable(shown + shown) != comparable(shown + other)
    # A cursor may begin and end with a dash.
    assert comparable(f"cursor={'-' + 'a' * 41 + '-'}>") == comparable(f"cursor={'b' * 43}>")
