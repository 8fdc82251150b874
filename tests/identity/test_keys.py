"""The keys of a set that can be used, and the harmless rest."""

import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import OKPAlgorithm, RSAAlgorithm

from identity.keys import Key, read_keys
from tests.support.issuer import SigningKey

ED, P256, P384, P521, RSA = (SigningKey(name, name) for name in ("EdDSA", "ES256", "ES384", "ES512", "RS256"))
SMALL = rsa.generate_private_key(65537, 1024)  # noqa: S505 - it is to be refused
SMALL_RSA = RSAAlgorithm.to_jwk(SMALL.public_key(), as_dict=True)


def read(*members: Any, known: dict[str, Key] | None = None) -> dict[str, Key]:
    return read_keys(json.dumps({"keys": members}).encode(), known or {})


def without(key: SigningKey, *names: str, **changes: Any) -> dict[str, Any]:
    return {name: value for name, value in key.jwk.items() if name not in names} | changes


@pytest.mark.parametrize(("key", "algorithms"), [
    (ED, {"EdDSA"}), (P256, {"ES256"}), (P384, {"ES384"}), (P521, {"ES512"}),
    (RSA, {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}),
], ids=lambda of: getattr(of, "kid", ""))  # fmt: skip
def test_a_key_verifies_the_algorithms_of_its_type(key: SigningKey, algorithms: set[str]) -> None:
    [usable] = read(without(key, "alg")).values()

    assert usable.algorithms == algorithms


def test_its_own_algorithm_narrows_them() -> None:
    keys = read(RSA.jwk, without(ED, alg="Ed25519"), without(P256, alg="ES256"))

    assert {kid: set(key.algorithms) for kid, key in keys.items()} == {
        "RS256": {"RS256"}, "EdDSA": {"EdDSA"}, "ES256": {"ES256"}
    }  # fmt: skip


@pytest.mark.parametrize("member", [
    pytest.param(member, id=name) for name, member in {
        "unknown type": {"kty": "AKP", "alg": "ML-DSA-44", "pub": "AAAA", "kid": "a"},
        "unknown curve": without(P256, "alg", crv="secp256k1"),
        "Ed448": {"kty": "OKP", "crv": "Ed448", "x": "A" * 76, "kid": "a"},
        "X25519": without(ED, "alg", crv="X25519"),
        "a secret": {"kty": "oct", "k": "c2VjcmV0", "kid": "a", "alg": "HS256"},
        "a secret as another type": without(ED, alg="HS256"),
        "a private key": OKPAlgorithm.to_jwk(ED.private, as_dict=True) | {"kid": "a"},
        "for encryption": without(RSA, use="enc"),
        "no use": without(RSA, use=None),
        "not for verifying": without(RSA, key_ops=["sign"]),
        "odd operations": without(RSA, key_ops="verify"),
        "odd operation": without(RSA, key_ops=[["verify"]]),
        "no kid": without(ED, "kid"),
        "numeric kid": without(ED, kid=1),
        "empty kid": without(ED, kid=""),
        "long kid": without(ED, kid="k" * 201),
        "algorithm of another type": without(ED, alg="ES256"),
        "unknown algorithm": without(ED, alg="EdDSA2"),
        "odd algorithm": without(ED, alg=["EdDSA"]),
        "odd type": without(ED, kty=["OKP"]),
        "odd curve": without(ED, crv={}),
        "short RSA": SMALL_RSA | {"kid": "a", "key_ops": ["verify"]},
        "RSA without exponent": without(RSA, "e"),
        "RSA with an odd exponent": without(RSA, e="Ag"),
        "RSA with a numeric exponent": without(RSA, e=65537),
        "a point that is not on the curve": without(P256, y=P256.jwk["x"]),
        "a short coordinate": without(P256, x="AAAA"),
        "half a point": without(P256, "y"),
        "a short point": without(ED, x="AAAA"),
        "a numeric point": without(ED, x=5),
        "no base64": without(ED, x="\u00e4" * 43),
        "no point": without(ED, "x"),
        "a text": "key",
        "null": None,
        "a list": [ED.jwk],
    }.items()
])  # fmt: skip
def test_a_key_that_cannot_be_used_harms_nothing(member: Any) -> None:
    assert read(member) == {}
    assert read(member, P256.jwk, member).keys() == {"ES256"}


def test_of_two_usable_keys_with_the_same_name_the_first_counts() -> None:
    other = SigningKey("EdDSA", ED.kid)

    [first] = read(without(ED, use="enc"), other.jwk, ED.jwk).values()

    assert first.jwk == other.jwk


@pytest.mark.parametrize("body", [
    b"", b"<html>", b"[]", b"{}", b"null", b'{"keys":{}}', b'{"keys":null}', b'{"keys":[]', b"\xff\xfe\x00",
    b"[" * 60_000, b'{"keys":' + b"9" * 60_000 + b"}",
], ids=lambda body: repr(body[:10]))  # fmt: skip
def test_what_is_not_a_set_of_keys_is_refused(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        read_keys(body, {})


def test_a_key_stays_the_same_object_until_it_changes() -> None:
    known = read(ED.jwk, P256.jwk)

    again = read(P256.jwk, ED.jwk, RSA.jwk, known=known)
    changed = read(SigningKey("EdDSA", ED.kid).jwk, known=known)

    assert again["EdDSA"] is known["EdDSA"]
    assert again["ES256"] is known["ES256"]
    assert changed["EdDSA"] is not known["EdDSA"]


def test_a_key_shows_its_name_only() -> None:
    [key] = read(ED.jwk).values()

    assert repr(key) == f"Key(kid='EdDSA', algorithms={key.algorithms!r})"
