"""Verified tokens are remembered for as long as they are valid, and for no longer."""

import logging
import subprocess
import sys
from time import time
from uuid import uuid4

import pytest

from identity.errors import InvalidToken
from identity.verifier import Verifier
from tests.identity.conftest import refusal, verifying
from tests.support.issuer import Issuer, SigningKey
from tests.support.processes import clean_environment
from tests.support.servers import ROOT


async def test_a_token_is_known_once_it_has_been_verified(issuer: Issuer, verifier: Verifier) -> None:
    alice = uuid4()
    token = issuer.token(alice)

    assert verifier.known(token) is None
    assert await verifier.user_id(token) == str(alice)
    assert verifier.known(token) == str(alice)
    assert await verifier.user_id(token) == str(alice)
    for other in ("", token[:-1], f"{token}=", f" {token}", token.swapcase(), "\ud800", "\u00e4"):
        assert verifier.known(other) is None


async def test_a_known_token_is_forgotten_when_it_expires(
    issuer: Issuer, verifier: Verifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    expires = int(time()) + 100
    token = issuer.token(exp=expires)
    await verifier.user_id(token)

    for seconds, is_known in ((29.9, True), (30, False), (1e6, False)):
        monkeypatch.setattr("identity.verifier.time", lambda now=expires + seconds: now)
        assert (verifier.known(token) is not None) == is_known


async def test_a_token_whose_leeway_is_over_is_refused(issuer: Issuer, verifier: Verifier) -> None:
    token = issuer.token(iat=int(time()) - 100, exp=int(time()) - 31)

    assert await refusal(verifier, token) == "The token has expired."


async def test_a_refusal_is_not_remembered(issuer: Issuer, verifier: Verifier) -> None:
    token = issuer.token(iss="https://other.example.com")

    for _ in range(2):
        assert await refusal(verifier, token) == "The token is from another issuer."
    assert verifier.known(token) is None


async def test_only_so_many_tokens_are_remembered(issuer: Issuer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("identity.verifier.VERIFIED_MAX", 3)
    tokens = [issuer.token() for _ in range(5)]
    async with verifying(issuer) as verifier:
        for token in tokens:
            await verifier.user_id(token)

        assert [verifier.known(token) is not None for token in tokens] == [False, False, True, True, True]


async def test_a_long_token_is_accepted_and_not_remembered(issuer: Issuer, verifier: Verifier) -> None:
    alice = uuid4()
    token = issuer.token(alice, image="x" * 2_000)

    for _ in range(2):
        assert await verifier.user_id(token) == str(alice)
        assert verifier.known(token) is None


async def test_neither_a_token_nor_a_subject_is_logged(issuer: Issuer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    alice = uuid4()
    tokens = [
        issuer.token(alice, **changes)
        for changes in (
            {}, {"iss": "https://a"}, {"aud": "b"}, {"exp": 5}, {"exp": "soon"}, {"azp": 5}, {"nbf": 1e12},
        )
    ]  # fmt: skip
    tokens += [
        issuer.token(f"{alice} "),
        issuer.token(alice, key=SigningKey()),
        tokens[0][:-4] + "AAAA",
        f"{tokens[0]}=",
    ]
    async with verifying(issuer, authorized_parties=("https://a",)) as verifier:
        for token in tokens:
            with pytest.raises(InvalidToken) as refused:
                await verifier.user_id(token)
            assert str(alice) not in repr(refused.value)
            assert refused.value.__cause__ is None
            assert refused.value.__suppress_context__ or refused.value.__context__ is None

    assert caplog.text.count("A token has another") >= 3
    for token in tokens:
        assert not any(part in caplog.text for part in [str(alice), *token.split(".")[1:]])


def test_a_server_that_asks_for_no_tokens_loads_nothing_that_verifies_them() -> None:
    code = "import sys, config.asgi; print([each for each in ('jwt', 'cryptography', 'httpx2') if each in sys.modules])"
    environment = {**clean_environment(), "ENVIRONMENT": "development", "DATABASE_URL": "postgresql://h/db"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )

    assert done.stdout == "[]\n"
