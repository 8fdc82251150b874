"""The keys of a JWK set (RFC 7517), each with the algorithms that it may verify. What cannot be used is ignored."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import jwt
from jwt.algorithms import AllowedPublicKeys

KID_MAX = 200
"""Characters of a key's name."""
RSA_BITS_MIN = 2048

_RSA = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"})
_ALGORITHMS = {
    ("OKP", "Ed25519"): frozenset({"EdDSA"}),
    ("EC", "P-256"): frozenset({"ES256"}),
    ("EC", "P-384"): frozenset({"ES384"}),
    ("EC", "P-521"): frozenset({"ES512"}),
}


@dataclass(frozen=True, eq=False, slots=True)
class Key:
    """One public key. A key that is published again unchanged stays the same object."""

    kid: str
    algorithms: frozenset[str]
    """In the form of `canonical`."""
    public: AllowedPublicKeys = field(repr=False)
    jwk: Mapping[str, Any] = field(repr=False)


def canonical(algorithm: str) -> str:
    """Gives both names of Ed25519's algorithm the same one: RFC 9864 renamed what RFC 8037 calls `EdDSA`."""
    return "EdDSA" if algorithm == "Ed25519" else algorithm


def read_keys(body: bytes, known: Mapping[str, Key]) -> dict[str, Key]:
    """The usable keys of a set, by `kid`; of two with the same one, the first.

    Keys of `known` that are unchanged stay. Raises `ValueError` for what is not a JWK set.
    """
    try:
        document = json.loads(body)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    members = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(members, list):
        raise ValueError("it is not a set of keys")  # noqa: TRY004 - a value of another kind is a bad document
    keys: dict[str, Key] = {}
    for jwk in members:
        if isinstance(jwk, dict) and (key := _unchanged(jwk, known) or _read(jwk)):
            keys.setdefault(key.kid, key)
    return keys


def _unchanged(jwk: dict[str, Any], known: Mapping[str, Key]) -> Key | None:
    kid = jwk.get("kid")
    key = known.get(kid) if isinstance(kid, str) else None
    return key if key and key.jwk == jwk else None


def _read(jwk: dict[str, Any]) -> Key | None:
    kid, operations = jwk.get("kid"), jwk.get("key_ops", ["verify"])
    if not isinstance(kid, str) or not 0 < len(kid) <= KID_MAX:
        return None
    # A private key that is published is everybody's.
    if "d" in jwk or jwk.get("use", "sig") != "sig" or not (isinstance(operations, list) and "verify" in operations):
        return None
    algorithms = _algorithms(jwk)
    if not algorithms:
        return None
    try:
        public = jwt.PyJWK(jwk, min(algorithms)).key
    except (jwt.PyJWTError, ValueError, TypeError):
        return None
    if jwk["kty"] == "RSA" and public.key_size < RSA_BITS_MIN:
        return None
    return Key(kid, algorithms, public, jwk)


def _algorithms(jwk: dict[str, Any]) -> frozenset[str]:
    """Those that fit the type and curve of the key, so that no token can choose another; its own `alg` narrows them."""
    kind, curve, own = jwk.get("kty"), jwk.get("crv"), jwk.get("alg")
    if kind == "RSA":
        fitting = _RSA
    elif isinstance(kind, str) and isinstance(curve, str):
        fitting = _ALGORITHMS.get((kind, curve), frozenset())
    else:
        fitting = frozenset()
    if own is None:
        return fitting
    return fitting & {canonical(own)} if isinstance(own, str) else frozenset()
