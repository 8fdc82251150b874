"""docs/authentication.md is true: its settings can be used, and its sessions print what it shows."""

import re
from pathlib import Path

import pytest

from config.env import Env
from tests.docs.pages import DOCS, FENCE, codes, section, text
from tests.docs.test_docs_examples import difference
from tests.support.better_auth import EXAMPLE, MISSING, proposed_settings
from tests.support.helpers import subclasses
from tests.support.record_docs import AUTHENTICATION, recorded
from todos.errors import Problem

PAGE = DOCS / "authentication.md"
SETTINGS = [
    dict(re.findall(r"^ *(AUTH_\w+)=(\S+)$", block, re.MULTILINE))
    for block in FENCE.findall(re.sub(r"^ {3}", "", text(PAGE), flags=re.MULTILINE))
    if "AUTH_ISSUER=" in block
]


def test_the_lines_for_better_auth_are_those_of_the_example() -> None:
    [audience] = re.findall(r'audience: "([^"]+)"', (EXAMPLE / "auth.js").read_text(encoding="utf-8"))

    assert proposed_settings() == {
        "AUTH_ISSUER": "http://localhost:3000",
        "AUTH_AUDIENCE": audience,
        "AUTH_JWKS_URL": "http://localhost:3000/api/auth/jwks",
    }
    assert SETTINGS[0] == {"AUTH_MODE": "jwt", **proposed_settings()}


@pytest.mark.parametrize("lines", SETTINGS, ids=lambda lines: lines["AUTH_ISSUER"])
def test_the_lines_for_an_issuer_can_be_used(lines: dict[str, str]) -> None:
    values = {"environment": "production", "database_url": "postgresql://h/db", "auth_mode": "jwt"}

    env = Env(_env_file=None, **values | {name.lower(): value for name, value in lines.items()})  # type: ignore[arg-type] # pydantic reads texts

    assert env.token_rules
    assert env.token_rules.issuer == lines["AUTH_ISSUER"]


def test_every_setting_of_tokens_is_on_the_page() -> None:
    assert {name.upper() for name in Env.model_fields if name.startswith("auth_")} - {
        name.partition("=")[0] for name in [*codes(PAGE), *(name for lines in SETTINGS for name in lines)]
    } == set()


def test_the_problems_that_a_client_has_to_know_are_those_of_401_and_403() -> None:
    table = section(PAGE, "What a client does")

    for status in (401, 403):
        [row] = [line for line in table.splitlines() if line.startswith(f"| {status} ")]
        assert set(re.findall(r"`([a-z]+-[a-z]+)`", row)) == {
            problem.kind for problem in subclasses(Problem) if problem.status == status
        }


@pytest.mark.slow
@pytest.mark.skipif(bool(MISSING), reason=f"not installed: {MISSING}")
def test_every_session_prints_what_the_page_shows(tmp_path: Path) -> None:
    now = recorded(AUTHENTICATION, text(PAGE), tmp_path)

    assert not difference(text(PAGE), now), difference(text(PAGE), now)
