"""Every algorithm with every type of key: only those that belong together are accepted."""

import hashlib
import hmac
from collections.abc import AsyncIterator, Iterator

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from identity.options import ALGORITHMS
from identity.verifier import Verifier
from tests.identity.conftest import refusal, verifying
from tests.support.issuer import Issuer, SigningKey, base64url

KEYS = {name: SigningKey(name, name) for name in ("EdDSA", "ES256", "ES384", "ES512", "RS256")}
FITTING = {
    "EdDSA": {"EdDSA", "Ed25519"},
    "ES256": {"ES256"},
    "ES384": {"ES384"},
    "ES512": {"ES512"},
    "RS256": {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"},
}
REFUSED = ("HS256", "HS384", "HS512", "none", "None", "", "ES256K", "eddsa", "rs256", "Ed448", "A128KW", "unknown")


@pytest.fixture(scope="module")
def issuer_of_all() -> Iterator[Issuer]:
    with Issuer() as issuer:
        for key in KEYS.values():
            # A set whose keys name no algorithm leaves the choice to the token.
            del key.jwk["alg"]
        issuer.keys = [*KEYS.values()]
        yield issuer


@pytest.fixture(scope="module")
async def verifier_of_all(issuer_of_all: Issuer) -> AsyncIterator[Verifier]:
    async with verifying(issuer_of_all) as verifier:
        yield verifier


def signed(issuer: Issuer, key: SigningKey, algorithm: str) -> str:
    """A token that says `algorithm`, signed by it as well as that can be done with the key."""
    same = SigningKey(algorithm, key.kid) if algorithm in FITTING[key.algorithm] else SigningKey(key.algorithm, key.kid)
    vars(same)["private"] = key.private
    token = issuer.token(key=same, header={"alg": algorithm})
    head = token.rpartition(".")[0]
    if algorithm.startswith("HS"):
        secret = key.private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        digest = hmac.digest(secret, head.encode(), getattr(hashlib, f"sha{algorithm[2:]}"))
        return f"{head}.{base64url(digest).decode()}"
    return f"{head}." if algorithm.lower() == "none" else token


@pytest.mark.parametrize("key", KEYS.values(), ids=KEYS)
@pytest.mark.parametrize("algorithm", [*ALGORITHMS, *REFUSED])
async def test_a_token_is_accepted_only_by_an_algorithm_of_its_key(
    algorithm: str, key: SigningKey, issuer_of_all: Issuer, verifier_of_all: Verifier
) -> None:
    token = signed(issuer_of_all, key, algorithm)

    if algorithm in FITTING[key.algorithm]:
        await verifier_of_all.user_id(token)
    else:
        assert await refusal(verifier_of_all, token)


@pytest.mark.parametrize(("listed", "accepted"), [
    (("EdDSA",), {"EdDSA", "Ed25519"}), (("Ed25519",), {"EdDSA", "Ed25519"}), (("ES256",), {"ES256"}),
    (("RS256", "PS256"), {"RS256", "PS256"}),
], ids=range(4))  # fmt: skip
async def test_only_algorithms_that_are_listed_are_accepted(
    listed: tuple[str, ...], accepted: set[str], issuer_of_all: Issuer
) -> None:
    async with verifying(issuer_of_all, algorithms=listed) as verifier:
        for key in KEYS.values():
            for algorithm in FITTING[key.algorithm]:
                token = signed(issuer_of_all, key, algorithm)
                if algorithm in accepted:
                    await verifier.user_id(token)
                else:
                    assert await refusal(verifier, token) == "The token's algorithm is not accepted."


async def test_a_key_that_names_its_algorithm_verifies_no_other() -> None:
    with Issuer("RS256") as issuer:
        async with verifying(issuer) as verifier:
            other = SigningKey("RS384", issuer.keys[0].kid)
            vars(other)["private"] = issuer.keys[0].private

            await verifier.user_id(issuer.token())
            assert await refusal(verifier, issuer.token(key=other)) == "The token's algorithm does not fit its key."
