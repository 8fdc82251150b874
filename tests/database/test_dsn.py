"""`DATABASE_URL`: every form means what its author meant, TLS is not optional, and no password is ever shown."""

import ssl
from dataclasses import replace
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
    ("reason", "urls"),
    [
        ("must start with one of postgresql://", ["", "todo", "mysql://localhost/todo", "postgresql:x/todo"]),
        ("a port is a number up to 65535", [":port/todo", ":99999/todo"]),
        ("host or port", [ "[::1/todo", f"alice:{PASSWORD}%ff@localhost/todo"]),
        ("names no database", ["localhost", "localhost/"]),
        ("names no host", ["/todo", "alice@/todo"]),
        ("'/' as %2F", [f"alice:{PASSWORD}/x@localhost/todo"]),
        ("before the last '@'", [f"alice:1/{PASSWORD}@localhost/todo", f"alice:1?{PASSWORD}@localhost/todo"]),
        ("it has a '#'", [f"alice:{PASSWORD}@localhost/todo#x"]),
        ("NUL", [f"alice:{PASSWORD}%00@localhost/todo"]),
        ("query parameter that libpq does not know", ["localhost/todo?pool_size=5"]),
        ("unencrypted", [f"alice:{PASSWORD}@{NEON}/todo?sslmode={mode}" for mode in ("disable", "allow", "prefer")]),
        ("unencrypted", [f"alice:{PASSWORD}@{NEON}/todo?ssl=disable"]),
        # A remote host cannot hide behind a local one.
        ("unencrypted", [f"localhost,{NEON}/todo?sslmode=disable", f"/todo?host=localhost,{NEON}&sslmode=disable"]),
        ("unencrypted", [f"localhost/todo?{name}=203.0.113.7&sslmode=disable" for name in ("host", "hostaddr")]),
        ("its sslmode is none of", [f"localhost/todo?sslmode={mode}" for mode in ("REQUIRE", "", "verify")]),
        ("its port is not a number up to", [f"/todo?host=/x&port={port}" for port in ("many", "99999", "²")]),
        ("not as many ports as hosts", ["/todo?host=a,b,c&port=1,2", "localhost/todo?port=1,2"]),
        ("space, a line break or a quote", ["localhost/todo ", "localhost/todo\n", "localhost/todo?sslmode=prefer'"]),
    ],
)  # fmt: skip
def test_it_refuses_a_malformed_url_and_says_why_without_the_password(reason: str, urls: list[str]) -> None:
    for url in urls:
        with pytest.raises(BadDatabaseUrl) as refusal:
            Dsn.parse(url if reason.startswith("must start") else f"postgresql://{url}")
        assert reason in str(refusal.value), url
        assert "hunter2" not in str(refusal.value)
        # A chained error of urllib or libpq would repeat the URL in a traceback.
        assert refusal.value.__cause__ is None
        assert refusal.value.__suppress_context__ or refusal.value.__context__ is None


def test_it_reads_what_is_percent_encoded_and_several_hosts() -> None:
    dsn = Dsn.parse("postgresql://al%40ice:p%40ss%3A%2F%3F%23%25w%20rd@localhost:5432,127.0.0.1:5433/to%20do")
    assert [dsn.parameters[name] for name in ("user", "password", "dbname")] == ["al@ice", "p@ss:/?#%w rd", "to do"]
    assert (dsn.host, dsn.parameters["port"]) == ("localhost,127.0.0.1", "5432,5433")
    assert conninfo_to_dict(dsn.conninfo) == dsn.parameters


@pytest.mark.parametrize("password", ["with:colon", "with@at", "with'quote", r"with\backslash", "mit ümlaut", "+plus+"])
def test_it_keeps_an_odd_password_as_it_is_and_never_shows_it(password: str) -> None:
    dsn = Dsn.parse(f"postgresql://alice:{password}@localhost:6432/todo")
    assert conninfo_to_dict(dsn.conninfo)["password"] == password
    assert str(dsn) == "alice@localhost:6432/todo"
    assert str(Dsn.parse("postgresql:///todo?host=/run/postgresql")) == "/run/postgresql/todo"
    assert repr(dsn) == "Dsn(alice@localhost:6432/todo)"
    assert password not in f"{dsn} {dsn!r} {[dsn]} {dsn.direct()!r}"


def test_what_the_settings_decide_is_not_passed_through() -> None:
    query = "client_encoding=LATIN1&connect_timeout=abc&application_name=mine"
    assert Dsn.parse(f"postgresql://localhost/todo?{query}") == Dsn.parse("postgresql://localhost/todo")


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


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.8.7.6", "[::1]:5432"])
@pytest.mark.parametrize(
    "socket", ["%2Fvar%2Frun%2Fpostgresql/todo?", "/todo?host=/run/postgresql&", "/todo?host=%40x&"]
)
def test_a_host_on_this_machine_needs_no_tls(host: str, socket: str) -> None:
    for address, is_socket in ((f"{host}/todo?", False), (socket, True)):
        dsn = Dsn.parse(f"postgresql://{address}")
        assert (dsn.parameters["sslmode"], dsn.is_socket) == ("prefer", is_socket)
        assert Dsn.parse(f"postgresql://{address}sslmode=disable").parameters["sslmode"] == "disable"


def test_the_folder_of_a_socket_keeps_its_case() -> None:
    assert Dsn.parse("postgresql://%2FRun%2FMy%2DFolder/todo").host == "/Run/My-Folder"
    assert Dsn.parse("postgresql://%2FA,db:5432/todo", {"db"}).parameters["host"] == "/A,db"


@pytest.mark.parametrize("sslmode", ["disable", "allow", "prefer"])
def test_a_host_named_as_private_may_go_without_tls(sslmode: str) -> None:
    assert Dsn.parse(f"postgresql://db/todo?sslmode={sslmode}", {"db"}).parameters["sslmode"] == sslmode
    assert Dsn.parse("postgresql://db/todo", {"DB"}).parameters["sslmode"] == "prefer"
    with pytest.raises(BadDatabaseUrl, match="DATABASE_PRIVATE_HOSTS"):
        Dsn.parse(f"postgresql://other/todo?sslmode={sslmode}", {"db"})


def test_it_finds_neons_pooler_and_the_way_around_it() -> None:
    pooled = Dsn.parse("postgresql://alice:pw@ep-cool-name-123-pooler.eu-central-1.aws.neon.tech/todo?sslmode=require")
    assert pooled.is_pooled
    assert not pooled.direct().is_pooled
    assert pooled.direct().parameters == pooled.parameters | {"host": NEON}
    assert not replace(pooled, behind_pooler=True).direct().is_pooled


@pytest.mark.parametrize("host", [NEON, "localhost", "db.my-pooler.example.com", "/run/a-pooler"])
def test_a_pooler_that_is_not_neons_is_known_only_if_it_is_said(host: str) -> None:
    url = f"postgresql:///todo?host={host}"
    dsn, pooled = Dsn.parse(url), Dsn.parse(url, behind_pooler=True)
    assert not dsn.is_pooled
    assert pooled.is_pooled
    # Such a pooler has no known way around it.
    assert (dsn.direct(), pooled.direct()) == (dsn, pooled)


def test_it_connects_as_written_and_to_another_database_on_the_same_server(dsn: Dsn) -> None:
    other = dsn.with_database("postgres")
    with psycopg.connect(dsn.conninfo) as first, psycopg.connect(other.conninfo) as second:
        assert first.info.dbname == dsn.database
        assert second.info.dbname == "postgres"
        assert other.parameters == dsn.parameters | {"dbname": "postgres"}


def test_a_url_of_several_hosts_is_one_of_each() -> None:
    dsn = Dsn.parse("postgresql://a:1,b,c:3/todo?sslmode=require")
    assert dsn.host_count == 3
    assert [str(dsn.at(number)) for number in range(3)] == ["a:1/todo", "b/todo", "c:3/todo"]
    assert str(dsn.at(2, 0)) == "c,a:3,1/todo"
    assert dsn.at(0, 1, 2) == dsn
    one_port = Dsn.parse("postgresql:///todo?host=/x,/y&port=6432")
    assert one_port.at(1).parameters == one_port.parameters | {"host": "/y"}
    assert Dsn.parse("postgresql://localhost/todo").at(0) == Dsn.parse("postgresql://localhost/todo")
