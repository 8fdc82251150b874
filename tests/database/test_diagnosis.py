"""The diagnosis of a database that cannot be reached: each reason has its own hint, and none shows the password."""

import ssl
from uuid import uuid4

import psycopg
import pytest

from persistence.postgres.diagnosis import diagnose
from persistence.postgres.dsn import Dsn
from tests.support.databases import as_owner
from tests.support.processes import free_port
from tests.support.servers import PostgresServer

HINTS = {
    "time": "Nothing answered in time",
    "name": "The host name is unknown",
    "tls": "The TLS connection cannot be made or trusted",
    "password": "Check the user and the password in DATABASE_URL",
    "user": "There is no such user",
    "database": "Create the database, or check its name",
    "full": "The server has no connection left",
    "moment": "The server is starting or stopping",
    "refused": "No server listens there",
    "socket": "There is no such socket",
    "rights": "Run `manage.py grant_app` for the server's role, or set DATABASE_URL_DIRECT (docs/database.md, Rights).",
    "login": "The role may not log in",
    "other": "Check DATABASE_URL and its query parameters; docs/configuration.md explains them.",
}


def failure(dsn: Dsn, **parameters: str) -> psycopg.Error:
    with pytest.raises(psycopg.OperationalError) as failed:
        psycopg.connect(Dsn(dsn.parameters | parameters).conninfo, connect_timeout=30)
    return failed.value


def assert_hint(error: BaseException, hint: str, said: str) -> None:
    diagnosis = diagnose(error)
    assert diagnosis.hint.startswith(HINTS[hint])
    assert said in diagnosis.problem
    assert str(diagnosis) == f"{diagnosis.problem}. {diagnosis.hint}"
    assert "\n" not in str(diagnosis)
    assert "hunter2" not in str(diagnosis)


def test_a_missing_database_or_user(dsn: Dsn) -> None:
    assert_hint(failure(dsn, dbname="nowhere"), "database", 'database "nowhere" does not exist')
    assert_hint(failure(dsn, user="nobody-here", password="hunter2"), "user", 'role "nobody-here" does not exist')


def test_a_role_that_may_not_connect_or_log_in(migrated_dsn: Dsn) -> None:
    role = f"role_{uuid4().hex}"
    with psycopg.connect(as_owner(migrated_dsn).conninfo, autocommit=True) as admin:
        admin.execute(f"REVOKE CONNECT ON DATABASE {migrated_dsn.database} FROM PUBLIC".encode())
        admin.execute(f"CREATE ROLE {role} LOGIN".encode())
        assert_hint(failure(migrated_dsn, user=role), "rights", "permission denied for database")
        admin.execute(f"ALTER ROLE {role} NOLOGIN".encode())
        assert_hint(failure(migrated_dsn, user=role), "login", "is not permitted to log in")
        admin.execute(f"DROP ROLE {role}".encode())


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("options", "-c nonsense=1", "nonsense"),
        ("target_session_attrs", "standby", "standby"),
        ("gssencmode", "require", "GSSAPI"),
        ("service", "nonsense", "nonsense"),
    ],
)
def test_a_query_parameter_that_the_server_or_libpq_cannot_meet(name: str, value: str, said: str, dsn: Dsn) -> None:
    assert_hint(failure(dsn, **{name: value}), "other", said)


@pytest.mark.parametrize(
    ("url", "hint", "said"),
    [
        ("postgresql:///todo?host=/nonexistent", "socket", "No such file or directory"),
        ("postgresql://alice:hunter2@127.0.0.1:{port}/todo", "refused", "refused"),
        ("postgresql://alice:hunter2@localhost:{port}/todo", "refused", "refused"),
        # The domain `invalid` is reserved for never existing (RFC 6761).
        ("postgresql://alice:hunter2@todo.invalid/todo", "name", "todo.invalid"),
    ],
)
def test_an_address_without_a_server(url: str, hint: str, said: str) -> None:
    assert_hint(failure(Dsn.parse(url.format(port=free_port()))), hint, said)


def test_a_wrong_password_and_a_server_without_tls(postgres: PostgresServer) -> None:
    hba = postgres.folder / "data" / "pg_hba.conf"
    with psycopg.connect(as_owner(postgres.dsn).conninfo, autocommit=True) as admin:
        admin.execute("CREATE ROLE alice LOGIN PASSWORD 'secret'")
        hba.write_text("host all alice all scram-sha-256\nhost all postgres all trust\nlocal all all trust\n")
        admin.execute("SELECT pg_reload_conf()")
        wrong = failure(postgres.dsn, user="alice", password="hunter2")
        assert_hint(wrong, "password", 'password authentication failed for user "alice"')
        assert_hint(failure(postgres.dsn, user="alice"), "password", "no password supplied")
        assert_hint(failure(postgres.dsn, sslmode="require"), "tls", "SSL")
        assert_hint(failure(postgres.dsn, user="bob"), "other", "no pg_hba.conf entry")


@pytest.mark.parametrize(
    ("hint", "messages"),
    [
        ("time", ['connection to server at "10.0.0.1", port 5432 failed: Connection timed out']),
        ("name", ['could not translate host name "db" to address: Name or service not known']),
        ("name", ["[Errno -5] No address associated with hostname"]),
        ("tls", ["SSL error: certificate verify failed", 'server certificate for "a" does not match host name "b"']),
        ("full", ["FATAL:  sorry, too many clients already", 'FATAL:  too many connections for role "alice"']),
        ("full", ["FATAL:  remaining connection slots are reserved for roles with the SUPERUSER attribute"]),
        ("moment", [f"FATAL:  the database system is {state}" for state in ("starting up", "shutting down")]),
        ("moment", ["FATAL:  the database system is in recovery mode"]),
        ("other", ["something that is in no list"]),
    ],
)
def test_the_words_of_servers_and_networks(hint: str, messages: list[str]) -> None:
    for message in messages:
        assert_hint(psycopg.OperationalError(message), hint, message.rpartition(":")[2].strip())


def test_the_last_attempt_counts_and_the_advice_of_libpq_does_not() -> None:
    several = (
        "Multiple connection attempts failed. All failures were:\n"
        "- host: 'db', port: '5432', hostaddr: '10.0.0.1': connection failed: Network is unreachable\n"
        "- host: 'db', port: '5432', hostaddr: '10.0.0.2': connection failed: Connection refused."
    )
    advice = (
        'connection is bad: root certificate file "/x" does not exist\nEither provide the file, use the system\'s '
        "trusted roots with sslrootcert=system, or change sslmode to disable server certificate verification."
    )
    assert_hint(psycopg.OperationalError(several), "refused", "hostaddr: '10.0.0.2'")
    assert_hint(psycopg.OperationalError(advice), "tls", 'root certificate file "/x" does not exist')


@pytest.mark.parametrize(
    ("error", "hint", "said"),
    [
        (TimeoutError(), "time", "the connection timed out"),
        (psycopg.errors.ConnectionTimeout("connection timeout expired"), "time", "the connection timed out"),
        (OSError(), "other", "OSError"),
        (ssl.SSLError(1, "[SSL: NO_START_LINE] no start line"), "tls", "no start line"),
    ],
)
def test_an_error_that_says_little_is_named(error: Exception, hint: str, said: str) -> None:
    assert_hint(error, hint, said)
