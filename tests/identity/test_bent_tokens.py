"""Valid tokens, bent at random: none is accepted but those that their issuer made.

TOKEN_EXAMPLES in the environment sets the number of tokens of the slow test.
"""

import asyncio
import json
import os
from base64 import urlsafe_b64decode
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from identity.errors import InvalidToken, KeysUnavailable
from identity.options import ALGORITHMS
from identity.verifier import Verifier
from tests.identity.conftest import verifying
from tests.support.issuer import Issuer, SigningKey, base64url

PUBLISHED = ("EdDSA", "ES256", "ES512", "RS256", "PS256")
NAMES = ("alg", "kid", "crit", "b64", "jwk", "jku", "typ", "iss", "aud", "sub", "exp", "iat", "nbf", "azp", "jti")
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=40)
    | st.sampled_from([*ALGORITHMS, "HS256", "none", "00000000-0000-0000-0000-000000000000", 2**31, 1e400, "\0"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=3),
    max_leaves=5,
)  # fmt: skip
LETTERS = st.sampled_from("ABab09-_=.+/ \n\0\u00e4\u0661\ud800")
FRAGMENTS = st.sampled_from([
    b"{", b"}", b"[", b"]", b",", b":", b'"', b"\\u0000", b"\\ud800", b"NaN", b"1e400", b"null", b"\xff",
    b"\xef\xbb\xbf", b" ", b"\n", b'"sub":"a",', b'"alg":"none",', b'"exp":9999999999,', b"/**/", b"9" * 30,
    b"[" * 3000,
])  # fmt: skip

type Others = list[str]
type Draw = Callable[[st.SearchStrategy[Any]], Any]


def splice(draw: Draw, old: Any, new: Any) -> Any:
    """Puts something new into a text or bytes, over some of what is there."""
    start = draw(st.integers(0, len(old)))
    return old[:start] + new + old[start + draw(st.integers(0, 3)) :]


def bend_text(draw: Draw, token: str, _: Others) -> str:
    return str(splice(draw, token, draw(st.text(LETTERS, max_size=3))))


def bend_bit(draw: Draw, token: str, _: Others) -> str:
    """Changes one bit of what a part decodes to."""
    parts = token.split(".")
    number = draw(st.integers(0, len(parts) - 1))
    data = bytearray(decoded(parts[number]))
    if data:
        data[draw(st.integers(0, len(data) - 1))] ^= 1 << draw(st.integers(0, 7))
    return ".".join([*parts[:number], base64url(bytes(data)).decode(), *parts[number + 1 :]])


def bend_parts(draw: Draw, token: str, others: Others) -> str:
    """Drops, repeats and mixes parts, those of other valid tokens too."""
    parts = [*token.split("."), *draw(st.sampled_from(others)).split("."), ""]
    return ".".join(draw(st.lists(st.sampled_from(parts), min_size=1, max_size=5)))


def bend_json(draw: Draw, token: str, _: Others) -> str:
    """Writes something into the JSON of the header or the claims."""
    header, claims, *rest = [*token.split("."), "", ""]
    if draw(st.booleans()):
        header = base64url(splice(draw, decoded(header), draw(FRAGMENTS))).decode()
    else:
        claims = base64url(splice(draw, decoded(claims), draw(FRAGMENTS))).decode()
    return signed(draw, header, claims, rest[0])


def bend_members(draw: Draw, token: str, _: Others) -> str:
    """Changes, adds and removes members of the header and the claims."""
    header, claims, *rest = [*token.split("."), "", ""]
    return signed(draw, members(draw, header), members(draw, claims), rest[0])


def members(draw: Draw, part: str) -> str:
    try:
        value = json.loads(decoded(part))
    except (ValueError, RecursionError):
        return part
    if not isinstance(value, dict):
        return part
    for name in draw(st.lists(st.sampled_from(NAMES), max_size=2)):
        if draw(st.booleans()):
            value.pop(name, None)
        else:
            value[name] = draw(VALUES)
    return base64url(json.dumps(value).encode()).decode()


def signed(draw: Draw, header: str, claims: str, signature: str) -> str:
    """Signs by a stranger's key of any type, or leaves the signature as it is."""
    if draw(st.booleans()):
        return f"{header}.{claims}.{signature}"
    stranger = draw(st.sampled_from(STRANGERS))
    return str(stranger.sign(decoded(header), decoded(claims)))


def decoded(part: str) -> bytes:
    try:
        return urlsafe_b64decode(part.encode(errors="ignore") + b"==")
    except ValueError:
        return b"{}"


STRANGERS = [SigningKey(name) for name in PUBLISHED]
BENDS = (bend_text, bend_bit, bend_parts, bend_json, bend_members)


@pytest.fixture(scope="module")
def published() -> Iterator[Issuer]:
    with Issuer() as issuer:
        issuer.keys = [SigningKey(name, name) for name in PUBLISHED]
        yield issuer


def bend(issuer: Issuer, examples: int) -> None:
    originals = [issuer.token(key=key) for key in issuer.keys]

    async def accepted(verifier: Verifier, token: str) -> bool:
        try:
            return bool(await verifier.user_id(token))
        except (InvalidToken, KeysUnavailable):
            return False

    @settings(
        max_examples=examples, deadline=None, database=None, print_blob=True, phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(st.data())
    def never_accepted(data: st.DataObject) -> None:
        original = data.draw(st.sampled_from(originals))
        token = original
        for change in data.draw(st.lists(st.sampled_from(BENDS), min_size=1, max_size=3)):
            token = change(data.draw, token, originals)
        if runner.run(accepted(verifier, token)):
            assert token in originals, token

    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        # An unknown key is refused at once.
        opened = verifying(issuer, timeout=0)
        verifier = runner.run(opened.__aenter__())
        try:
            while not all(runner.run(accepted(verifier, token)) for token in originals):
                runner.run(asyncio.sleep(0.01))
            never_accepted()
        finally:
            runner.run(opened.__aexit__(None, None, None))


def test_a_few_bent_tokens_are_refused(published: Issuer, hypothesis_home: None) -> None:
    bend(published, 300)


@pytest.mark.slow
def test_no_bent_token_is_accepted(published: Issuer, hypothesis_home: None) -> None:
    bend(published, int(os.environ.get("TOKEN_EXAMPLES", "10000")))
