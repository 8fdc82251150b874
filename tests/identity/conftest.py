"""An issuer on 127.0.0.1, and verifiers of its tokens for which time passes quickly."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from identity.errors import InvalidToken
from identity.key_store import Pace
from identity.options import ALGORITHMS, TokenRules
from identity.verifier import Verifier, open_verifier
from tests.support.issuer import Issuer

QUICK = Pace(first=0.05, longest=0.4)


@pytest.fixture(scope="module")
def issuer() -> Iterator[Issuer]:
    """An issuer whose keys stay as they are."""
    with Issuer() as issuer:
        yield issuer


@pytest.fixture(scope="module")
async def verifier(issuer: Issuer) -> AsyncIterator[Verifier]:
    async with verifying(issuer) as verifier:
        yield verifier


@asynccontextmanager
async def verifying(
    issuer: Issuer, *, timeout: float = 30, pace: Pace = QUICK, **changes: Any
) -> AsyncIterator[Verifier]:
    """A verifier of the issuer's tokens, with `changes` to its rules."""
    rules = TokenRules(issuer.url, issuer.url, (), issuer.jwks_url, ALGORITHMS, "uuid", max_lifetime=24 * 60 * 60)
    async with open_verifier(replace(rules, **changes), timeout, pace) as verifier:
        yield verifier


async def refusal(verifier: Verifier, token: str) -> str:
    """The reason for which the verifier refuses the token."""
    with pytest.raises(InvalidToken) as refused:
        await verifier.user_id(token)
    assert verifier.known(token) is None
    return refused.value.reason
