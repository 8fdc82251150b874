"""A server that cannot prove who it is, or does not know our password: never used, and no password told (D17)."""

import asyncio
import contextlib
from pathlib import Path
from typing import NamedTuple
from uuid import UUID, uuid4

import psycopg

from persistence.postgres.dsn import Dsn
from persistence.postgres.options import DatabaseOptions, PoolLimits
from persistence.startup import RETRIES, StartupError, start
from tests.faults import pgbouncer
from tests.faults.certificates import Authority, Certificate
from tests.faults.clients import Load, load
from tests.faults.connections import Holdings, workers_of
from tests.faults.guarded import HOST, Guarded, guarded, url_of
from tests.faults.history import History
from tests.faults.http import Http
from tests.faults.matrix import Result, Stage, fault
from tests.faults.pgbouncer import PgBouncer
from tests.faults.verdict import judge
from tests.support.servers import WebServer, manage

SECRET = "hunter2"
"""What every password here has in it."""
WORKERS = POOL_MIN = 2
OPTIONS = DatabaseOptions(limits=PoolLimits(min_size=1, max_size=2))
UNTRUSTED = ("certificate verify failed", "The TLS connection cannot be made or trusted")
MISNAMED = (f'does not match host name "{HOST}"', UNTRUSTED[1])
PLAINTEXT = ("server does not support SSL, but SSL was required", UNTRUSTED[1])
UNKNOWN = ("password authentication failed", "Check the user and the password in DATABASE_URL")


class Case(NamedTuple):
    """What is shown to whom, and what he must say about it; nothing if he is to trust it."""

    name: str
    certificate: Certificate | None
    password: str
    said: tuple[str, ...] = ()


@fault(
    "wrong CA, expired certificate, wrong host name, plaintext server, wrong password",
    goal="refused, not ready, the reason told without the password",
)
async def refused(stage: Stage) -> Result:
    result, folder = Result(), stage.folder
    authority = Authority(folder, "ours")
    good, password = authority.sign("good", HOST), f"{SECRET}-first"
    cases = [
        Case("nothing wrong", good, password),
        Case("wrong CA", Authority(folder, "theirs").sign("strange", HOST), password, UNTRUSTED),
        Case("expired certificate", authority.sign("expired", HOST, days=-1), password, UNTRUSTED),
        Case("wrong host name", authority.sign("misnamed", "other.todo.test"), password, MISNAMED),
        Case("plaintext server", None, password, PLAINTEXT),
        Case("wrong password", good, f"{SECRET}-wrong", UNKNOWN),
    ]
    async with guarded(folder / "pg") as server:
        for case in cases:
            server.front.certificate = case.certificate
            url = server.url(case.password)
            await _try_to_start(result, case, url, authority)
            if not stage.quick or case.name in ("nothing wrong", "wrong CA", "wrong password"):
                await _ask_for_health(result, case, url, authority)
            if not stage.quick and case.said:
                await _try_to_serve(result, case, url, folder, authority)
        if pgbouncer.available():
            for case in cases[:4]:
                await _try_pgbouncer(result, case, folder, server.postgres.port, authority)
        result.figures["also with PgBouncer's TLS"] = "yes" if pgbouncer.available() else "no: not installed"
    return result


async def _try_to_start(result: Result, case: Case, url: str, authority: Authority) -> None:
    """As a server does, but with one attempt, and in this process."""
    result.rounds += 1
    error = ""
    try:
        # Whom the machine trusts cannot be changed in a process that runs, so it is said aloud.
        dsn = Dsn.parse(f"{url}&sslrootcert={authority.file}")
        async with start(dsn, OPTIONS, retry=False, migrate=False) as database, database.connection() as connection:
            result.expect(connection.pgconn.ssl_in_use, f"{case.name}: it is connected without TLS")
    except StartupError as failure:
        error = str(failure)
    _judge(result, case, error, error)


async def _ask_for_health(result: Result, case: Case, url: str, authority: Authority) -> None:
    """With `manage.py dbhealth`, and with whom the machine trusts as a default."""
    result.rounds += 1
    environment = _environment(url, authority)
    done = await asyncio.to_thread(manage, "dbhealth", environment=environment)
    _judge(result, case, done.stderr, done.stdout + done.stderr)
    result.expect(case.said != () or "TLS" in done.stdout, f"{case.name}: it is connected without TLS")


async def _try_to_serve(result: Result, case: Case, url: str, folder: Path, authority: Authority) -> None:
    """With gunicorn, which tries for up to 30 seconds and ends."""
    result.rounds += 1
    web = WebServer(folder, _environment(url, authority), "--workers", "2")
    web.start()
    while web.process.poll() is None:
        with contextlib.suppress(OSError, TimeoutError):
            answer = await Http(web.port, timeout=1.0).request("GET", "/api/v1/health")
            result.expect(answer.status != 200, f"{case.name}: it says that it is healthy")
        await asyncio.sleep(0.5)
    result.expect(web.process.returncode > 0, f"{case.name}: gunicorn ended with {web.process.returncode}")
    result.expect(f"Attempt {RETRIES} of {RETRIES + 1}" in web.log, f"{case.name}: it did not try again:\n{web.log}")
    # Two workers that fail at once are too much for gunicorn: the second failure gets lost in its own traceback.
    ours = web.log.partition("Traceback")[2].partition("HaltServer")[0]
    result.expect("todo" not in ours and "persistence" not in ours, f"{case.name}: a traceback in the log:\n{web.log}")
    web.http.close()
    _judge(result, case, web.log, web.log)


async def _try_pgbouncer(result: Result, case: Case, folder: Path, port: int, authority: Authority) -> None:
    place = folder / f"pgbouncer-{case.name.replace(' ', '-')}"
    bouncer = PgBouncer(place, port, certificate=case.certificate)
    with bouncer:
        await _try_to_start(result, case, url_of("postgres", case.password, bouncer.port), authority)


def _environment(url: str, authority: Authority) -> dict[str, str]:
    return {"ENVIRONMENT": "production", "DATABASE_URL": url, "SSL_CERT_FILE": str(authority.file)}


def _judge(result: Result, case: Case, error: str, everything: str) -> None:
    if not case.said:
        result.expect(not error, f"{case.name}, and yet: {error}")
    for words in case.said:
        result.expect(words in error, f"{case.name}: it does not say {words!r}: {error}")
    result.expect(SECRET not in everything, f"{case.name}: the password is told: {everything}")


@fault(
    "rotated password, a certificate that expires while running",
    goal="what is open goes on; then 503, not ready, no password in any log; 200s within 1 s of being mended",
)
async def rotated(stage: Stage) -> Result:
    result, history = Result(), History()
    authority = Authority(stage.folder, "ours")
    good, expired = authority.sign("good", HOST), authority.sign("expired", HOST, days=-1)
    async with guarded(stage.folder / "pg") as server:
        server.front.certificate = good
        users = [await asyncio.to_thread(_new_user, server) for _ in range(4)]
        environment = _environment(server.url(), authority) | {
            "DATABASE_POOL_MIN": str(POOL_MIN),
            "DATABASE_POOL_MAX": "8",
        }
        web = WebServer(stage.folder, environment, "--workers", str(WORKERS))
        await asyncio.to_thread(web.__enter__)
        try:
            async with load(web.port, users, history, pause=0.01) as traffic:
                for _ in range(stage.rounds(10, 1)):
                    await server.set_password(f"{SECRET}-second")
                    await _suffer(result, server, web, traffic)
                    await server.set_password(f"{SECRET}-first")
                    await _recover(result, server, web, traffic)

                    server.front.certificate = expired
                    await _suffer(result, server, web, traffic)
                    server.front.certificate = good
                    await _recover(result, server, web, traffic)
            log = web.log
        finally:
            await asyncio.to_thread(web.__exit__, None, None, None)
        judge(history, server.postgres.dsn.conninfo).add_to(result)
    result.unavailable += traffic.unavailable
    result.failed += traffic.cut + len(traffic.failures)
    result.violations += traffic.failures[:5]
    for words in ("password authentication failed", "certificate verify failed"):
        result.expect(words in log, f"the log does not say {words!r}")
    for words in (SECRET, "Traceback"):
        result.expect(words not in log, f"the log says {words!r}")
    result.goal(max(result.recoveries) <= 1.0, f"it took {max(result.recoveries):.2f} s to recover")
    return result


async def _suffer(result: Result, server: Guarded, web: WebServer, traffic: Load) -> None:
    """What is open goes on as if nothing had happened; when that is gone, there is nothing but 503."""
    result.rounds += 1
    unavailable, succeeded = traffic.unavailable, traffic.succeeded
    await asyncio.sleep(0.5)
    went_on = traffic.unavailable == unavailable and traffic.succeeded > succeeded
    # On a machine so busy that a check of an idle connection takes a second, that one is given up.
    result.goal(went_on, "a connection that was open did not go on")
    await server.end_connections()
    probe = Http(web.port)
    try:
        # Each worker notices by itself.
        async with asyncio.timeout(30):
            while True:
                healthy = (await probe.request("GET", "/api/v1/health")).status == 200
                if traffic.unavailable >= unavailable + 50 and not healthy:
                    break
                await asyncio.sleep(0.02)
        live = await probe.request("GET", "/api/v1/live")
        result.expect(live.status == 200, f"the live probe says {live.status}")
    finally:
        probe.close()


async def _recover(result: Result, server: Guarded, web: WebServer, traffic: Load) -> None:
    """Until somebody is served again, and then until each worker has as many connections as it keeps."""
    result.recoveries.append(await traffic.next_success())
    async with asyncio.timeout(30):
        while True:
            held = [Holdings.of(each, server.front.port, web.port).database for each in workers_of(web.process.pid)]
            # Some of these may be on their way.
            if min(held) >= POOL_MIN and await server.connections() >= sum(held):
                return
            await asyncio.sleep(0.02)


def _new_user(server: Guarded) -> UUID:
    user_id = uuid4()
    with psycopg.connect(server.postgres.dsn.conninfo) as connection:
        connection.execute("INSERT INTO users (id, email) VALUES (%s, %s)", [user_id, f"{user_id}@example.com"])
    return user_id
