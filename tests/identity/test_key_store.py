"""The keys of an issuer whose server fails in every way, whose keys change, and whose tokens others forge."""

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from math import log2
from time import monotonic
from uuid import uuid4

import pytest
import uvloop

from identity.errors import InvalidToken, KeysUnavailable
from identity.key_store import PACE, Pace
from identity.verifier import Verifier
from tests.identity.conftest import QUICK, refusal, verifying
from tests.support.issuer import FAULTS, Fault, Issuer, SigningKey

UNKNOWN = "The token is signed with a key that its issuer does not publish."
IMPATIENT = Pace(first=0.05, longest=0.2, fetch=0.3)
"""For servers that do not answer in time."""


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    """An issuer of the test's own."""
    with Issuer() as issuer:
        yield issuer


@asynccontextmanager
async def warm(issuer: Issuer, timeout: float = 30, pace: Pace = QUICK) -> AsyncIterator[Verifier]:
    """A verifier that knows the issuer's keys."""
    async with verifying(issuer, timeout=timeout, pace=pace) as verifier:
        await persist(lambda: verifier.user_id(issuer.token()))
        yield verifier


async def persist(ask: Callable[[], Awaitable[str]]) -> str:
    """Asks again after each 503, as a client does."""
    while True:
        try:
            return await ask()
        except KeysUnavailable:
            await asyncio.sleep(0.05)


async def until(is_so: Callable[[], bool]) -> None:
    while not is_so():  # noqa: ASYNC110 - the issuer has a thread of its own
        await asyncio.sleep(0.01)


async def answered(verifier: Verifier, token: str) -> str:
    try:
        return f"{await verifier.user_id(token)}"
    except (InvalidToken, KeysUnavailable) as error:
        return type(error).__name__


def at_once(verifier: Verifier, token: str) -> str:
    """The user of a token if that is known without any wait."""
    with pytest.raises(StopIteration) as returned:
        verifier.user_id(token).send(None)
    user_id: str = returned.value.value
    return user_id


@pytest.mark.parametrize("fault", FAULTS)
async def test_known_keys_serve_on_while_the_endpoint_fails(fault: Fault, issuer: Issuer) -> None:
    [old] = issuer.keys
    async with warm(issuer, pace=IMPATIENT) as verifier:
        cached = issuer.token()
        await verifier.user_id(cached)
        issuer.fault = fault
        issuer.rotate()

        with pytest.raises(KeysUnavailable) as refused:
            await verifier.user_id(issuer.token())

        assert refused.value.retry_after == 1
        assert verifier.known(cached)
        at_once(verifier, issuer.token(key=old))

        issuer.fault = None
        await persist(lambda: verifier.user_id(issuer.token()))
        assert verifier.known(cached)


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_server_starts_without_keys_and_recovers_without_a_request(
    fault: Fault, issuer: Issuer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "identity")
    issuer.fault = fault
    async with verifying(issuer, pace=IMPATIENT) as verifier:
        with pytest.raises(KeysUnavailable):
            await verifier.user_id(issuer.token())
        assert "cannot be fetched" in caplog.text
        assert "no token can be verified" in caplog.text

        issuer.fault = None
        await until(lambda: "The issuer's keys have been fetched: 1, of which 1 are new" in caplog.text)

        at_once(verifier, issuer.token())


async def test_a_token_that_comes_with_the_first_fetch_waits_for_that_one_only(issuer: Issuer) -> None:
    issuer.delay = 0.1
    async with verifying(issuer) as verifier:
        await until(lambda: issuer.fetches == 1)
        await asyncio.gather(*(verifier.user_id(issuer.token()) for _ in range(20)))
        await asyncio.sleep(0.3)

    assert issuer.fetches == 1


async def test_others_do_not_wait_for_an_endpoint_that_hangs(issuer: Issuer) -> None:
    [old] = issuer.keys
    async with warm(issuer) as verifier:
        issuer.fault = "hang"
        issuer.rotate()
        waiting = asyncio.create_task(answered(verifier, issuer.token()))
        while issuer.fetches < 2:
            at_once(verifier, issuer.token(key=old))
            await asyncio.sleep(0.01)

        assert not waiting.done()
        at_once(verifier, issuer.token(key=old))
        waiting.cancel()


async def test_a_new_key_is_fetched_by_a_fetch_that_begins_after_the_token_came(issuer: Issuer) -> None:
    async with warm(issuer) as verifier:
        issuer.delay = 0.2
        stranger = asyncio.create_task(answered(verifier, issuer.token(key=SigningKey())))
        await until(lambda: issuer.fetches == 2)

        # The answer that is on its way has been made without this key.
        issuer.rotate()
        await verifier.user_id(issuer.token())

        assert issuer.fetches == 3
        assert await stranger == "InvalidToken"


async def test_several_new_keys_at_once_cost_one_fetch(issuer: Issuer) -> None:
    async with warm(issuer) as verifier:
        tokens = [issuer.token(key=issuer.rotate()) for _ in range(7) for _ in range(20)]

        await asyncio.gather(*map(verifier.user_id, tokens))

    assert issuer.fetches == 2


async def test_no_valid_token_is_refused_while_two_issuers_rotate(issuer: Issuer) -> None:
    async with warm(issuer) as verifier:

        async def use() -> None:
            for _ in range(60):
                await verifier.user_id(issuer.token())
                await asyncio.sleep(0.01)

        async def rotate() -> None:
            for _ in range(6):
                issuer.rotate()
                await asyncio.sleep(0.1)

        await asyncio.gather(*(use() for _ in range(4)), rotate(), rotate())


async def test_ten_thousand_unknown_keys_cost_a_few_fetches(issuer: Issuer) -> None:
    began = monotonic()
    async with warm(issuer, timeout=0.3, pace=PACE) as verifier:
        forged = [issuer.token(header={"kid": f"unknown-{number}"}) for number in range(2000)]
        for _ in range(5):
            answers = Counter(await asyncio.gather(*(answered(verifier, each) for each in forged)))
            assert answers.keys() <= {"InvalidToken", "KeysUnavailable"}
            at_once(verifier, issuer.token())

    # The fetches begin 1, 2, 4, ... seconds after one another.
    assert issuer.fetches <= 2 + log2(monotonic() - began + 1)


async def test_fetches_that_bring_nothing_new_come_less_and_less_often(issuer: Issuer) -> None:
    began = monotonic()
    async with warm(issuer, pace=Pace(first=0.05)) as verifier:
        for _ in range(5):
            assert await refusal(verifier, issuer.token(key=SigningKey())) == UNKNOWN
        # They began at least 0.05, 0.1, 0.2, 0.4 and 0.8 seconds after one another.
        assert monotonic() - began >= 1.55
        assert issuer.fetches == 6

        issuer.rotate()
        await verifier.user_id(issuer.token())
        # The rule can only be seen from inside without a test of how fast the machine is.
        assert verifier._store._spacing == 0.05


async def test_a_stray_unknown_key_is_forgotten_after_a_while(issuer: Issuer) -> None:
    async with warm(issuer, pace=Pace(first=0.05, longest=0.4)) as verifier:
        for _ in range(3):
            await refusal(verifier, issuer.token(key=SigningKey()))
        await asyncio.sleep(1)

        await refusal(verifier, issuer.token(key=SigningKey()))
        assert verifier._store._spacing == 0.1


async def test_a_fetch_that_cannot_begin_in_time_is_not_waited_for(issuer: Issuer) -> None:
    async with warm(issuer, timeout=3, pace=Pace(first=20)) as verifier:
        issuer.rotate()
        # It does not even begin to wait.
        with pytest.raises(KeysUnavailable) as refused:
            verifier.user_id(issuer.token()).send(None)

    assert 3 < refused.value.retry_after <= 20
    assert issuer.fetches == 1


async def test_no_token_waits_longer_than_the_timeout(issuer: Issuer) -> None:
    issuer.fault = "hang"
    async with verifying(issuer, timeout=0.1) as verifier:
        with pytest.raises(KeysUnavailable):
            await verifier.user_id(issuer.token())

    assert issuer.fetches <= 1


async def test_a_key_that_is_no_longer_published_verifies_nothing(issuer: Issuer) -> None:
    [old] = issuer.keys
    async with warm(issuer) as verifier:
        cached, other = issuer.token(), issuer.token()
        await verifier.user_id(cached)
        issuer.rotate()
        issuer.forget_old_keys()
        await verifier.user_id(issuer.token())

        assert verifier.known(cached) is None
        for token in (cached, other):
            assert await refusal(verifier, token) == UNKNOWN
        assert old.kid not in {key.kid for key in issuer.keys}


async def test_a_key_that_changes_under_its_name_verifies_nothing_of_before(issuer: Issuer) -> None:
    [old] = issuer.keys
    async with warm(issuer) as verifier:
        cached = issuer.token()
        await verifier.user_id(cached)
        issuer.keys = [SigningKey("EdDSA", old.kid)]
        await refusal(verifier, issuer.token(key=SigningKey()))

        assert await refusal(verifier, cached) == "The token's signature does not match."
        await verifier.user_id(issuer.token())


async def test_keys_are_fetched_now_and_then_without_a_request(issuer: Issuer) -> None:
    async with warm(issuer, pace=Pace(first=0.01, refresh=0.05)) as verifier:
        key = issuer.rotate()
        await until(lambda: key.kid in verifier._store.keys)
        fetches = issuer.fetches
        await until(lambda: issuer.fetches >= fetches + 5)

        # They make no unknown key wait longer.
        assert verifier._store._spacing == 0.01


async def test_a_caller_that_hangs_up_takes_no_fetch_from_the_others(issuer: Issuer) -> None:
    async with warm(issuer) as verifier:
        issuer.delay = 0.1
        issuer.rotate()
        first, second = (asyncio.create_task(verifier.user_id(issuer.token())) for _ in range(2))
        await until(lambda: issuer.fetches == 2)

        first.cancel()

        await second
        assert issuer.fetches == 2
        with pytest.raises(asyncio.CancelledError):
            await first


async def test_many_that_wait_are_answered_while_others_go_on(issuer: Issuer) -> None:
    async with warm(issuer) as verifier:
        token = issuer.token(key=SigningKey())
        waiting = [asyncio.create_task(answered(verifier, token)) for _ in range(1000)]
        turns = 0
        while (done := sum(task.done() for task in waiting)) < len(waiting):
            turns += done > 0
            await asyncio.sleep(0)

        assert {task.result() for task in waiting} == {"InvalidToken"}
        assert turns >= 20


async def test_callers_that_hang_up_while_others_are_answered_end_no_fetches(issuer: Issuer) -> None:
    async with warm(issuer) as verifier:
        token = issuer.token(key=SigningKey())
        waiting = [asyncio.create_task(answered(verifier, token)) for _ in range(1000)]
        while not any(task.done() for task in waiting):  # noqa: ASYNC110 - it must see the very turn
            await asyncio.sleep(0)
        for task in waiting:
            task.cancel()

        issuer.rotate()
        async with asyncio.timeout(20):
            await verifier.user_id(issuer.token())


async def test_closing_ends_a_fetch_that_hangs(issuer: Issuer) -> None:
    before = asyncio.all_tasks()
    issuer.fault = "hang"
    async with verifying(issuer):
        await until(lambda: issuer.fetches > 0)

    assert asyncio.all_tasks() == before


async def test_failures_are_logged_once_and_so_is_their_end(issuer: Issuer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "identity")
    async with warm(issuer) as verifier:
        issuer.fault = "500"
        issuer.rotate()
        for _ in range(4):
            with pytest.raises(KeysUnavailable):
                await verifier.user_id(issuer.token())
        issuer.fault = None
        await verifier.user_id(issuer.token())

    lines = [(record.levelname, record.getMessage()) for record in caplog.records if "identity" in record.name]
    assert lines == [
        ("INFO", "The issuer's keys have been fetched: 1, of which 1 are new"),
        (
            "WARNING",
            f"The issuer's keys cannot be fetched from {issuer.jwks_url}: the status is 500; the 1 known ones serve on",
        ),
        ("INFO", "The issuer's keys have been fetched: 2, of which 1 are new"),
    ]


async def test_the_query_of_the_keys_address_is_not_logged(issuer: Issuer, caplog: pytest.LogCaptureFixture) -> None:
    async with verifying(issuer, jwks_url=f"{issuer.jwks_url}?apikey=secret"):
        await until(lambda: "cannot be fetched" in caplog.text)

    assert f"from {issuer.jwks_url}: " in caplog.text
    assert "secret" not in caplog.text


async def test_whatever_goes_wrong_in_a_fetch_does_not_end_the_fetches(
    issuer: Issuer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(*_: object) -> bytes:
        raise LookupError

    async with warm(issuer) as verifier:
        with monkeypatch.context() as patch:
            patch.setattr("identity.key_store.fetch", fail)
            with pytest.raises(KeysUnavailable):
                await verifier.user_id(issuer.token(key=SigningKey()))
        assert "LookupError; the 1 known ones serve on" in caplog.text
        issuer.rotate()
        await verifier.user_id(issuer.token())


@pytest.mark.parametrize("loop_factory", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_it_runs_on_either_event_loop(loop_factory: Callable[[], asyncio.AbstractEventLoop], issuer: Issuer) -> None:
    async def scenario() -> None:
        alice = uuid4()
        async with verifying(issuer) as verifier:
            assert await verifier.user_id(issuer.token(alice)) == str(alice)
            issuer.rotate()
            assert await verifier.user_id(issuer.token(alice)) == str(alice)
            assert await refusal(verifier, issuer.token(key=SigningKey())) == UNKNOWN
            issuer.fault = "reset"
            with pytest.raises(KeysUnavailable):
                await verifier.user_id(issuer.token(key=SigningKey()))
            issuer.fault = "hang"

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(scenario())
