"""What a token that its issuer signed has to say, and how a refusal explains itself."""

import logging
from time import time
from typing import Any
from uuid import NAMESPACE_URL, uuid4, uuid5

import orjson
import pytest

from identity.verifier import Verifier
from tests.identity.conftest import refusal, verifying
from tests.support.issuer import Issuer

NOT_YET, EXPIRED = "The token is not valid yet.", "The token has expired."
DAY = 24 * 60 * 60


def seconds(offset: float) -> int:
    return int(time() + offset)


def raw(issuer: Issuer, **changes: bytes) -> str:
    """A token with claims in JSON that no encoder would write; those that are empty are left out."""
    claims = {"iat": b"%d" % seconds(0), "exp": b"%d" % seconds(900), "sub": orjson.dumps(str(uuid4()))}
    claims |= {name: orjson.dumps(issuer.url) for name in ("iss", "aud")} | changes
    body = b",".join(b'"%s":%s' % (name.encode(), value) for name, value in claims.items() if value)
    [key] = issuer.keys
    return key.sign({"alg": key.algorithm, "kid": key.kid}, b"{%s}" % body)


async def test_a_token_of_better_auth_is_its_user(issuer: Issuer, verifier: Verifier) -> None:
    alice = uuid4()

    assert await verifier.user_id(issuer.token(alice)) == str(alice)
    assert await verifier.user_id(raw(issuer, sub=orjson.dumps(str(alice)))) == str(alice)


@pytest.mark.parametrize("claim", ["exp", "iat", "sub", "iss", "aud"])
async def test_a_claim_that_is_missing_is_named(claim: str, issuer: Issuer, verifier: Verifier) -> None:
    reason = f"The token has no claim `{claim}`."

    assert await refusal(verifier, raw(issuer, **{claim: b""})) == reason
    assert await refusal(verifier, raw(issuer, **{claim: b"null"})) == reason


@pytest.mark.parametrize(("claims", "reason"), [
    ({"iat": 25}, None),
    ({"iat": 90, "exp": 990}, NOT_YET),
    ({"nbf": 25}, None),
    ({"nbf": 90}, NOT_YET),
    ({"iat": -900, "exp": -25}, None),
    ({"iat": -900, "exp": -90}, EXPIRED),
    ({"iat": -5, "exp": DAY - 5}, None),
    ({"iat": -5, "exp": DAY}, "The token is valid for longer than is accepted."),
    ({"iat": 20, "exp": 20}, "The token expires before it is issued."),
    ({"iat": 20, "exp": 10}, "The token expires before it is issued."),
], ids=str)  # fmt: skip
async def test_a_token_has_its_time(
    claims: dict[str, Any], reason: str | None, issuer: Issuer, verifier: Verifier
) -> None:
    now = int(time())
    token = issuer.token(**{name: now + offset for name, offset in claims.items()})

    if reason:
        assert await refusal(verifier, token) == reason
    else:
        await verifier.user_id(token)


@pytest.mark.parametrize("claim", ["exp", "iat", "nbf"])
async def test_a_time_may_have_a_fraction(claim: str, issuer: Issuer, verifier: Verifier) -> None:
    fraction: dict[str, Any] = {claim: time() + (600 if claim == "exp" else 0)}

    await verifier.user_id(issuer.token(**fraction))


@pytest.mark.parametrize("claim", ["exp", "iat", "nbf"])
@pytest.mark.parametrize("value", [
    b'"%d"', b'"soon"', b"true", b"false", b"[]", b"{}", b"NaN", b"Infinity", b"-Infinity", b"1e400", b"-1e400",
    b"9" * 30, b"9" * 5000, b"1e308", b"-1e308", b"%d000", b'""', b"[%d]",
], ids=lambda value: value.decode()[:12])  # fmt: skip
async def test_a_time_that_is_not_a_number_of_seconds_is_refused(
    claim: str, value: bytes, issuer: Issuer, verifier: Verifier
) -> None:
    time = value.replace(b"%d", b"%d" % seconds(600 if claim == "exp" else 0))
    if claim == "nbf" and value == b"-1e308":
        # It was always valid.
        return

    assert await refusal(verifier, raw(issuer, **{claim: time}))


async def test_a_time_as_a_text_is_explained(issuer: Issuer, verifier: Verifier) -> None:
    for value in (b'"%d"' % seconds(600), b'"soon"'):
        assert await refusal(verifier, raw(issuer, exp=value)) == "The claim `exp` is not a number."


async def test_a_time_in_milliseconds_is_explained(issuer: Issuer, verifier: Verifier) -> None:
    assert await refusal(verifier, issuer.token(exp=seconds(600) * 1000)) == (
        "The token is valid for longer than is accepted."
    )


@pytest.mark.parametrize("value", [
    "{url}/", "https://todo.example.com", "", ["{url}"], {"{url}": 1}, 5, True,
], ids=str)  # fmt: skip
async def test_another_issuer_is_refused_and_logged(
    value: Any, issuer: Issuer, verifier: Verifier, caplog: pytest.LogCaptureFixture
) -> None:
    other = orjson.loads(orjson.dumps(value).replace(b"{url}", issuer.url.encode()))

    assert await refusal(verifier, issuer.token(iss=other)) == "The token is from another issuer."

    [record] = [each for each in caplog.records if each.name == "identity.tokens"]
    assert record.levelno == logging.WARNING
    assert record.getMessage() == f"A token has another issuer: expected {issuer.url!r}, got {other!r}"


async def test_only_an_issuer_that_signed_the_token_is_logged(
    issuer: Issuer, verifier: Verifier, caplog: pytest.LogCaptureFixture
) -> None:
    token = issuer.token(iss="https://other.example.com", aud="other")

    assert await refusal(verifier, token[:-4] + "AAAA") == "The token's signature does not match."

    assert not [record for record in caplog.records if record.name == "identity.tokens"]


@pytest.mark.parametrize("value", ["{url}", ["{url}"], ["account", "{url}"]], ids=str)
async def test_an_audience_that_names_this_api_is_accepted(value: Any, issuer: Issuer, verifier: Verifier) -> None:
    ours = orjson.loads(orjson.dumps(value).replace(b"{url}", issuer.url.encode()))

    await verifier.user_id(issuer.token(aud=ours))


@pytest.mark.parametrize("value", [
    "{url}/", "account", [], [""], ["account"], ["{url}", 5], ["{url}", None], ["{url}", ["{url}"]], {"{url}": 1},
    5, True, "", ["{url}", "\0"],
], ids=str)  # fmt: skip
async def test_another_audience_is_refused(
    value: Any, issuer: Issuer, verifier: Verifier, caplog: pytest.LogCaptureFixture
) -> None:
    other = orjson.loads(orjson.dumps(value).replace(b"{url}", issuer.url.encode()))

    assert issuer.url not in await refusal(verifier, issuer.token(aud=other))

    if value == "account":
        assert f"A token has another audience: expected {issuer.url!r}, got 'account'" in caplog.text


async def test_a_value_in_the_log_is_short_and_has_no_control_characters(
    issuer: Issuer, verifier: Verifier, caplog: pytest.LogCaptureFixture
) -> None:
    for audience in (orjson.dumps("\n" * 2000), orjson.dumps(["https://c"] * 300)):
        assert await refusal(verifier, raw(issuer, aud=audience)) == "The token is for another audience."

    lines = [record.getMessage() for record in caplog.records if record.name == "identity.tokens"]
    assert len(lines) == 2
    assert not any("\n" in line or len(line) > 250 for line in lines)


async def test_a_token_without_audience_is_accepted_from_an_authorized_party(issuer: Issuer) -> None:
    async with verifying(issuer, audience=None, authorized_parties=("https://a", "https://b")) as verifier:
        await verifier.user_id(issuer.token(aud=None, azp="https://b"))


@pytest.mark.parametrize("audience", ["https://c", ["https://c"], "https://a"], ids=str)
async def test_a_token_with_an_audience_is_refused_where_none_is_set(
    audience: Any, issuer: Issuer, caplog: pytest.LogCaptureFixture
) -> None:
    async with verifying(issuer, audience=None, authorized_parties=("https://a",)) as verifier:
        token = issuer.token(aud=audience, azp="https://a")

        assert await refusal(verifier, token) == "The token is for another audience."

    assert f"A token has another audience: expected None, got {audience!r}" in caplog.text


@pytest.mark.parametrize(("party", "reason"), [
    (None, "The token has no claim `azp`."),
    ("https://c", "The token was issued to another party."),
    ("https://a/", "The token was issued to another party."),
    (["https://a"], "The claim `azp` is not a text."),
    (5, "The claim `azp` is not a text."),
    ("https://a\0", "The claim `azp` is not a text."),
], ids=str)  # fmt: skip
async def test_another_party_is_refused(party: Any, reason: str, issuer: Issuer) -> None:
    async with verifying(issuer, authorized_parties=("https://a",)) as verifier:
        assert await refusal(verifier, issuer.token(azp=party)) == reason


async def test_an_audience_is_needed_beside_a_party_if_both_are_set(issuer: Issuer) -> None:
    async with verifying(issuer, authorized_parties=("https://a",)) as verifier:
        await verifier.user_id(issuer.token(azp="https://a"))
        assert await refusal(verifier, issuer.token(azp="https://a", aud=None)) == "The token has no claim `aud`."


@pytest.mark.parametrize("subject", [
    "", " ", "alice", 5, 5.5, True, [], {}, ["{uuid}"], "{UUID}", "{{uuid}}", "urn:uuid:{uuid}", "{hex}", "{uuid} ",
    "{uuid}\0", "\0", "\u0661" * 32, "\u0661{uuid}",
], ids=repr)  # fmt: skip
async def test_a_subject_that_is_not_a_uuid_is_refused(subject: Any, issuer: Issuer, verifier: Verifier) -> None:
    alice = uuid4()
    forms = {"{uuid}": str(alice), "{UUID}": str(alice).upper(), "{{uuid}}": f"{{{alice}}}", "{hex}": alice.hex}
    for form, value in reversed(forms.items()):
        subject = subject.replace(form, value) if isinstance(subject, str) else subject

    assert await refusal(verifier, signed(issuer, subject)) == (
        "The claim `sub` is not a UUID in lower case with hyphens."
    )


def signed(issuer: Issuer, subject: Any) -> str:
    return raw(issuer, sub=orjson.dumps(subject))


async def test_a_lone_surrogate_in_a_subject_is_refused(issuer: Issuer, verifier: Verifier) -> None:
    token = raw(issuer, sub=rb'"\ud800"')

    assert await refusal(verifier, token) == "The claim `sub` is not a UUID in lower case with hyphens."
    async with verifying(issuer, subject="derived") as deriving:
        assert await refusal(deriving, token) == "The claim `sub` is not a text of 1 to 255 characters."


@pytest.mark.parametrize(
    "subject", ["user_2abc", "auth0|123", "5", "é" * 255, "\U0001f600", "00000000-0000-0000-0000-000000000000"]
)
async def test_any_text_can_be_a_subject_from_which_the_id_is_derived(subject: str, issuer: Issuer) -> None:
    async with verifying(issuer, subject="derived") as verifier:
        assert await verifier.user_id(signed(issuer, subject)) == str(uuid5(uuid5(NAMESPACE_URL, issuer.url), subject))


@pytest.mark.parametrize("subject", ["", 5, True, [], "a\0", "é" * 256], ids=lambda subject: repr(subject)[:9])
async def test_no_id_is_derived_from_anything_else(subject: Any, issuer: Issuer) -> None:
    async with verifying(issuer, subject="derived") as verifier:
        assert (
            await refusal(verifier, signed(issuer, subject)) == "The claim `sub` is not a text of 1 to 255 characters."
        )


async def test_other_claims_do_not_matter(issuer: Issuer, verifier: Verifier) -> None:
    odd: dict[str, Any] = {"jti": 5, "name": "\0", "nested": {"a": [None]}, "scope": ["x"]}

    await verifier.user_id(issuer.token(**odd))
    # A name that was cut in the middle of an emoji is not its owner's fault.
    await verifier.user_id(raw(issuer, name=rb'"\ud83d"'))
