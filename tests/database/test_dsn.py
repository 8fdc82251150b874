"""`DATABASE_URL`: every form means what its author meant, TLS is not optional, and no password is ever shown."""

import ssl
from pathlib import Path

import certifi
import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from persistence.postgres.dsn import EXAMPLE, SCHEMES, BadDatabaseUrl, Dsn

NEON = "ep-cool-name-123.eu-central-1.aws.neon.tech"
PASSWORD = "s3cret-hunter2"


def test_all_four_schemes_mean_the_same() -> None:
    parameters = {"host": "localhost", "port": "6432", "user": "alice", "password": PASSWORD, "dbname": "todo"}

    assert SCHEMES == ("postgresql", "postgres", "postgresql+asyncpg", "postgresql+psycopg")
    for scheme in SCHEMES:
        dsn = Dsn.parse(f"{scheme}://alice:{PASSWORD}@localhost:6432/todo")
        assert dsn.parameters == parameters | {"sslmode": "prefer"}
    assert Dsn.parse(EXAMPLE).parameters["sslmode"] == "verify-full"


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("", "must start with one of postgresql://"),
        ("todo", "must start with one of"),
        ("mysql://localhost/todo", "must start with one of"),
        ("sqlite:///todo.db", "must start with one of"),
        ("postgresql:localhost/todo", "must start with one of"),
        ("postgresql://localhost:port/todo", "host or port cannot be read"),
        ("postgresql://localhost:99999/todo", "host or port cannot be read"),
        ("postgresql://[::1/todo", "host or port cannot be read"),
        ("postgresql://localhost", "names no database"),
        ("postgresql://localhost/", "names no database"),
        ("postgresql:///todo", "names no host"),
        ("postgresql://alice@/todo", "names no host"),
        (f"postgresql://alice:{PASSWORD}/x@localhost/todo", "'/' as %2F"),
        (f"postgresql://alice:1/{PASSWORD}@localhost/todo", "'/' or '?' before the last '@'"),
        (f"postgresql://alice:1?{PASSWORD}@localhost/todo", "'/' or '?' before the last '@'"),
        (f"postgresql://alice:{PASSWORD}@localhost/todo#x", "it has a '#'"),
        (f"postgresql://alice:{PASSWORD}%00@localhost/todo", "NUL"),
        (f"postgresql://alice:{PASSWORD}%ff@localhost/todo", "host or port cannot be read"),
        ("postgresql://localhost/todo?pool_size=5", "query parameter that libpq does not know"),
        (f"postgresql://alice:{PASSWORD}@{NEON}/todo?sslmode=disable", "unencrypted"),
        (f"postgresql://alice:{PASSWORD}@{NEON}/todo?sslmode=allow", "unencrypted"),
        (f"postgresql://alice:{PASSWORD}@{NEON}/todo?sslmode=prefer", "unencrypted"),
        (f"postgresql://alice:{PASSWORD}@{NEON}/todo?sslmode=REQUIRE", "its sslmode is none of"),
        (f"postgresql://alice:{PASSWORD}@{NEON}/todo?sslmode=", "its sslmode is none of"),
        (f"postgresql://alice:{PASSWORD}@{NEON}/todo?ssl=disable", "unencrypted"),
        ("postgresql://localhost/todo?sslmode=verify", "its sslmode is none of"),
        ("postgresql:///todo?host=/run/postgresql&port=many", "its port is not a number"),
    ],
)
def test_it_refuses_a_malformed_url_and_says_why_without_the_password(url: str, reason: str) -> None:
    with pytest.raises(BadDatabaseUrl) as refusal:
        Dsn.parse(url)

    assert reason in str(refusal.value)
    assert "hunter2" not in str(refusal.value)
    # A chained error of urllib or libpq would repeat the URL in a traceback.
    assert refusal.value.__cause__ is None
    assert refusal.value.__suppress_context__ or refusal.value.__context__ is None


def test_it_reads_what_is_percent_encoded() -> None:
    dsn = Dsn.parse("postgresql://al%40ice:p%40ss%3A%2F%3F%23%25w%20rd@localhost/to%20do")

    assert [dsn.parameters[name] for name in ("user", "password", "dbname")] == ["al@ice", "p@ss:/?#%w rd", "to do"]
    assert conninfo_to_dict(dsn.conninfo) == dsn.parameters


@pytest.mark.parametrize("password", ["with:colon", "with@at", "with'quote", r"with\backslash", "mit ümlaut", "+plus+"])
def test_it_keeps_an_odd_password_as_it_is_and_never_shows_it(password: str) -> None:
    dsn = Dsn.parse(f"postgresql://alice:{password}@localhost:6432/todo")

    assert conninfo_to_dict(dsn.conninfo)["password"] == password
    assert str(dsn) == "alice@localhost:6432/todo"
    assert repr(dsn) == "Dsn(alice@localhost:6432/todo)"
    assert password not in f"{dsn} {dsn!r} {[dsn]} {dsn.direct()!r}"


def test_it_passes_neons_parameters_through() -> None:
    dsn = Dsn.parse(
        f"postgresql://alice:{PASSWORD}@{NEON}/todo?sslmode=require&channel_binding=require"
        "&options=project%3Dcool-name-123%20branch%3Ddev"
    )

    assert dsn.parameters["sslmode"] == "require"
    assert dsn.parameters["channel_binding"] == "require"
    assert dsn.parameters["options"] == "project=cool-name-123 branch=dev"
    assert dsn.neon_branch == "dev"
    # asyncpg has another word for sslmode.
    assert Dsn.parse(f"postgresql+asyncpg://{NEON}/todo?ssl=require").parameters["sslmode"] == "require"
    assert Dsn.parse(f"postgresql://{NEON}/todo").neon_branch is None
    assert Dsn.parse(f"postgresql://{NEON}/todo?options=-c%20search_path%3Dx").neon_branch is None


@pytest.mark.parametrize("host", [NEON, "10.0.0.7", "192.168.1.5", "db", "localhost.example.com", "[2001:db8::1]"])
def test_a_remote_host_is_verified_unless_the_url_says_otherwise(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # A variable of libpq has no say.
    monkeypatch.setenv("PGSSLMODE", "disable")
    parameters = Dsn.parse(f"postgresql://{host}/todo").parameters

    assert parameters["sslmode"] == "verify-full"
    assert Path(parameters["sslrootcert"]).is_file()


def test_the_roots_are_those_of_the_url_or_of_the_system_or_certifis(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def roots(query: str = "") -> str:
        return Dsn.parse(f"postgresql://{NEON}/todo{query}").parameters["sslrootcert"]

    for query in ("", "?sslrootcert=system", "?sslmode=verify-ca"):
        assert ssl.create_default_context(cafile=roots(query)).get_ca_certs()
    # A company may add its own to the system's.
    system = tmp_path / "roots.pem"
    system.write_text(Path(certifi.where()).read_text())
    monkeypatch.setenv("SSL_CERT_FILE", str(system))
    assert roots("?sslrootcert=/etc/my-ca.pem") == "/etc/my-ca.pem"
    assert roots() == str(system)
    monkeypatch.setenv("SSL_CERT_FILE", "/nonexistent.pem")
    assert roots() == certifi.where()


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://localhost/todo",
        "postgresql://127.0.0.1/todo",
        "postgresql://127.8.7.6/todo",
        "postgresql://[::1]:5432/todo",
        "postgresql:///todo?host=/var/run/postgresql",
        "postgresql://%2Fvar%2Frun%2Fpostgresql/todo",
        "postgresql:///todo?host=%40abstract",
    ],
)
def test_a_host_on_this_machine_needs_no_tls(url: str) -> None:
    assert Dsn.parse(url).parameters["sslmode"] == "prefer"
    disabled = f"{url}{'&' if '?' in url else '?'}sslmode=disable"
    assert Dsn.parse(disabled).parameters["sslmode"] == "disable"


@pytest.mark.parametrize("sslmode", ["disable", "allow", "prefer"])
def test_a_host_named_as_private_may_go_without_tls(sslmode: str) -> None:
    assert Dsn.parse(f"postgresql://db/todo?sslmode={sslmode}", {"db"}).parameters["sslmode"] == sslmode
    assert Dsn.parse("postgresql://db/todo", {"db"}).parameters["sslmode"] == "prefer"

    with pytest.raises(BadDatabaseUrl, match="DATABASE_PRIVATE_HOSTS"):
        Dsn.parse(f"postgresql://other/todo?sslmode={sslmode}", {"db"})


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://localhost,{NEON}/todo?sslmode=disable",
        f"postgresql:///todo?host=localhost,{NEON}&sslmode=disable",
        f"postgresql://localhost/todo?host={NEON}&sslmode=disable",
        "postgresql://localhost/todo?hostaddr=203.0.113.7&sslmode=disable",
    ],
)
def test_a_remote_host_cannot_hide_behind_a_local_one(url: str) -> None:
    with pytest.raises(BadDatabaseUrl, match="unencrypted"):
        Dsn.parse(url)


def test_it_reads_several_hosts_with_their_ports() -> None:
    parameters = Dsn.parse("postgresql://alice@localhost:5432,127.0.0.1:5433/todo").parameters

    assert (parameters["host"], parameters["port"]) == ("localhost,127.0.0.1", "5432,5433")


def test_a_socket_is_told_from_a_host() -> None:
    socket = Dsn.parse("postgresql:///todo?host=/run/postgresql")

    assert socket.is_socket
    assert str(socket) == "/run/postgresql/todo"
    assert not Dsn.parse("postgresql://localhost/todo").is_socket


def test_it_finds_neons_pooler_and_the_way_around_it() -> None:
    pooled = Dsn.parse("postgresql://alice:pw@ep-cool-name-123-pooler.eu-central-1.aws.neon.tech/todo?sslmode=require")

    assert pooled.is_pooled
    assert not pooled.direct().is_pooled
    assert pooled.direct().parameters == pooled.parameters | {"host": NEON}


@pytest.mark.parametrize("host", [NEON, "localhost", "db.my-pooler.example.com", "/run/a-pooler"])
def test_a_pooler_that_is_not_neons_is_known_only_if_it_is_said(host: str) -> None:
    url = f"postgresql:///todo?host={host}"
    dsn, pooled = Dsn.parse(url), Dsn.parse(url, behind_pooler=True)

    assert not dsn.is_pooled
    assert pooled.is_pooled
    # It has no way around it.
    assert (dsn.direct(), pooled.direct()) == (dsn, pooled)


def test_it_finds_another_database_on_the_same_server() -> None:
    other = Dsn.parse(f"postgresql://alice:{PASSWORD}@localhost/todo").with_database("other")

    assert (other.database, other.host) == ("other", "localhost")
    assert other.parameters["password"] == PASSWORD


def test_it_connects_as_written(dsn: Dsn) -> None:
    with psycopg.connect(dsn.conninfo) as connection:
        assert connection.info.dbname == dsn.database
