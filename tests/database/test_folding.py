"""`folded`, which decides what a search finds and how titles are ordered, and Python's view of the same letters."""

from collections.abc import Iterator
from unicodedata import category, is_normalized, normalize

import psycopg
import pytest

from persistence.postgres.dsn import Dsn
from persistence.task_lists import list_statement
from tests.support.databases import as_owner
from todos.text import clean, is_visible, lower_case, trimmed


def folded(text: str) -> str:
    return text.lower().upper()


# Each pytest worker imports every file, and making these takes long.
@pytest.fixture(scope="module")
def letters() -> list[str]:
    return [chr(number) for number in range(1, 0x110000) if not 0xD800 <= number <= 0xDFFF]


@pytest.fixture(scope="module")
def assigned(letters: list[str]) -> list[str]:
    return [letter for letter in letters if category(letter) != "Cn"]


@pytest.fixture(scope="module")
def connection(dsn: Dsn) -> Iterator[psycopg.Connection]:
    with psycopg.connect(as_owner(dsn).conninfo) as connection:
        yield connection


def folded_by_postgresql(connection: psycopg.Connection, texts: list[str]) -> list[str]:
    query = "SELECT folded(text) FROM unnest(%s::text[]) WITH ORDINALITY AS given (text, place) ORDER BY place"
    return [text for (text,) in connection.execute(query, [texts]).fetchall()]


def test_postgresql_and_python_fold_every_letter_alike_whose_cases_both_know(
    connection: psycopg.Connection, assigned: list[str]
) -> None:
    pairs = zip(assigned, folded_by_postgresql(connection, assigned), strict=True)
    different = {letter: (folded(letter), found) for letter, found in pairs if folded(letter) != found}

    assert all(letter in both for letter, both in different.items())
    if connection.info.server_version >= 180000:
        # It knows the Unicode of this Python, or a newer one with more capitals.
        assert all(letter == python for letter, (python, _) in different.items())


def test_case_makes_no_difference_to_what_is_folded(connection: psycopg.Connection, assigned: list[str]) -> None:
    cased = [letter for letter in assigned if letter.lower() != letter or letter.upper() != letter]
    both = [f"{letter.lower()} {letter.upper()}" for letter in cased]
    found = folded_by_postgresql(connection, both)
    # An older ICU knows only one case of some letters.
    known = [letter for letter, text, fold in zip(cased, both, found, strict=True) if folded(text) == fold]
    assert len(known) > 2500
    for variant in (str.lower, str.upper, str.swapcase, str.title):
        # At the end of a word a small sigma is another one.
        varied = [f"a{variant(letter)} {variant(letter)}b" for letter in known]
        expected = [f"A{folded(letter)} {folded(letter)}B" for letter in known]
        assert folded_by_postgresql(connection, varied) == expected
    once = folded_by_postgresql(connection, known)
    assert folded_by_postgresql(connection, once) == once


def test_titles_are_compared_by_code_points_and_not_by_the_locale() -> None:
    # Few servers have a locale in which it would be seen.
    statement = list_statement(frozenset(), "title", descending=True, start="after")
    assert 'ORDER BY folded(tasks.title) COLLATE "C" DESC' in statement.text
    assert '(folded(tasks.title) COLLATE "C", tasks.id) < (folded(CAST($2 AS TEXT)) COLLATE "C", ' in statement.text


def test_the_fold_is_a_part_of_the_statement_and_no_index_depends_on_it(connection: psycopg.Connection) -> None:
    plan = "EXPLAIN (VERBOSE, COSTS OFF) SELECT folded(title) FROM tasks"
    assert "upper(lower(" in "".join(line for (line,) in connection.execute(plan).fetchall())
    depends = "SELECT count(*) FROM pg_depend WHERE (refclassid, refobjid) = ('pg_proc'::regclass, 'folded'::regproc)"
    assert connection.execute(depends).fetchone() == (0,)


def test_every_tag_has_one_form(letters: list[str]) -> None:
    for letter in (letter for letter in letters if letter.lower() != letter or normalize("NFD", letter) != letter):
        for text in (letter, f"a{letter}\u0301", f"{letter}\u030c"):
            form = lower_case(clean(text, 10))
            assert is_normalized("NFC", form)
            assert lower_case(form) == lower_case(clean(normalize("NFD", text), 10)) == form, ascii(text)
            # As PostgreSQL's CHECK has it.
            assert not any("A" <= character <= "Z" for character in form)


def test_what_shows_nothing_is_what_unicode_calls_space_control_mark_and_ignorable(assigned: list[str]) -> None:
    blanks = {"\u2800", "\u3164", "\u115f", "\u1160", "\uffa0", "\U0001d159", "\U00013441", "\U00013442"}
    for letter in assigned:
        # Those of category Cf that show something by themselves precede numbers and verses, in Arabic for example.
        if category(letter) != "Cf":
            assert is_visible(letter) == (
                category(letter)[0] not in "ZM" and category(letter) != "Cc" and letter not in blanks
            ), ascii(letter)
    assert {letter for letter in assigned if category(letter) == "Cf" and is_visible(letter)} == set(
        "\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u070f\u0890\u0891\u08e2\U000110bd\U000110cd"
    )


def test_trimming_takes_all_that_strip_does_and_what_is_copied_unseen(letters: list[str]) -> None:
    assert {letter for letter in letters if not trimmed(letter)} == {
        *(letter for letter in letters if letter.isspace()), "\u200b", "\u2060", "\ufeff",
    }  # fmt: skip


def test_no_letter_takes_more_characters_than_are_counted_for_it(assigned: list[str]) -> None:
    assert max(len(normalize("NFD", letter)) for letter in assigned) == 4
    assert clean("\u0301" * 30 + "x" * 11, 10) == "\u0301" * 30 + "x" * 11
