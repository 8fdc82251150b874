"""The rules for a token: its form, its signature and its claims (D32).

PyJWT verifies the signature. The token is read here, once and strictly: PyJWT takes claims that appear twice and times
that are texts, and a token that two readers understand differently is a way in.
"""

import json
import logging
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from contextlib import suppress
from dataclasses import dataclass, field
from math import isinf
from time import time
from typing import Any, TypeIs
from uuid import NAMESPACE_URL, UUID, uuid5

import jwt

from identity.errors import InvalidToken
from identity.keys import KID_MAX, Key, canonical
from identity.options import TokenRules

logger = logging.getLogger(__name__)

TOKEN_MAX = 8_000
"""Characters of a token, so that it fits into a header with `Bearer` before it (`server/limits.py`)."""
LEEWAY = 30
"""Seconds by which the clocks of the issuer and this server may differ."""
SUBJECT_MAX = 255
"""Characters of a subject that is not a UUID."""

_FORM = re.compile(r"([\w-]+)\.([\w-]+)\.([\w-]+)", re.ASCII)
_NOT_TEXT = re.compile("[\0\ud800-\udfff]")
"""NUL, which PostgreSQL cannot store, and halves of surrogate pairs, which UTF-8 cannot."""
_DIGITS_MAX = 20
"""Digits of an integer; a larger one cannot be compared with a float."""
_BRACKETS_MAX = 1_000
"""Opening brackets in a part, those in texts included. Deeper nesting than Python's stack allows would be a 500."""
_SHOWN = 100


@dataclass(frozen=True)
class Token:
    """A token of the right form, about whose content nothing is known yet."""

    algorithm: str
    """In the form of `canonical`."""
    kid: str
    claims: dict[str, Any] = field(repr=False)
    signed: bytes = field(repr=False)
    signature: bytes = field(repr=False)


def parse(text: str, rules: TokenRules) -> Token:
    """Reads the form and the header. Raises `InvalidToken`, which says nothing about claims."""
    if len(text) > TOKEN_MAX:
        raise InvalidToken(f"The token is longer than {TOKEN_MAX:,} characters.")
    form = _FORM.fullmatch(text)
    if not form:
        raise InvalidToken("The token does not consist of three parts in base64url without padding.")
    header, claims, signature = (_decode(part) for part in form.groups())
    fields = _object(header)
    if "crit" in fields or "b64" in fields:
        raise InvalidToken("The token's header has `crit` or `b64`, which are not supported.")
    algorithm, kid = fields.get("alg"), fields.get("kid")
    if not isinstance(algorithm, str) or canonical(algorithm) not in map(canonical, rules.algorithms):
        raise InvalidToken("The token's algorithm is not accepted.")
    if not _is_text(kid) or not 0 < len(kid) <= KID_MAX:
        raise InvalidToken("The token's header does not name its key (`kid`).")
    return Token(canonical(algorithm), kid, _object(claims), text[: form.end(2)].encode(), signature)


def verify(token: Token, key: Key, rules: TokenRules) -> tuple[UUID, int]:
    """Verifies signature and claims; returns the user's id, and the time from which on the token is not valid.

    Raises `InvalidToken`, which says something about the claims only if the issuer signed them.
    """
    if token.algorithm not in key.algorithms:
        raise InvalidToken("The token's algorithm does not fit its key.")
    if not jwt.get_algorithm_by_name(token.algorithm).verify(token.signed, key.public, token.signature):
        raise InvalidToken("The token's signature does not match.")
    claims = token.claims
    for name in ("exp", "iat", "sub", "iss", *(("aud",) if rules.audience else ())):
        if claims.get(name) is None:
            raise InvalidToken(f"The token has no claim `{name}`.")
    _check_times(claims, rules)
    if claims["iss"] != rules.issuer:
        _log_mismatch("issuer", rules.issuer, claims["iss"])
        raise InvalidToken("The token is from another issuer.")
    _check_audience(claims, rules)
    _check_party(claims, rules)
    return _user_id(claims["sub"], rules), int(claims["exp"]) + LEEWAY


def _decode(part: str) -> bytes:
    """Refuses a part that decodes to the same bytes as another one."""
    with suppress(ValueError):
        data = urlsafe_b64decode(part + "=" * (-len(part) % 4))
        if urlsafe_b64encode(data).rstrip(b"=") == part.encode():
            return data
    raise InvalidToken("A part of the token is not base64url in its only form.")


def _object(data: bytes) -> dict[str, Any]:
    """Reads JSON as RFC 8259 has it: a name that appears twice would mean something else to another reader."""
    value = None
    # What is nested cannot be deeper than it has brackets.
    if data.count(b"[") + data.count(b"{") <= _BRACKETS_MAX:
        with suppress(ValueError):
            value = _DECODER.decode(data.decode())
    if not isinstance(value, dict):
        raise InvalidToken("A part of the token is not a JSON object, or not a strict one.")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) < len(pairs):
        raise ValueError("a name appears twice")
    return result


def _refuse(name: str) -> None:
    raise ValueError(name)


def _finite(digits: str) -> float:
    number = float(digits)
    if isinf(number):
        raise ValueError("a number is too large")
    return number


def _integer(digits: str) -> int:
    if len(digits) > _DIGITS_MAX:
        raise ValueError("a number is too large")
    return int(digits)


_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_refuse, parse_float=_finite, parse_int=_integer)


def _is_text(value: Any) -> TypeIs[str]:
    return isinstance(value, str) and not _NOT_TEXT.search(value)


def _check_times(claims: dict[str, Any], rules: TokenRules) -> None:
    for name in ("exp", "iat", "nbf"):
        # JSON's true is a number to Python.
        if name in claims and type(claims[name]) not in {int, float}:
            raise InvalidToken(f"The claim `{name}` is not a number.")
    now, lifetime = time(), claims["exp"] - claims["iat"]
    if claims["exp"] <= now - LEEWAY:
        raise InvalidToken("The token has expired.")
    if max(claims["iat"], claims.get("nbf", 0)) > now + LEEWAY:
        raise InvalidToken("The token is not valid yet.")
    if lifetime <= 0:
        raise InvalidToken("The token expires before it is issued.")
    if lifetime > rules.max_lifetime:
        raise InvalidToken("The token is valid for longer than is accepted.")


def _check_audience(claims: dict[str, Any], rules: TokenRules) -> None:
    """Refuses a token for others also where no audience is set (RFC 7519, section 4.1.3)."""
    if "aud" not in claims:
        return
    audiences = claims["aud"] if isinstance(claims["aud"], list) else [claims["aud"]]
    if not all(_is_text(audience) for audience in audiences):
        raise InvalidToken("The claim `aud` is neither a text nor a list of texts.")
    if rules.audience not in audiences:
        _log_mismatch("audience", rules.audience, claims["aud"])
        raise InvalidToken("The token is for another audience.")


def _check_party(claims: dict[str, Any], rules: TokenRules) -> None:
    party = claims.get("azp")
    if "azp" in claims and not _is_text(party):
        raise InvalidToken("The claim `azp` is not a text.")
    if rules.authorized_parties and party not in rules.authorized_parties:
        _log_mismatch("authorized party", rules.authorized_parties, party)
        raise InvalidToken("The token was issued to another party." if party else "The token has no claim `azp`.")


def _user_id(subject: Any, rules: TokenRules) -> UUID:
    if rules.subject == "uuid":
        with suppress(ValueError, TypeError, AttributeError):
            # One user has one id: other forms of it would be other keys in a cache or a log.
            if str(UUID(subject)) == subject:
                return UUID(subject)
        raise InvalidToken("The claim `sub` is not a UUID in lower case with hyphens.")
    if not _is_text(subject) or not 0 < len(subject) <= SUBJECT_MAX:
        raise InvalidToken(f"The claim `sub` is not a text of 1 to {SUBJECT_MAX} characters.")
    return uuid5(uuid5(NAMESPACE_URL, rules.issuer), subject)


def _log_mismatch(what: str, expected: object, got: object) -> None:
    """Logs what the set-up or the issuer has to change; the client is not told."""
    logger.warning("A token has another %s: expected %r, got %s", what, expected, repr(got)[:_SHOWN])
