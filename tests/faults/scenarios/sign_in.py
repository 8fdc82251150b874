"""The issuer of tokens fails, is away or rotates its keys, and clients name keys that nobody has (D33)."""

import asyncio
import random
import statistics
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager
from functools import partial
from time import monotonic
from typing import Any
from uuid import uuid4

from benchmarks.client import Answers, Workload
from benchmarks.clients import in_another_process
from tests.faults.environment import Environment, environment
from tests.faults.http import Answer, Http
from tests.faults.matrix import Result, Run, scenario
from tests.faults.readers import LIVE, readers
from tests.support.issuer import FAULTS, TOKEN_PATH, Fault, Issuer, SigningKey

EAGER = "tests.support.eager:application"
QUICK_FAULTS: tuple[Fault, ...] = ("empty", "hang")
USES = 3
"""Requests for which a client has the same token."""
AT_ONCE = 16
"""Requests on a connection each, so that every worker gets some."""
SPACING_MAX = 30.0
"""Seconds between two fetches of a worker, at most."""
FLOOD, QUICK_FLOOD = 50_000, 2_500
FLOOD_CLIENTS, QUICK_FLOOD_CLIENTS = 1_000, 500
FLOOD_SECONDS, QUICK_FLOOD_SECONDS = 20, 5
FETCHES_MAX = 8
"""Fetches of a worker while unknown keys are asked for."""

type Headers = Callable[[str], Mapping[str, str]]


def _environment(
    run: Run, result: Result, issuer: Issuer, *, timeout: int = 5, **options: Any
) -> AbstractAsyncContextManager[Environment]:
    """`timeout` is the longest that a token waits for its key, in seconds."""
    settings = issuer.settings | {"REQUEST_TIMEOUT": str(timeout)}
    return environment(run, result, settings=settings, **options)


def _bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def _paths(env: Environment) -> list[str]:
    return [f"/api/{user}/tasks?limit=10" for user in env.users]


def _user(path: str) -> str:
    return path.split("/")[2]


def _renewing(make: Callable[[str], str]) -> Headers:
    """The headers of clients that take a new token for every few requests. `make` makes one for a user."""
    held: dict[str, tuple[str, int]] = {}

    def headers(path: str) -> Mapping[str, str]:
        token, uses = held.get(path, ("", USES))
        if uses == USES:
            token, uses = make(_user(path)), 0
        held[path] = token, uses + 1
        return _bearer(token)

    return headers


async def _ask(env: Environment, make: Callable[[str], str], number: int = AT_ONCE) -> list[Answer]:
    """The answers to requests with a new token each. A 503 must say when to come again, and nothing else is allowed."""

    async def one(path: str) -> Answer:
        http = Http(env.web.port)
        try:
            return await http.request("GET", path, headers=_bearer(make(_user(path))))
        finally:
            http.close()

    paths = _paths(env)
    answers = await asyncio.gather(*(one(paths[each % len(paths)]) for each in range(number)))
    for answer in answers:
        is_right = answer.status == 200 or (answer.status == 503 and "retry-after" in answer.headers)
        env.result.expect(is_right, f"a valid token got {answer.status}: {answer.body[:200]!r}")
        env.result.unavailable += answer.status == 503
    return answers


async def _accepted(env: Environment, make: Callable[[str], str]) -> float:
    """Seconds until every worker takes new tokens."""
    started = monotonic()
    while any(answer.status != 200 for answer in await _ask(env, make)):
        if monotonic() > started + 2 * SPACING_MAX:
            env.result.expect(False, f"valid tokens are still refused after {2 * SPACING_MAX:g} s")
            break
        await asyncio.sleep(0.1)
    return monotonic() - started


async def _sample(latencies: list[float], seconds: float) -> list[float]:
    """The latencies of the next seconds."""
    latencies.clear()
    await asyncio.sleep(seconds)
    return list(latencies)


def _compare(result: Result, what: str, before: Sequence[float], after: Sequence[float]) -> None:
    first, then = (statistics.quantiles(each, n=100)[98] * 1000 for each in (before, after))
    result.goal(then <= first * 1.5, f"the p99 of others went from {first:.1f} to {then:.1f} ms")
    result.figures[f"p99 of others {what}"] = f"{first:.1f} / {then:.1f} ms"


@scenario(
    "the key endpoint fails",
    goal="no valid token of a known key is refused, one of a new key gets 503 and afterwards 200; p99 of others within "
    "1.5 times",
)
async def failing(run: Run, result: Result) -> None:
    """Lets each fault last for several refreshes of the keys, while tokens ask for a key that cannot be had.

    A server that takes what the endpoint should not have answered would know the key.
    """
    without, beside = list[float](), list[float]()
    with Issuer() as issuer:
        async with _environment(run, result, issuer, application=EAGER) as env:
            known = issuer.keys[-1]
            await _accepted(env, issuer.token)
            tokens = _renewing(lambda user: issuer.token(user, key=known))
            async with readers(env.web.port, result, _paths(env), headers=tokens) as latencies:
                for fault in QUICK_FAULTS if run.quick else FAULTS:
                    without += await _sample(latencies, run.rounds(5, 1))
                    issuer.fault = fault
                    new, fetches = issuer.rotate(), issuer.fetches
                    latencies.clear()
                    await _never_accepted(env, partial(issuer.token, key=new), run.rounds(8, 1), fault)
                    beside += latencies
                    is_seen = fault == "refused" or issuer.fetches > fetches
                    result.expect(is_seen, f"{fault}: the keys were not fetched")
                    issuer.fault = None
                    result.recoveries.append(await _accepted(env, partial(issuer.token, key=new)))
                    known = new
                    result.rounds += 1
    _compare(result, "before / during the faults", without, beside)
    result.goal(max(result.recoveries) <= SPACING_MAX + 1, f"it took {max(result.recoveries):.1f} s to recover")


async def _never_accepted(env: Environment, make: Callable[[str], str], seconds: float, fault: Fault) -> None:
    end = monotonic() + seconds
    while monotonic() < end:
        answers = await _ask(env, make, number=2)
        env.result.expect(all(each.status == 503 for each in answers), f"{fault}: a key was taken from this answer")
        await asyncio.sleep(0.1)


@scenario(
    "no key at the start", goal="it starts and is live, valid tokens get 503 with Retry-After, 200s without a restart"
)
async def away_at_the_start(run: Run, result: Result) -> None:
    faults: tuple[Fault, ...] = ("refused",) if run.quick else ("refused", "hang", "500", "empty")
    for fault in faults:
        with Issuer() as issuer:
            issuer.fault = fault
            async with _environment(run, result, issuer, timeout=2, name=fault) as env:
                http = Http(env.web.port)
                end = monotonic() + run.rounds(10, 2)
                while monotonic() < end:
                    answers = await _ask(env, issuer.token)
                    result.expect(all(each.status == 503 for each in answers), f"{fault}: a token was accepted")
                    live = await http.request("GET", LIVE)
                    result.expect(live.status == 200, f"{fault}: the live probe got {live.status}")
                http.close()
                issuer.fault = None
                result.recoveries.append(await _accepted(env, issuer.token))
                result.rounds += 1
    result.goal(max(result.recoveries) <= SPACING_MAX + 1, f"it took {max(result.recoveries):.1f} s to recover")


@scenario("two issuers rotate their keys", goal="no valid token refused; a worker fetches once for each new key")
async def rotating(run: Run, result: Result) -> None:
    """Rotates every 6 seconds (in the short form every 2) at each of two processes that share a set of keys."""
    every, tokens = run.rounds(6, 2), 0
    with Issuer() as issuer:
        signing = [issuer.keys[-1], issuer.rotate()]

        def make(user: str) -> str:
            nonlocal tokens
            tokens += 1
            return issuer.token(user, key=random.choice(signing))

        async with _environment(run, result, issuer) as env:
            await _accepted(env, issuer.token)
            fetches = issuer.fetches
            paths = _paths(env)[:4]
            # Each request on a connection of its own, so that a new token comes to every worker.
            reading = readers(env.web.port, result, paths, pause=0.05, keep_alive=False, headers=_renewing(make))
            async with reading as latencies:
                for number in range(run.rounds(20, 4)):
                    await asyncio.sleep(every / 2)
                    signing[number % 2] = issuer.rotate()
                    result.rounds += 1
                await asyncio.sleep(every / 2)
            most = env.workers * (result.rounds + 1)
            fetches = issuer.fetches - fetches
    result.expect(fetches <= most, f"{fetches} fetches for {result.rounds} new keys and {env.workers} workers")
    result.figures["tokens"] = f"{tokens:,}"
    result.figures["fetches of both workers"] = f"{fetches}"
    result.figures["slowest answer"] = f"{max(latencies) * 1000:,.0f} ms"


@scenario(
    "50,000 tokens of unknown keys in 20 s",
    goal=f"at most {FETCHES_MAX} fetches of a worker; never 200; p99 of others within 1.5 times that beside as many "
    "tokens that are not JWTs",
)
async def unknown_keys(run: Run, result: Result) -> None:
    """Measures other clients beside tokens that are refused at first sight, and beside tokens of unknown keys.

    Both crowds send at the same pace, because any request keeps the processors busy. The tokens of unknown keys are
    perfect otherwise.
    """
    number, seconds = run.rounds(FLOOD, QUICK_FLOOD), run.rounds(FLOOD_SECONDS, QUICK_FLOOD_SECONDS)
    fetched, statuses, sent, compared = list[int](), set[int](), list[int](), list[int]()
    garbage, unknown = list[float](), list[float]()
    with Issuer() as issuer, in_another_process() as flood:
        async with _environment(run, result, issuer) as env:
            await _accepted(env, issuer.token)
            strange, user = SigningKey(), str(env.users[0])
            kids = ({"kid": str(uuid4())} for _ in range(number))
            tokens = [issuer.token(user, key=strange, header=kid) for kid in kids]
            bad = ["x" * len(tokens[0])] * number
            send = partial(_flood, env, flood, clients=run.rounds(FLOOD_CLIENTS, QUICK_FLOOD_CLIENTS), seconds=seconds)
            async with readers(env.web.port, result, _paths(env), headers=_renewing(issuer.token)) as latencies:
                while result.rounds < run.rounds(2, 1):
                    latencies.clear()
                    compared.append((await send(bad)).statuses.total())
                    garbage += latencies
                    latencies.clear()
                    before = issuer.fetches
                    answers = await send(tokens)
                    unknown += latencies
                    fetched.append(issuer.fetches - before)
                    statuses |= answers.statuses.keys()
                    sent.append(answers.statuses.total())
                    result.rounds += 1
    most = FETCHES_MAX * env.workers
    result.expect(max(fetched) <= most, f"{max(fetched)} fetches of {env.workers} workers")
    result.expect(statuses <= {401, 503}, f"their statuses were {statuses}")
    _compare(result, "beside tokens that are not JWTs / of unknown keys", garbage, unknown)
    # A machine that is busy with other things does not get through all of them.
    result.figures[f"tokens answered in {seconds} s"] = f"{min(compared):,} / {min(sent):,} at least"
    result.figures["fetches of both workers"] = f"{max(fetched)} at most"


async def _flood(
    env: Environment,
    flood: Callable[[Workload], Future[Answers]],
    tokens: Sequence[str],
    *,
    clients: int,
    seconds: float,
) -> Answers:
    """Sends a request with each token, at a pace that takes so many seconds, from another process."""
    head = f"GET {_paths(env)[0]} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer "
    requests = [f"{head}{token}\r\n\r\n".encode() for token in tokens]
    load = Workload(env.web.port, requests, clients, seconds, pause=clients * seconds / len(tokens))
    answers = await asyncio.wrap_future(flood(load))
    env.result.expect(not answers.refused and not answers.broken, f"{answers.refused} refused, {answers.broken} cut")
    return answers


@scenario(
    "the issuer's secret was changed", goal="it makes no token, and those from before go on; so do new ones afterwards"
)
async def secret_changed(run: Run, result: Result) -> None:
    with Issuer() as issuer:
        async with _environment(run, result, issuer, application=EAGER) as env:
            tokens = {path: issuer.token(_user(path)) for path in _paths(env)}
            await _accepted(env, issuer.token)
            async with readers(env.web.port, result, tokens, headers=lambda path: _bearer(tokens[path])):
                for fault in (None, "500"):
                    issuer.signs, issuer.fault = False, fault
                    status = (await Http(issuer.port).request("GET", TOKEN_PATH)).status
                    result.expect(status == 500, f"its endpoint of tokens answered {status}")
                    await asyncio.sleep(run.rounds(20, 5))
                    result.rounds += 1
                issuer.signs, issuer.fault = True, None
                new = issuer.rotate()
                result.recoveries.append(await _accepted(env, partial(issuer.token, key=new)))
