"""Tokens that their issuer did not make, or that two readers could read differently."""

import hashlib
import hmac
import json
from base64 import urlsafe_b64decode
from collections.abc import Callable, Mapping
from time import time
from typing import Any
from uuid import uuid4

import orjson
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from identity.verifier import Verifier
from tests.identity.conftest import refusal, verifying
from tests.support.issuer import Issuer, SigningKey, base64url

SIGNATURE = "The token's signature does not match."
FORM = "The token does not consist of three parts in base64url without padding."
ONLY_FORM = "A part of the token is not base64url in its only form."
ALGORITHM = "The token's algorithm is not accepted."
JSON = "A part of the token is not a JSON object, or not a strict one."
KID = "The token's header does not name its key (`kid`)."
CRIT = "The token's header has `crit` or `b64`, which are not supported."
UNKNOWN = "The token is signed with a key that its issuer does not publish."

DER = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
PEM = (Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def by_secret(issuer: Issuer, secret: bytes) -> str:
    """A token signed by HS256, as a server with the public key would that takes it for a secret."""
    head = issuer.token(header={"alg": "HS256"}).rpartition(".")[0]
    return f"{head}.{base64url(hmac.digest(secret, head.encode(), hashlib.sha256)).decode()}"


def public(issuer: Issuer) -> Any:
    return issuer.keys[0].private.public_key()


def with_parts(change: Callable[[list[str]], list[str]]) -> Callable[[Issuer], str]:
    return lambda issuer: ".".join(change(issuer.token().split(".")))


def with_signature(change: Callable[[bytes], bytes]) -> Callable[[Issuer], str]:
    def forged(issuer: Issuer) -> str:
        head, _, signature = issuer.token().rpartition(".")
        return f"{head}.{base64url(change(urlsafe_b64decode(signature + '=='))).decode()}"

    return forged


def with_header(**changes: Any) -> Callable[[Issuer], str]:
    return lambda issuer: issuer.token(header=changes)


def with_raw(header: bytes | None = None, claims: bytes | None = None) -> Callable[[Issuer], str]:
    """A token that the issuer signed; `KID` and `CLAIMS` stand for valid content."""

    def forged(issuer: Issuer) -> str:
        [key], now = issuer.keys, int(time())
        valid: Mapping[str, Any] = {
            "iat": now, "exp": now + 900, "sub": str(uuid4()), "iss": issuer.url, "aud": issuer.url
        }  # fmt: skip
        head = header or b'{"alg":"EdDSA","kid":"KID"}'
        body = claims or b"{CLAIMS}"
        return key.sign(head.replace(b"KID", key.kid.encode()), body.replace(b"CLAIMS", orjson.dumps(valid)[1:-1]))

    return forged


def from_stranger(**header: Any) -> Callable[[Issuer], str]:
    """A token of another key under the kid of the issuer's."""

    def forged(issuer: Issuer) -> str:
        stranger = SigningKey("EdDSA", issuer.keys[0].kid)
        jwk = {name: value for name, value in stranger.jwk.items() if name != "kid"}
        return issuer.token(
            key=stranger, header={name: jwk if value == "jwk" else value for name, value in header.items()}
        )

    return forged


def nested(depth: int) -> bytes:
    return b"[" * depth + b"]" * depth


FORGERIES: dict[str, tuple[Callable[[Issuer], str], str]] = {
    "HS256 by PEM": (lambda issuer: by_secret(issuer, public(issuer).public_bytes(*PEM)), ALGORITHM),
    "HS256 by DER": (lambda issuer: by_secret(issuer, public(issuer).public_bytes(*DER)), ALGORITHM),
    "HS256 by JWK": (lambda issuer: by_secret(issuer, orjson.dumps(issuer.keys[0].jwk)), ALGORITHM),
    "HS256 by x": (lambda issuer: by_secret(issuer, issuer.keys[0].jwk["x"].encode()), ALGORITHM),
    "HS256 by nothing": (lambda issuer: by_secret(issuer, b""), ALGORITHM),
    "none": (lambda issuer: issuer.token(header={"alg": "none"}).rpartition(".")[0] + ".", FORM),
    "none with a signature": (with_header(alg="none"), ALGORITHM),
    "None": (with_header(alg="None"), ALGORITHM),
    "no algorithm": (with_header(alg=None), ALGORITHM),
    "a list of algorithms": (with_header(alg=["EdDSA"]), ALGORITHM),
    "embedded key": (from_stranger(jwk="jwk"), SIGNATURE),
    "address of a key": (from_stranger(jku="https://evil.example.com", x5u="https://evil.example.com"), SIGNATURE),
    "certificate": (from_stranger(x5c=["AAAA"]), SIGNATURE),
    "another key": (from_stranger(), SIGNATURE),
    "no kid": (with_header(kid=None), KID),
    "unknown kid": (with_header(kid="unknown"), UNKNOWN),
    "empty kid": (with_header(kid=""), KID),
    "numeric kid": (with_header(kid=5), KID),
    "list of kids": (with_header(kid=["a"]), KID),
    "long kid": (with_header(kid="k" * 201), KID),
    "NUL in kid": (with_header(kid="a\0"), KID),
    "surrogate in kid": (with_raw(rb'{"alg":"EdDSA","kid":"\udc00"}'), KID),
    "path as kid": (with_header(kid="../../../etc/passwd"), UNKNOWN),
    "crit": (with_header(crit=["exp"]), CRIT),
    "empty crit": (with_header(crit=[]), CRIT),
    "crit null": (with_raw(b'{"alg":"EdDSA","kid":"KID","crit":null}'), CRIT),
    "b64": (with_header(b64=True), CRIT),
    "b64 false": (with_header(b64=False, crit=["b64"]), CRIT),
    "no signature": (with_parts(lambda parts: [*parts[:2], ""]), FORM),
    "two parts": (with_parts(lambda parts: parts[:2]), FORM),
    "four parts": (with_parts(lambda parts: [*parts, parts[2]]), FORM),
    "five parts": (with_parts(lambda parts: [*parts, "a", "a"]), FORM),
    "short signature": (with_signature(lambda signature: signature[:-1]), SIGNATURE),
    "long signature": (with_signature(lambda signature: signature + b"\0"), SIGNATURE),
    "one byte of signature": (with_signature(lambda signature: signature[:1]), SIGNATURE),
    "zero signature": (with_signature(lambda signature: bytes(len(signature))), SIGNATURE),
    "reversed signature": (with_signature(lambda signature: signature[::-1]), SIGNATURE),
    "padding": (with_parts(lambda parts: [*parts[:2], parts[2] + "=="]), FORM),
    "padded payload": (with_parts(lambda parts: [parts[0], parts[1] + "=", parts[2]]), FORM),
    "other last bits": (with_parts(lambda parts: [*parts[:2], parts[2][:-1] + next_of(parts[2][-1])]), ONLY_FORM),
    "a letter too many": (with_parts(lambda parts: [*parts[:2], parts[2] + "AAA"]), ONLY_FORM),
    "base64": (with_parts(lambda parts: [*parts[:2], "+/" + parts[2][2:]]), FORM),
    "a line break in it": (with_parts(lambda parts: [*parts[:2], parts[2] + "\n"]), FORM),
    "a space before it": (with_parts(lambda parts: [" " + parts[0], *parts[1:]]), FORM),
    "a NUL in it": (with_parts(lambda parts: [parts[0] + "\0", *parts[1:]]), FORM),
    "a letter that is not ASCII": (with_parts(lambda parts: [parts[0] + "\u00e4", *parts[1:]]), FORM),
    "a digit that is not ASCII": (with_parts(lambda parts: [parts[0] + "\u0661", *parts[1:]]), FORM),
    "a surrogate": (with_parts(lambda parts: [parts[0] + "\ud800", *parts[1:]]), FORM),
    "nothing": (lambda _: "", FORM),
    "dots": (lambda _: "..", FORM),
    "JSON serialization": (lambda issuer: json.dumps({"payload": issuer.token()}), FORM),
    "encrypted": (with_parts(lambda parts: [*parts, *parts[:2]]), FORM),
    "swapped payload": (lambda issuer: swapped(issuer.token(), issuer.token()), SIGNATURE),
    "a name twice in the header": (with_raw(b'{"alg":"EdDSA","kid":"KID","kid":"KID"}'), JSON),
    "two algorithms": (with_raw(b'{"alg":"none","kid":"KID","alg":"EdDSA"}'), JSON),
    "a claim twice": (with_raw(None, b'{"sub":"a",CLAIMS}'), JSON),
    "a claim twice, escaped": (with_raw(None, rb'{"\u0073ub":"a",CLAIMS}'), JSON),
    "a name twice inside": (with_raw(None, b'{"a":[{"b":1,"b":1}],CLAIMS}'), JSON),
    "NaN": (with_raw(None, b'{"a":NaN,CLAIMS}'), JSON),
    "Infinity": (with_raw(None, b'{"a":[-Infinity],CLAIMS}'), JSON),
    "a large number": (with_raw(None, b'{"a":1e400,CLAIMS}'), JSON),
    "a long number": (with_raw(None, b'{"a":%s,CLAIMS}' % (b"9" * 21)), JSON),
    "a very long number": (with_raw(None, b'{"a":%s,CLAIMS}' % (b"9" * 5000)), JSON),
    "deep claims": (with_raw(None, b'{"a":%s,CLAIMS}' % nested(1000)), JSON),
    "deep header": (with_raw(b'{"a":%s,"alg":"EdDSA","kid":"KID"}' % nested(2000)), JSON),
    "a list of claims": (with_raw(None, b"[CLAIMS]"), JSON),
    "a text": (with_raw(None, b'"claims"'), JSON),
    "null": (with_raw(None, b"null"), JSON),
    "no JSON": (with_raw(None, b"claims"), JSON),
    "a list as header": (with_raw(b'["alg","kid"]'), JSON),
    "text after the claims": (with_raw(None, b"{CLAIMS}{}"), JSON),
    "a byte order mark": (with_raw(None, b"\xef\xbb\xbf{CLAIMS}"), JSON),
    "UTF-16": (with_raw(None, "{}".encode("utf-16")), JSON),
    "bad UTF-8": (with_raw(None, b'{"a":"\xff",CLAIMS}'), JSON),
    "a surrogate in UTF-8": (with_raw(None, b'{"a":"\xed\xa0\x80",CLAIMS}'), JSON),
    "a control character": (with_raw(None, b'{"a":"\n",CLAIMS}'), JSON),
    "single quotes": (with_raw(None, b"{'a':1,CLAIMS}"), JSON),
    "a last comma": (with_raw(None, b"{CLAIMS,}"), JSON),
    "a comment": (with_raw(None, b"{CLAIMS/**/}"), JSON),
    "too long": (lambda issuer: issuer.token(name="a" * 6000), "The token is longer than 8,000 characters."),
}  # fmt: skip


def next_of(letter: str) -> str:
    """A letter whose first bits are the same, so that a lax decoder takes it for the letter."""
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    return letters[letters.index(letter) ^ 1]


def swapped(token: str, other: str) -> str:
    head, _, signature = token.split(".")
    return f"{head}.{other.split('.')[1]}.{signature}"


@pytest.mark.parametrize("name", FORGERIES)
async def test_a_forgery_is_refused(name: str, issuer: Issuer, verifier: Verifier) -> None:
    forge, reason = FORGERIES[name]

    assert await refusal(verifier, forge(issuer)) == reason


@pytest.mark.parametrize("header", [
    {"jku": "https://evil.example.com"}, {"x5u": "file:///etc/passwd"}, {"jwk": {"kty": "oct"}}, {"x5c": [5]},
    {"typ": "JWT"}, {"typ": "at+jwt"}, {"cty": "JWT"}, {"unknown": None},
], ids=str)  # fmt: skip
async def test_what_the_header_says_about_other_keys_is_ignored(
    header: dict[str, Any], issuer: Issuer, verifier: Verifier
) -> None:
    await verifier.user_id(issuer.token(header=header))


async def test_the_valid_form_of_the_odd_tokens_is_accepted(issuer: Issuer, verifier: Verifier) -> None:
    await verifier.user_id(with_raw()(issuer))
    await verifier.user_id(with_raw(b' {"kid":"KID", "alg" : "EdDSA"}\n', b"\t{ CLAIMS }")(issuer))
    await verifier.user_id(with_raw(None, b'{"a":%s,CLAIMS}' % nested(999))(issuer))


async def test_a_secret_in_the_set_verifies_nothing() -> None:
    secret = SigningKey("EdDSA", "secret")
    vars(secret)["jwk"] = {"kty": "oct", "k": base64url(b"secret" * 6).decode(), "kid": "secret"}
    with Issuer() as issuer:
        issuer.keys = [secret, *issuer.keys]
        head = issuer.token(header={"alg": "HS256", "kid": "secret"}).rpartition(".")[0]
        digest = hmac.digest(b"secret" * 6, head.encode(), hashlib.sha256)
        async with verifying(issuer) as verifier:
            assert await refusal(verifier, f"{head}.{base64url(digest).decode()}") == ALGORITHM
            assert await refusal(verifier, issuer.token(key=secret)) == UNKNOWN


async def test_an_ecdsa_signature_has_one_form() -> None:
    with Issuer("ES256") as issuer:
        head, _, signature = issuer.token().rpartition(".")
        der = issuer.keys[0].private.sign(head.encode(), ec.ECDSA(hashes.SHA256()))
        raw = urlsafe_b64decode(signature + "==")
        async with verifying(issuer) as verifier:
            for forged in (der, raw[:32], raw[:-1], raw + b"\0", b"\0" + raw, bytes(64), raw[:32] + bytes(32)):
                assert await refusal(verifier, f"{head}.{base64url(forged).decode()}") == SIGNATURE
            await verifier.user_id(f"{head}.{signature}")
