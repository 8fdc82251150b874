"""The issuer of the tests, whose faults must be what their names say."""

import ssl
from collections.abc import Iterator

import httpx
import jwt
import orjson
import pytest

from tests.support.issuer import KEYS_PATH, TOKEN_PATH, Fault, Issuer
from tests.support.sockets import connect

LIMIT = 64 * 1024
"""Bytes of the largest set of keys that is read (D33)."""
# Nothing here is encrypted, and reading the system's certificates takes long.
NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    with Issuer() as issuer:
        yield issuer


def fetched(issuer: Issuer, fault: Fault | None = None) -> httpx.Response:
    issuer.fault = fault
    return get(issuer.jwks_url)


def get(url: str) -> httpx.Response:
    return httpx.get(url, trust_env=False, verify=NO_TLS)


@pytest.mark.parametrize("algorithm", ["EdDSA", "Ed25519", "ES256", "ES384", "ES512", "RS256", "PS256"])
def test_the_keys_that_it_serves_verify_its_tokens(algorithm: str) -> None:
    with Issuer(algorithm) as issuer:
        [served] = fetched(issuer).json()["keys"]
        token = issuer.token("alice")

    # PyJWT does not know the newer name of EdDSA.
    known = "EdDSA" if algorithm == "Ed25519" else algorithm
    key = jwt.PyJWK({**served, "alg": known})
    signed, _, signature = token.rpartition(".")
    assert key.Algorithm.verify(signed.encode(), key.key, jwt.utils.base64url_decode(signature))
    assert jwt.get_unverified_header(token) == {"alg": algorithm, "kid": served["kid"]}
    assert served["alg"] == algorithm


def test_a_token_has_the_claims_of_better_auth_and_any_change_to_them(issuer: Issuer) -> None:
    claims = jwt.decode(issuer.token("alice"), options={"verify_signature": False})
    changed = issuer.token(aud=None, exp="soon", header={"kid": None, "jku": "http://x"})

    assert claims == {"sub": "alice", "iss": issuer.url, "aud": issuer.url, "iat": claims["iat"],
                      "exp": claims["iat"] + 900, "sid": claims["sid"]}  # fmt: skip
    assert jwt.get_unverified_header(changed) == {"alg": "EdDSA", "jku": "http://x"}
    assert jwt.decode(changed, options={"verify_signature": False}).keys() == claims.keys() - {"aud"}


@pytest.mark.parametrize("sub", ["", 7, None])
def test_a_subject_may_be_odd_or_missing(issuer: Issuer, sub: object) -> None:
    # PyJWT would not give a number.
    claims = orjson.loads(jwt.utils.base64url_decode(issuer.token(sub).split(".")[1]))

    assert claims.get("sub") == sub


def test_a_new_key_joins_the_others_until_they_are_forgotten(issuer: Issuer) -> None:
    old, new = issuer.keys[0], issuer.rotate()
    both = fetched(issuer).json()
    issuer.forget_old_keys()

    assert both == {"keys": [old.jwk, new.jwk]}
    assert fetched(issuer).json() == {"keys": [new.jwk]}
    assert jwt.get_unverified_header(issuer.token())["kid"] == new.kid
    assert jwt.get_unverified_header(issuer.token(key=old))["kid"] == old.kid
    assert issuer.fetches == 2


def test_each_fault_fails_in_its_own_way_and_ends(issuer: Issuer) -> None:
    good = fetched(issuer).json()

    assert fetched(issuer, "500").status_code == 500
    assert "<title>" in fetched(issuer, "html").text
    assert fetched(issuer, "empty").json() == {"keys": []}
    assert [key["kty"] for key in fetched(issuer, "oct-only").json()["keys"]] == ["oct"]
    assert len(fetched(issuer, "large").content) > LIMIT
    assert len(fetched(issuer, "gzip").content) > LIMIT > int(fetched(issuer, "gzip").headers["content-length"])
    moved = fetched(issuer, "redirect").next_request
    with pytest.raises(httpx.ReadError):
        fetched(issuer, "reset")
    with pytest.raises(httpx.RemoteProtocolError):
        fetched(issuer, "garbage")
    with pytest.raises(httpx.ConnectError):
        fetched(issuer, "refused")

    assert fetched(issuer).json() == good
    # A client that follows the redirect gets the keys, which shows that it does.
    assert moved is not None
    assert get(str(moved.url)).json() == good


@pytest.mark.parametrize(("fault", "beginning"), [("hang", b""), ("slow", b"H")])
def test_an_answer_that_takes_too_long_does_not_hold_up_the_next(
    issuer: Issuer, fault: Fault, beginning: bytes
) -> None:
    issuer.fault = fault
    with connect(issuer.port) as waiting:
        waiting.sendall(b"GET %s HTTP/1.1\r\nHost: test\r\n\r\n" % KEYS_PATH.encode())
        begun = waiting.recv(1) if beginning else b""
        answer = fetched(issuer)

    assert begun == beginning
    assert answer.status_code == 200


def test_it_gives_tokens_until_its_secret_is_changed(issuer: Issuer) -> None:
    token = get(issuer.url + TOKEN_PATH).json()["token"]
    issuer.signs = False

    assert jwt.get_unverified_header(token)["kid"] == issuer.keys[0].kid
    assert get(issuer.url + TOKEN_PATH).status_code == 500
    assert fetched(issuer).status_code == 200
