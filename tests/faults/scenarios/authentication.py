"""A database that cannot prove its identity, or refuses the password. It is never used, and no password shows (D17)."""

import asyncio
import contextlib
from typing import NamedTuple

from persistence.postgres.dsn import Dsn
from persistence.postgres.options import DatabaseOptions, PoolLimits
from persistence.startup import RETRIES, StartupError, start
from tests.faults import pgbouncer
from tests.faults.certificates import Authority, Certificate
from tests.faults.clients import Load
from tests.faults.environment import HOST, POOL_MIN, Environment, environment, tls_url
from tests.faults.http import Http
from tests.faults.matrix import Result, Run, scenario
from tests.faults.pgbouncer import PgBouncer
from tests.support.servers import WebServer, manage

ROLE = "app"
SECRET = "hunter2"
"""A part of every password."""
OPTIONS = DatabaseOptions(limits=PoolLimits(min_size=1, max_size=2))
UNTRUSTED = ("certificate verify failed", "The TLS connection cannot be made or trusted")
MISNAMED = (f'does not match host name "{HOST}"', UNTRUSTED[1])
PLAINTEXT = ("server does not support SSL, but SSL was required", UNTRUSTED[1])
UNKNOWN = ("password authentication failed", "Check the user and the password in DATABASE_URL")


class Case(NamedTuple):
    """The certificate of the database, the password of the client, and the words of its error, if there must be one."""

    name: str
    certificate: Certificate | None
    password: str
    words: tuple[str, ...] = ()

    def check(self, result: Result, error: str, output: str) -> None:
        if not self.words:
            result.expect(not error, f"{self.name}, and yet: {error}")
        for words in self.words:
            # A line of JSON escapes quotes.
            said = words in error.replace('\\"', '"')
            result.expect(said, f"{self.name}: it does not say {words!r}: {error}")
        result.expect(SECRET not in output, f"{self.name}: the password shows: {output}")


@scenario(
    "wrong CA, expired certificate, wrong host name, plaintext server, wrong password",
    goal="refused, not ready, a reason without the password",
)
async def refused(run: Run, result: Result) -> None:
    authority, others = Authority(run.folder, "ours"), Authority(run.folder, "theirs")
    good, password = authority.sign("good", HOST), f"{SECRET}-first"
    cases = [
        Case("nothing wrong", good, password),
        Case("wrong CA", others.sign("strange", HOST), password, UNTRUSTED),
        Case("expired certificate", authority.sign("expired", HOST, days=-1), password, UNTRUSTED),
        Case("wrong host name", authority.sign("misnamed", "other.todo.test"), password, MISNAMED),
        Case("plaintext server", None, password, PLAINTEXT),
        Case("wrong password", good, f"{SECRET}-wrong", UNKNOWN),
    ]
    async with _tls_environment(run, result, authority, good) as env:
        for case in cases:
            env.proxy.certificate = case.certificate
            url = tls_url(ROLE, case.password, env.proxy.port)
            settings = {
                "ENVIRONMENT": "production",
                "AUTH_MODE": "trusted",
                "DATABASE_URL": url,
                "SSL_CERT_FILE": str(authority.file),
            }
            await _try_to_start(result, case, url, authority)
            if not run.quick or case.name in ("nothing wrong", "wrong CA", "wrong password"):
                await _run_dbhealth(result, case, settings)
            if not run.quick and case.words:
                await _run_gunicorn(run, result, case, settings)
        env.proxy.certificate = good
        if pgbouncer.available():
            for number, case in enumerate(cases[:4]):
                folder = run.folder / f"pgbouncer-{number}"
                with PgBouncer(folder, env.postgres.port, certificate=case.certificate) as bouncer:
                    await _try_to_start(result, case, tls_url("postgres", case.password, bouncer.port), authority)
        result.figures["also with PgBouncer's TLS"] = "yes" if pgbouncer.available() else "no: not installed"


def _tls_environment(
    run: Run, result: Result, authority: Authority, certificate: Certificate
) -> contextlib.AbstractAsyncContextManager[Environment]:
    settings = {"SSL_CERT_FILE": str(authority.file)}
    return environment(
        run, result, via="proxy", certificate=certificate, role=ROLE, password=f"{SECRET}-first", settings=settings
    )


async def _try_to_start(result: Result, case: Case, url: str, authority: Authority) -> None:
    """Starts as a server does, but with one attempt, and in this process."""
    result.rounds += 1
    error = ""
    try:
        # The trusted roots of a running process cannot be changed, so they are in the URL.
        dsn = Dsn.parse(f"{url}&sslrootcert={authority.file}")
        async with start(dsn, OPTIONS, retry=False) as database, database.connection() as connection:
            result.expect(connection.pgconn.ssl_in_use, f"{case.name}: it is connected without TLS")
    except StartupError as failure:
        error = str(failure)
    case.check(result, error, error)


async def _run_dbhealth(result: Result, case: Case, settings: dict[str, str]) -> None:
    result.rounds += 1
    done = await asyncio.to_thread(manage, "dbhealth", environment=settings)
    case.check(result, done.stderr, done.stdout + done.stderr)
    result.expect(case.words != () or "TLS" in done.stdout, f"{case.name}: it is connected without TLS")


async def _run_gunicorn(run: Run, result: Result, case: Case, settings: dict[str, str]) -> None:
    """Starts gunicorn, which tries for up to 30 seconds and exits."""
    result.rounds += 1
    web = WebServer(run.folder, settings, "--workers", "2")
    web.start()
    while web.process.poll() is None:
        with contextlib.suppress(OSError, TimeoutError):
            answer = await Http(web.port, timeout=1.0).request("GET", "/api/v1/health")
            result.expect(answer.status != 200, f"{case.name}: it reports that it is healthy")
        await asyncio.sleep(0.5)
    web.http.close()
    log = web.log
    result.expect(web.process.returncode > 0, f"{case.name}: gunicorn ended with {web.process.returncode}")
    result.expect(f"Attempt {RETRIES} of {RETRIES + 1}" in log, f"{case.name}: it did not try again:\n{log}")
    # Two workers that fail at once make gunicorn end in a traceback of its own.
    trace = log.partition("Traceback")[2].partition("HaltServer")[0]
    result.expect("todo" not in trace and "persistence" not in trace, f"{case.name}: a traceback in the log:\n{log}")
    case.check(result, log, log)


@scenario(
    "rotated password, a certificate that expires while running",
    goal="open connections go on; then 503, not ready, no password in any log; 200s within 1 s of the repair",
)
async def rotated(run: Run, result: Result) -> None:
    authority = Authority(run.folder, "ours")
    good, expired = authority.sign("good", HOST), authority.sign("expired", HOST, days=-1)
    async with _tls_environment(run, result, authority, good) as env:
        async with env.load(pause=0.01) as found:
            for _ in range(run.rounds(10, 1)):
                await _set_password(env, f"{SECRET}-second")
                await _fail(env, found)
                await _set_password(env, f"{SECRET}-first")
                await _recover(env, found)

                env.proxy.certificate = expired
                await _fail(env, found)
                env.proxy.certificate = good
                await _recover(env, found)
        env.expect_log_without(SECRET)
        for words in (UNKNOWN[0], UNTRUSTED[0]):
            result.expect(words in env.web.log, f"the log does not have {words!r}")
    result.goal(max(result.recoveries) <= 1.0, f"it took {max(result.recoveries):.2f} s to recover")


async def _set_password(env: Environment, password: str) -> None:
    async with env.administrator() as admin:
        await admin.execute(f"ALTER ROLE {ROLE} PASSWORD '{password}'")


async def _fail(env: Environment, found: Load) -> None:
    """Open connections must go on. When they are terminated, every response must be 503."""
    result = env.result
    result.rounds += 1
    unavailable, succeeded = found.unavailable, found.succeeded
    await asyncio.sleep(0.5)
    went_on = found.unavailable == unavailable and found.succeeded > succeeded
    # On a busy machine the check of an idle connection may take a second, after which the pool closes the connection.
    result.goal(went_on, "an open connection did not go on")
    async with env.administrator() as admin:
        await admin.terminate()
    probe = Http(env.web.port)
    try:
        # Each worker notices by itself.
        async with asyncio.timeout(30):
            while True:
                is_healthy = (await probe.request("GET", "/api/v1/health")).status == 200
                if found.unavailable >= unavailable + 50 and not is_healthy:
                    break
                await asyncio.sleep(0.02)
        live = await probe.request("GET", "/api/v1/live")
        result.expect(live.status == 200, f"the live probe got {live.status}")
    finally:
        probe.close()


async def _recover(env: Environment, found: Load) -> None:
    """Waits for a success, and then until each worker has as many connections as it keeps open."""
    env.result.recoveries.append(await found.next_success())
    async with asyncio.timeout(30), env.administrator() as admin:
        while True:
            open_now = [each.database for each in env.descriptors().values()]
            [(established,)] = await admin.query(f"SELECT count(*) FROM pg_stat_activity WHERE usename = '{ROLE}'")
            # Some of the sockets may still be connecting.
            if min(open_now) >= POOL_MIN and established >= sum(open_now):
                return
            await asyncio.sleep(0.02)
