"""The same requests have the same answers whatever the locale of the database (D45, D51)."""

# ruff: noqa: RUF001 - letters that look like others are what it is about

from collections.abc import Iterator
from typing import Any
from uuid import UUID

import httpx
import psycopg
import pytest

from persistence import migrator, users
from persistence.history import MigrationError
from persistence.postgres.database import open_database
from persistence.postgres.dsn import Dsn
from tests.conftest import client_of
from tests.database.helpers import Admin
from tests.support.databases import as_owner
from tests.support.locales import databases_of_many_locales

TASKS: list[tuple[str, list[str]]] = [
    ("zebra", ["Zoo"]),
    ("Äpfel", ["ÄPFEL", "äpfel"]),
    ("äpfel", []),
    ("Zebra", ["ΟΔΟΣ", "οδος"]),
    ("straße", ["straße", "STRASSE"]),
    ("STRASSE", ["STRAẞE"]),
    ("Ισπανία", ["ΑΓΟΡΑΣ"]),
    ("αγορας ΑΓΟΡΑΣ αγορασ", []),
    ("Isparta", ["I"]),
    ("ısparta", ["ı"]),
    ("İzmir", ["İ"]),
    ("chata", ["ch"]),
    ("cukr", ["\u00e5", "\u212b"]),
    ("co-op", ["\U00010d50", "\ua7cb"]),
    ("coop", ["\u1c89", "ა", "Ა"]),
    ("\x1cx\xa0\u3000", ["\x1fa\u2003"]),
    ("\u2003 y \u2003", ["a\xa0b"]),
    ("_", ["%"]),
    ("100%_\\", ["\\"]),
]
SEARCHES = [
    "zEBRA", "äpf", "ÄPF", "strasse", "STRAẞE", "ß", "αγοράς", "αγορασ", "ΑΓΟΡΑΣ", "isp", "ISP", "ısp", "izmir",
    "İZMİR", "CH", "co", "CO-", "x", "Y", "%", "_", "\\", "Ა", "ა", "\U00010d50", "\ua7cb",
]  # fmt: skip
TAGS = ["zoo", "ÄPFEL", "ΟΔΟΣ", "οδος", "straße", "Strasse", "i", "I", "ı", "İ", "å", "\U00010d70", "ა", "Ა", "a", "%"]
EMAILS = ["Ünal@Example.com", "ünal@example.com", "I@example.com", "ı@example.com", "a\xa0b@example.com", "\ua7cb@x"]


@pytest.fixture(scope="module")
def databases(server: Dsn) -> Iterator[dict[str, Dsn]]:
    with databases_of_many_locales(server) as databases:
        for dsn in databases.values():
            migrator.migrate(dsn)
        yield databases


async def answers(dsn: Dsn) -> list[Any]:
    """What users with these tasks and searches see, but for ids and times."""
    async with open_database(dsn) as database, client_of(database) as client:
        seen: list[Any] = []
        user = await users.create(database, "alice@example.com")
        for number, (title, tags) in enumerate(TASKS):
            # The id decides the order of titles that are alike.
            task = {"id": str(UUID(int=number)), "title": title, "tags": tags, "description": title}
            response = await client.post(f"{user}/tasks", json=task)
            seen.append((response.status_code, response.json().get("title"), response.json().get("tags")))
        queries: list[dict[str, Any]] = [
            *({"q": text, "sort": "title"} for text in SEARCHES),
            *({"tag": text, "sort": "-title"} for text in TAGS),
            *({"sort": sort, "limit": 3} for sort in ("title", "-title")),
        ]
        seen += [(query, await titles(client, f"{user}/tasks", query)) for query in queries]
        seen.append(list((await client.get(f"{user}/tasks/summary")).json()["tags"].items()))
        return seen + [(email, await users.create(database, email) is not None) for email in EMAILS]


async def titles(client: httpx.AsyncClient, url: str, query: dict[str, Any]) -> list[str]:
    """Of all pages, so that each cursor but the first comes to the database, too."""
    found: list[str] = []
    while True:
        response = await client.get(url, params=query)
        assert response.is_success, response.text
        page = response.json()
        found += [task["title"] for task in page["items"]]
        if page["next_cursor"] is None:
            return found
        query = query | {"cursor": page["next_cursor"]}


async def test_the_same_requests_have_the_same_answers_in_every_locale(databases: dict[str, Dsn]) -> None:
    first, *others = databases
    expected = await answers(databases[first])
    assert ({"q": "strasse", "sort": "title"}, ["straße", "STRASSE"]) in expected
    for options in others:
        assert await answers(databases[options]) == expected, options


def test_no_rule_of_the_schema_reads_the_locale_of_the_database(databases: dict[str, Dsn]) -> None:
    # What a locale adds to ASCII: letters that it lowers, and space that it knows.
    insert = (
        "INSERT INTO users (id, email) VALUES (gen_random_uuid(), 'Ünal' || chr(160) || '@example.com') RETURNING id"
    )
    task = "INSERT INTO tasks (id, user_id, title, tags) VALUES (gen_random_uuid(), %s, chr(8195), '{Ä,\u2003b}')"
    for dsn in databases.values():
        with psycopg.connect(as_owner(dsn).conninfo) as connection:
            connection.execute(task.encode(), connection.execute(insert.encode()).fetchone())


def test_a_server_without_a_collation_of_full_case_mapping_is_refused_in_one_line(empty_dsn: Dsn, admin: Admin) -> None:
    admin.execute(
        "UPDATE pg_collation SET collname = collname || '_gone' WHERE collname IN ('pg_unicode_fast', 'und-x-icu')"
    )
    with pytest.raises(
        MigrationError, match="text cannot be folded here: use PostgreSQL 18 or newer, or a 16"
    ) as failure:
        migrator.migrate(empty_dsn)
    assert "\n" not in str(failure.value)
    assert migrator.current(empty_dsn) == "0006"
