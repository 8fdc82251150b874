"""One rule for text, in titles, descriptions, tags, searches and filters (D45)."""

# ruff: noqa: RUF001 - letters that look like others are what it is about

from itertools import permutations
from unicodedata import normalize
from uuid import UUID

import pytest

from persistence.models import TAG_MAX_LENGTH
from persistence.postgres.database import Database
from tests.support.helpers import Client, Json, address, assert_problem, get_task, insert_task, make_task, write

COMPOSED, DECOMPOSED = "caf\xe9", "cafe\u0301"
EMOJI = ["👩‍🚀", "❤️", "🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f", "👍🏽", "1️⃣"]
"""Sequences that end in a joiner's right side, a variation selector, a tag, a modifier and a combining mark."""
NOTHING = [
    "\u200b", "\u200d", "\u2060\ufeff", "\u202e", "\xad", "\x01", "\x7f", "\u2800", "\u3164", "\u115f\u1160", "\uffa0",
    "\ufe0f", "\u0301", "\u20dd", "\u093f", "\u034f", "\u180e", "\ufffb", "\U000e0020", "\U000e0100", "\U0001d159",
]  # fmt: skip


async def found(client: Client, user: UUID, **query: str) -> set[str]:
    response = await client.get(f"{user}/tasks", params=query)
    assert response.status_code == 200, response.text
    return {task["title"] for task in response.json()["items"]}


async def test_text_of_the_same_letters_is_stored_alike_however_it_is_composed(client: Client, alice: UUID) -> None:
    task = await make_task(client, alice, title=DECOMPOSED, description=DECOMPOSED, tags=[DECOMPOSED, COMPOSED])

    assert task["title"] == task["description"] == COMPOSED
    assert task["tags"] == [COMPOSED]
    for text in (COMPOSED, DECOMPOSED, DECOMPOSED.upper()):
        assert await found(client, alice, tag=text) == await found(client, alice, q=text) == {COMPOSED}


async def test_lengths_are_those_of_the_normal_form(client: Client, task: Json) -> None:
    # Hangul has three characters for one, and DEVANAGARI LETTER QA two in NFC.
    for field, most in (("title", 200), ("description", 1000)):
        text = "\uac01" * most
        assert (await write(client, "PATCH", task, {field: normalize("NFD", text)})).json()[field] == text
        assert (await write(client, "PATCH", task, {field: normalize("NFD", text + "\uac01")})).status_code == 400
        assert (await write(client, "PATCH", task, {field: "\u0958" * (most // 2)})).is_success
        assert (await write(client, "PATCH", task, {field: "\u0958" * (most // 2 + 1)})).status_code == 400
    assert (await write(client, "PATCH", task, {"tags": [normalize("NFD", "\uac01" * 10)]})).is_success
    # A letter that is one character in lower case only.
    assert (await write(client, "PATCH", task, {"tags": ["H\u0331" * TAG_MAX_LENGTH]})).is_success
    assert (await client.get(f"{task['user_id']}/tasks", params={"q": normalize("NFD", "\uac01" * 100)})).is_success


@pytest.mark.parametrize("nothing", NOTHING, ids=ascii)
async def test_a_title_a_tag_and_a_search_need_something_to_see(client: Client, task: Json, nothing: str) -> None:
    for text in (nothing, f" {nothing} {nothing}"):
        for field, value in (("title", text), ("tags", [text])):
            document = (await write(client, "PATCH", task, {field: value})).json()
            assert document["status"] == 400
        response = await client.get(f"{task['user_id']}/tasks", params={"q": text})
        assert_problem(response, 400, "invalid-input", "q")
    assert (await write(client, "PATCH", task, {"title": f"x{nothing}x", "description": nothing})).is_success


async def test_emoji_and_letters_newer_than_this_python_are_kept_whole(client: Client, task: Json) -> None:
    for text in (*EMOJI, "\U0001fae9", "\U0001fabe", "\U00010d50"):
        stored = (await write(client, "PATCH", task, {"title": text, "tags": [text]})).json()
        assert (stored["title"], stored["tags"]) == (text, [text])
        assert await found(client, UUID(task["user_id"]), q=text, tag=text) == {text}


async def test_nothing_at_an_end_is_trimmed_as_space_is(client: Client, task: Json) -> None:
    await write(client, "PATCH", task, {"title": "\ufeff \u200bx\u200by \u2060", "tags": ["home\u200b", "home"]})

    stored = await get_task(client, task)
    assert (stored["title"], stored["tags"]) == ("x\u200by", ["home"])
    assert await found(client, UUID(task["user_id"]), q="\ufeffX\u200bY \u200b") == {"x\u200by"}


async def test_a_letter_with_more_marks_than_any_language_has_is_refused(client: Client, task: Json) -> None:
    assert (await write(client, "PATCH", task, {"title": "o" + "\u0301" * 30})).is_success
    for field, value in (
        ("title", "o" + "\u0301\u0316" * 16),
        ("description", "\u0316" * 31),
        ("tags", ["\u0301" * 31]),
    ):
        assert "at most 30" in (await write(client, "PATCH", task, {field: value})).text


ALIKE = [
    ("αγορας", "ΑΓΟΡΑΣ", "αγορασ"),
    ("straße", "STRASSE", "STRAẞE", "Strasse"),
    ("ısparta", "ISPARTA", "isparta"),
    ("İzmir", "i̇zmir", "İZMIR"),
    ("ǆungla", "ǅUNGLA", "ǄUNGLA"),
    ("ﬁsch", "FISCH", "fisch"),
    ("жук", "ЖУК"),
    ("𐐨", "𐐀"),
]


@pytest.mark.parametrize("texts", ALIKE)
async def test_a_search_makes_no_difference_between_letters_with_the_same_capitals(
    client: Client, alice: UUID, texts: tuple[str, ...]
) -> None:
    for text in texts:
        await make_task(client, alice, title=f"x {text} x", description=text)
    titles = {normalize("NFC", f"x {text} x") for text in texts}
    for text in texts:
        assert await found(client, alice, q=text) == titles
        assert await found(client, alice, q=f"X {text}") == titles


async def test_titles_are_in_the_order_of_their_capitals(client: Client, alice: UUID) -> None:
    titles = ["Stra\xdfe 1", "STRASSE 2", "strasse 3", "Zebra", "_", "a", "\xc4pfel", "\u03c3", "\u03a3b"]
    for title in titles:
        await make_task(client, alice, title=title)

    response = await client.get(f"{alice}/tasks", params={"sort": "title"})

    assert [task["title"] for task in response.json()["items"]] == [
        "a", "Stra\xdfe 1", "STRASSE 2", "strasse 3", "Zebra", "_", "\xc4pfel", "\u03c3", "\u03a3b",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("texts", "stored"),
    [
        (["ΟΔΟΣ", "οδος", "Οδος"], "οδος"),
        (["STRAẞE", "Straße"], "straße"),
        (["KIZ\u0131", "kiz\u0131"], "kiz\u0131"),
        (["J\u030cx", "\u01f0X"], "\u01f0x"),
        (["\u212bx", "\xc5X", "a\u030aX"], "\xe5x"),
    ],
    ids=ascii,
)
async def test_a_tag_is_the_same_in_every_case_and_form_and_keeps_its_spelling(
    client: Client, alice: UUID, texts: list[str], stored: str
) -> None:
    for some in permutations(texts):
        assert (await make_task(client, alice, title="x", tags=list(some)))["tags"] == [stored]
    for text in texts:
        assert await found(client, alice, tag=text) == {"x"}


async def test_a_tag_has_no_comma_but_one_that_was_stored_with_it_stays(
    client: Client, database: Database, alice: UUID
) -> None:
    await insert_task(database, alice, "older", tags=["a,b", "c"])
    [task] = (await client.get(f"{alice}/tasks", params={"tag": "c"})).json()["items"]

    assert (await client.patch(address(task), json={"title": "renamed"})).json()["tags"] == ["a,b", "c"]
    assert (await client.get(f"{alice}/tasks/summary")).json()["tags"] == {"a,b": 1, "c": 1}
    for tags in (["a,b"], ["ok", ","]):
        response = await client.patch(address(task), json={"tags": tags})
        assert_problem(response, 400, "invalid-input", f"tags.{len(tags) - 1}")
    assert (await client.patch(address(task), json={"tags": ["a", "b"]})).json()["tags"] == ["a", "b"]
    # Other commas are letters like others.
    assert (await client.patch(address(task), json={"tags": ["a，b"]})).json()["tags"] == ["a，b"]
