"""gunicorn's private names that the server uses: they are listed, they exist, and the release is pinned."""

import ast
import inspect
import time
import tomllib
from collections.abc import Iterator
from importlib import import_module
from importlib.metadata import version

import pytest
from gunicorn.asgi import protocol
from gunicorn.asgi.parser import PythonProtocol

from server import gunicorn_internals
from server.gunicorn_internals import NAMES
from server.parser import Parser
from tests.support.servers import ROOT

PINNED = f"gunicorn=={version('gunicorn')}"


def missing(names: dict[str, list[str]]) -> list[str]:
    """The listed names that the installed gunicorn does not have, by their place."""
    return [f"{place}.{name}" for place, listed in names.items() for name in sorted({*listed} - names_of(place))]


def names_of(place: str) -> set[str]:
    """Everything that a module, or a class after a colon, has; the attributes of its instances, too."""
    module, _, name = place.partition(":")
    try:
        thing = getattr(import_module(module), name) if name else import_module(module)
    except (ImportError, AttributeError):
        return set()
    ancestors = [each for each in getattr(thing, "__mro__", ()) if each.__module__.startswith("gunicorn.")]
    return {*dir(thing), *(each for cls in ancestors for each in assigned(ast.parse(inspect.getsource(cls))))}


def assigned(tree: ast.AST) -> Iterator[str]:
    """The attributes that methods assign to `self`."""
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(value=ast.Name("self"), attr=name, ctx=ast.Store()):
                yield name


def test_gunicorn_has_every_name_that_the_server_uses() -> None:
    gone = missing(NAMES)

    assert not gone, f"{PINNED} has no {', '.join(gone)}: see where server/ uses it, then change the list"


def test_a_name_a_class_or_a_module_that_is_gone_is_named() -> None:
    listed = {
        "gunicorn.arbiter:Arbiter": ["LISTENERS", "worker_age", "gone"],
        "gunicorn.arbiter:Gone": ["run"],
        "gunicorn.gone": ["protocol"],
    }

    assert missing(listed) == ["gunicorn.arbiter:Arbiter.gone", "gunicorn.arbiter:Gone.run", "gunicorn.gone.protocol"]


def test_the_installed_release_is_the_one_that_is_pinned() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

    assert [each for each in project["dependencies"] if each.startswith("gunicorn")] == [PINNED]


def test_the_server_uses_no_private_name_that_is_not_listed() -> None:
    # Python documents `os._exit`.
    used, known = set(), {"_exit", *(name for names in NAMES.values() for name in names)}
    for file in (ROOT / "server").glob("*.py"):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        known.update(assigned(tree))
        for node in ast.walk(tree):
            match node:
                case (
                    ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.AnnAssign(target=ast.Name(name))
                ):
                    known.add(name)
                case ast.Attribute(attr=name) if name.startswith("_") and not name.startswith("__"):
                    used.add(name)

    assert used - known == set()


def test_the_date_of_answers_follows_a_clock_that_is_moved_back(monkeypatch: pytest.MonkeyPatch) -> None:
    # The function is private, as the clock of a server cannot be moved without moving that of the whole machine.
    monkeypatch.setattr(protocol, "_cached_date_time", 0.0)
    now, before = time.time(), gunicorn_internals._date_header()
    monkeypatch.setattr(time, "time", lambda: now - 3600)

    assert gunicorn_internals._date_header() != before


@pytest.mark.parametrize("around", [b"", b"a"])
def test_the_parser_refuses_the_names_and_values_of_headers_that_gunicorn_refuses(around: bytes) -> None:
    ours, theirs = Parser(), PythonProtocol()
    texts = [b"", *(around + bytes((number,)) + around for number in range(256))]

    bad_values = [text for text in texts if ours._has_invalid_header_chars(text)]
    good_names = [text for text in texts if ours._is_valid_token(text)]

    assert bad_values == [text for text in texts if theirs._has_invalid_header_chars(text)]
    assert good_names == [text for text in texts if theirs._is_valid_token(text)]
    assert (len(bad_values), len(good_names)) == (32, 77)
