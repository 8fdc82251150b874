"""Rules that cannot be used, or would let others in, are refused when they are made."""

from typing import Any

import pytest

from identity.options import ALGORITHMS, TokenRules, check_algorithms, check_jwks_url

USABLE: dict[str, Any] = {
    "issuer": "https://todo.example.com",
    "audience": "https://todo.example.com",
    "authorized_parties": (),
    "jwks_url": "https://todo.example.com/api/auth/jwks",
    "algorithms": ("EdDSA",),
    "subject": "uuid",
    "max_lifetime": 86_400,
}


@pytest.mark.parametrize("url", [
    "https://todo.example.com/api/auth/jwks", "https://todo.example.com:8443/jwks?tenant=a", "https://[2001:db8::1]/",
    "http://localhost:3000/api/auth/jwks", "http://127.0.0.1:3000/", "http://[::1]/", "http://10.1.2.3/",
    "http://192.168.0.1/", "http://172.16.0.1/", "http://[fd00::1]/", "http://auth:3000/", "http://1auth/",
    "http://auth.internal/", "http://auth.local/", "http://auth.localhost/",
])  # fmt: skip
def test_keys_come_by_https_or_from_a_private_network(url: str) -> None:
    check_jwks_url(url)


@pytest.mark.parametrize(("url", "reason"), [
    ("http://todo.example.com/jwks", "private network"),
    ("http://8.8.8.8/jwks", "private network"),
    ("http://[2606:4700::1111]/jwks", "private network"),
    ("http://134744072/jwks", "private network"),
    ("http://0X08080808/jwks", "private network"),
    ("http://127.0.0.1.example.com/", "private network"),
    ("http://localhost@todo.example.com/", "user name"),
    ("https://user:password@todo.example.com/", "user name"),
    ("https://todo.example.com/#keys", "'#'"),
    ("file:///etc/passwd", "https://"),
    ("ftp://todo.example.com/jwks", "https://"),
    ("data:application/json,{}", "https://"),
    ("todo.example.com/jwks", "https://"),
    ("https:///jwks", "no host"),
    ("https://todo.example.com:port/", "port"),
    ("https://[::1/", "port"),
    ("https://todo.example.com/jwks\n", "space"),
    ("https://todo.example.com/a b", "space"),
    ("", "character"),
])  # fmt: skip
def test_keys_come_from_no_other_address(url: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as refused:
        check_jwks_url(url)

    assert "password@" not in str(refused.value)
    with pytest.raises(ValueError, match=reason):
        TokenRules(**USABLE | {"jwks_url": url})


@pytest.mark.parametrize("name", ["HS256", "none", "ES256K", "eddsa", "Ed448", ""])
def test_only_algorithms_of_public_keys_can_be_accepted(name: str) -> None:
    check_algorithms(ALGORITHMS)
    with pytest.raises(ValueError, match=f"'{name}' is not an algorithm; write one or more of EdDSA,"):
        check_algorithms(("ES256", name))
    with pytest.raises(ValueError, match="it names no algorithm"):
        TokenRules(**USABLE | {"algorithms": ()})


def test_a_token_must_be_meant_for_somebody() -> None:
    TokenRules(**USABLE | {"audience": None, "authorized_parties": ("https://todo.example.com",)})
    for nobody in (None, ""):
        with pytest.raises(ValueError, match="an audience or an authorized party"):
            TokenRules(**USABLE | {"audience": nobody})
