"""Every example of the pages is executed against a running server, and what it prints is what the page shows.

`UPDATE_EXAMPLES=1 .venv/bin/pytest tests/docs/test_docs_examples.py` writes what they print now into the pages.
"""

import os
import re
import shutil
from difflib import unified_diff
from pathlib import Path

import pytest

from persistence import migrator
from persistence.postgres.dsn import Dsn
from tests.support.servers import ROOT, WebServer, command, url_of
from tests.support.transcripts import comparable, replayed

PAGES = ["docs/api.md", "README.md"]


@pytest.mark.skipif(not shutil.which("curl"), reason="not installed: curl")
@pytest.mark.parametrize("name", PAGES)
def test_every_example_prints_what_the_page_shows(name: str, empty_dsn: Dsn, tmp_path: Path) -> None:
    page = (ROOT / name).read_text(encoding="utf-8")
    migrator.migrate(empty_dsn)
    seeded = command(url_of(empty_dsn), "seed_dev").out
    user = re.search(r"[0-9a-f-]{36}", seeded)
    shown = re.search(r"/api/([0-9a-f-]{36})/tasks|USER_ID=([0-9a-f-]{36})", page)
    assert user
    assert shown
    with WebServer(tmp_path, {"ENVIRONMENT": "production", "DATABASE_URL": url_of(empty_dsn)}) as web:
        here = {"http://127.0.0.1:8000": web.url, shown[1] or shown[2]: user[0]}
        now = replayed(page, here, tmp_path)

    if os.environ.get("UPDATE_EXAMPLES"):
        (ROOT / name).write_text(now, encoding="utf-8")
    shown_now, shown_before = comparable(now).splitlines(), comparable(page).splitlines()
    difference = "\n".join(unified_diff(shown_before, shown_now, "the page", "the server", n=0, lineterm=""))
    assert not difference, difference


@pytest.mark.parametrize("name", PAGES)
def test_a_page_has_examples(name: str) -> None:
    assert len(re.findall(r"^\$ curl", (ROOT / name).read_text(encoding="utf-8"), re.MULTILINE)) >= 6


def test_a_wrong_status_or_a_member_too_many_is_noticed() -> None:
    shown = '$ curl x\n{"id":"3fa85f64-5717-4562-b3fc-2c963f66afa6","version":1795320897069274}\n'
    other = '$ curl x\n{"id":"055fcdb6-2179-4226-9200-60ebedb11f2c","version":1795320897069999}\n'

    assert comparable(shown) == comparable(other)
    assert comparable(shown) != comparable(other.replace("}", ',"more":1}'))
    assert comparable(shown + shown) != comparable(shown + other)


def test_a_cursor_is_recognised_whatever_it_begins_and_ends_with() -> None:
    plain, odd = "a" * 43, "-" + "a" * 41 + "-"

    assert comparable(f"limit=3&cursor={odd}>") == comparable(f"limit=3&cursor={plain}>")
