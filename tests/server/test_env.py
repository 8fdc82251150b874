"""The environment: a fault in it stops the start at once, with one message that never tells a password."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import ValidationError

from config.env import SECRETS, Env, load
from tests.support.processes import clean_environment
from tests.support.servers import ROOT, copy_project

SECRET = "correct-horse-battery"
URL = f"postgresql://app:{SECRET}@db.example.com/todo"
GOOD = {"DATABASE_URL": URL, "ENVIRONMENT": "production", "AUTH_MODE": "trusted"}
EXAMPLES: dict[str, str] = {name.upper(): (field.examples or [""])[0] for name, field in Env.model_fields.items()}
EXAMPLE_FILE = ROOT / ".env.example"

TOKENS = {
    "AUTH_MODE": "jwt",
    "AUTH_ISSUER": "https://todo.example.com",
    "AUTH_AUDIENCE": "https://todo.example.com",
    "AUTH_JWKS_URL": "https://todo.example.com/api/auth/jwks",
}
NOTHING_FAULTS = ["DATABASE_URL is missing", "ENVIRONMENT is missing"]
EVERYTHING_BAD = {
    "DATABASE_URL": f"mysql://app:{SECRET}@db.example.com/todo",
    "ENVIRONMENT": "staging",
    "LOG_LEVEL": "LOUD",
    "AUTH_MODE": "none",
    "AUTH_SUBJECT": "email",
    "AUTH_ALGORITHMS": "HS256",
    "AUTH_MAX_LIFETIME": "59",
    "CORS_ORIGINS": "*",
    "AUTO_MIGRATE": "perhaps",
    "DATABASE_POOL_MIN": "none",
    "DATABASE_POOL_MAX": "0",
    "DATABASE_POOL_TIMEOUT": "31",
    "DATABASE_POOL_LIFETIME": "-1",
    "DATABASE_POOLER": "perhaps",
    "DATABASE_CONNECT_TIMEOUT": "0",
    "REQUEST_TIMEOUT": "never",
    "BODY_MAX_BYTES": "1",
}
EVERYTHING_BAD_FAULTS = [
    "DATABASE_URL cannot be used: it must start with one of postgresql://",
    *(f"{name} cannot be {value!r}" for name, value in list(EVERYTHING_BAD.items())[1:]),
]
BAD_VALUES = {
    "ENVIRONMENT": ["", "test"],
    "LOG_LEVEL": ["", "TRACE"],
    "CORS_ORIGINS": [
        "todo.example.com", "https://todo.example.com/", "https://todo.example.com,ftp://todo.example.com"
    ],
    "AUTO_MIGRATE": [""],
    "AUTH_MODE": ["", "open", "jwt,open"],
    "AUTH_ISSUER": ["", "a b"],
    "AUTH_AUDIENCE": ["", "a b"],
    "AUTH_SUBJECT": ["", "uuid,derived"],
    "AUTH_ALGORITHMS": ["", "none", "EdDSA,HS512", "ES256K"],
    "AUTH_MAX_LIFETIME": ["2592001", "1h"],
    "DATABASE_POOL_MIN": ["0", "21"],
    "DATABASE_POOL_MAX": ["101", "2.5"],
    "DATABASE_POOL_TIMEOUT": ["0", "30.1", "nan"],
    "DATABASE_POOL_LIFETIME": ["nan"],
    "DATABASE_CONNECT_TIMEOUT": ["1", "31"],
    "REQUEST_TIMEOUT": ["0", "inf"],
    "BODY_MAX_BYTES": ["64k"],
    "METRICS_BIND": ["9464", ":9464", "127.0.0.1:65536", "unix:metrics.sock"],
    "USER_REQUESTS_PER_MINUTE": ["-1"],
    "USER_TASKS_MAX": ["100001"],
    "TRASH_DAYS": ["0", "3651"],
    "TOMBSTONE_DAYS": ["0", "1.5"],
    "SHUTDOWN_DELAY": ["61", "nan"],
}  # fmt: skip

type Load = Callable[..., Env]
type FaultsOf = Callable[[dict[str, str]], str]


@pytest.fixture
def load_from(monkeypatch: pytest.MonkeyPatch) -> Load:
    """Reads an environment of these variables only, and a `.env` only if one is given."""

    def load_from(variables: dict[str, str], env_file: Path | None = None) -> Env:
        for name in EXAMPLES:
            monkeypatch.delenv(name, raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        return load(_env_file=env_file)

    return load_from


@pytest.fixture
def faults_of(load_from: Load) -> FaultsOf:
    """The message that an environment is refused with."""

    def faults_of(variables: dict[str, str]) -> str:
        with pytest.raises(SystemExit) as stop:
            load_from(variables)
        # A chained error would be shown in a traceback, with the values.
        assert stop.value.__cause__ is None
        assert stop.value.__context__ is None
        assert isinstance(stop.value.code, str)
        return stop.value.code

    return faults_of


@pytest.mark.parametrize(
    ("variables", "faults"), [({}, NOTHING_FAULTS), (EVERYTHING_BAD, EVERYTHING_BAD_FAULTS)], ids=["nothing", "bad"]
)
def test_a_bad_environment_stops_gunicorn_and_manage_py_with_one_message(
    variables: dict[str, str], faults: list[str], tmp_path: Path
) -> None:
    # A developer's project has a `.env`.
    project, environment = copy_project(tmp_path / "project"), clean_environment() | variables
    commands = (["-m", "gunicorn", "-c", "python:config.gunicorn", "--bind", "127.0.0.1:0"], ["manage.py", "dbhealth"])
    ends = [
        subprocess.run(
            [sys.executable, *each], cwd=project, env=environment, capture_output=True, text=True, check=False
        )
        for each in commands
    ]

    message = ends[0].stderr
    assert [(end.returncode, end.stdout, end.stderr) for end in ends] == [(1, "", message)] * 2
    assert message.count("The environment cannot be used, so nothing was started:") == 1
    assert [fault for fault in faults if fault not in message] == []
    assert message.count("for example: ") == len(faults)
    assert ".env.example" in message
    assert "Traceback" not in message
    assert SECRET not in message


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("", "must start with"),
        (SECRET, "must start with"),
        (f"'{URL}'", "a quote before or after it"),
        (f" {URL}", "a space, a line break or a quote before"),
        (f"postgresql://app:{SECRET}/#?@db.example.com/todo", "'/' as %2F"),
        (f"postgresql://app:123#{SECRET}@db.example.com/todo", "%23"),
        (f"{URL}?sslmode=disable", "name the host in DATABASE_PRIVATE_HOSTS"),
        ("embedded://.postgres", "embedded:// is the development database and is refused in production"),
    ],
)
def test_an_unusable_url_is_refused_with_the_reason_and_without_the_url(
    url: str, reason: str, faults_of: FaultsOf
) -> None:
    # An empty direct one is the same as none.
    for name in ("DATABASE_URL", *["DATABASE_URL_DIRECT"] * bool(url)):
        message = faults_of(GOOD | {name: url})

        assert f"{name} cannot be used: " in message
        assert reason in message
        assert message.count("for example:") == 1
        assert SECRET not in message


@pytest.mark.parametrize(
    "url",
    [
        "", "todo.example.com/jwks", "http://todo.example.com/jwks", "file:///etc/passwd", "ftp://localhost/jwks",
        f"https://app:{SECRET}@todo.example.com/jwks", "http://8.8.8.8/jwks", "https:///jwks",
    ],
)  # fmt: skip
def test_keys_come_from_an_address_that_can_be_trusted_only(url: str, faults_of: FaultsOf) -> None:
    message = faults_of(GOOD | TOKENS | {"AUTH_JWKS_URL": url})

    assert "AUTH_JWKS_URL cannot be used: " in message
    assert message.count("for example:") == 1
    assert SECRET not in message


@pytest.mark.parametrize("host", ["localhost:3000", "127.0.0.1", "[::1]", "10.1.2.3", "auth", "auth.svc.cluster.local"])
def test_keys_may_come_unencrypted_from_a_private_host(host: str, load_from: Load) -> None:
    url = f"http://{host}/jwks"
    rules = load_from(GOOD | TOKENS | {"AUTH_JWKS_URL": url}).token_rules
    assert rules
    assert rules.jwks_url == url


@pytest.mark.parametrize("secret", SECRETS)
def test_a_secret_is_read_from_the_file_that_its_other_variable_names(
    secret: str, load_from: Load, tmp_path: Path
) -> None:
    name, file, value = secret.upper(), tmp_path / "secret", EXAMPLES[secret.upper()].split("  (")[0]
    rest = {each: text for each, text in GOOD.items() if each != name}
    for ending in ("", "\n", "\r\n"):
        file.write_bytes(value.encode() + ending.encode())

        assert getattr(load_from(rest | {f"{name}_FILE": str(file)}), secret) == value
    assert getattr(load_from(rest | {name: value, f"{name}_FILE": ""}), secret) == value


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "cannot be read: No such file or directory"),
        (b"", "is empty"),
        (b"\n", "is empty"),
        (f"{SECRET}\xff".encode("latin-1"), "is not UTF-8 text"),
    ],
)
def test_a_file_without_a_secret_is_one_of_the_faults(
    secret: str, content: bytes | None, reason: str, faults_of: FaultsOf, tmp_path: Path
) -> None:
    name, file = secret.upper(), tmp_path / SECRET
    if content is not None:
        file.write_bytes(content)
    rest = {each: text for each, text in GOOD.items() if each != name}

    message = faults_of(rest | {f"{name}_FILE": str(file), "LOG_LEVEL": "LOUD"})

    assert f"  {name} cannot be used: the file that {name}_FILE names {reason}\n" in message
    assert "LOG_LEVEL cannot be" in message
    # Somebody may have set the secret itself.
    assert SECRET not in message


@pytest.mark.parametrize("kind", ["pipe", "device", "folder", "large"])
def test_a_file_of_a_secret_that_might_hold_up_the_start_is_refused(
    kind: str, faults_of: FaultsOf, tmp_path: Path
) -> None:
    pipe, large = tmp_path / "pipe", tmp_path / "large"
    os.mkfifo(pipe)
    large.touch()
    # It is all hole.
    os.truncate(large, 2**30)
    file = {"pipe": pipe, "device": Path("/dev/null"), "folder": tmp_path, "large": large}[kind]

    message = faults_of({"ENVIRONMENT": "development", "DATABASE_URL_FILE": str(file)})

    assert "DATABASE_URL cannot be used: DATABASE_URL_FILE does not name a regular file of at most 65,536" in message


@pytest.mark.parametrize("secret", SECRETS)
def test_a_secret_in_a_variable_and_in_a_file_is_refused(secret: str, faults_of: FaultsOf) -> None:
    name = secret.upper()

    message = faults_of(GOOD | {name: SECRET, f"{name}_FILE": f"/{SECRET}"})

    assert f"  {name} cannot be used: {name}_FILE is set, too; keep one of the two\n" in message
    assert SECRET not in message


def test_what_a_file_holds_is_checked_as_strictly_and_not_repeated(faults_of: FaultsOf, tmp_path: Path) -> None:
    file = tmp_path / "database_url"
    file.write_text(f"mysql://app:{SECRET}@db.example.com/todo")

    message = faults_of({"ENVIRONMENT": "development", "DATABASE_URL_FILE": str(file)})

    assert "DATABASE_URL cannot be used: it must start with one of postgresql://" in message
    assert SECRET not in message


def test_an_embedded_database_needs_a_folder(faults_of: FaultsOf) -> None:
    assert "no folder" in faults_of({"ENVIRONMENT": "development", "DATABASE_URL": "embedded://"})


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in BAD_VALUES.items() for value in values])
def test_a_bad_value_is_refused_with_its_name_and_an_example(name: str, value: str, faults_of: FaultsOf) -> None:
    message = faults_of(GOOD | {name: value})

    assert f"  {name} cannot be {value!r}: " in message
    assert f"      for example: {name}={EXAMPLES[name]}" in message
    assert message.count("for example:") == 1


def test_a_key_that_can_be_guessed_is_refused_and_not_repeated(faults_of: FaultsOf) -> None:
    message = faults_of(GOOD | {"LOG_USER_KEY": "short-secret"})

    reason = "it has less than 16 characters; make one by `openssl rand -hex 32`"
    assert f"  LOG_USER_KEY cannot be used: {reason}" in message
    assert "short-secret" not in message


def test_bytes_that_are_not_text_are_refused_readably(load_from: Load, faults_of: FaultsOf, tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_bytes(b"ENVIRONMENT=\xff\n")

    with pytest.raises(SystemExit, match=r"\.env is not UTF-8"):
        load_from({}, file)

    # Python reads a byte of a variable that is not UTF-8 as half a surrogate pair.
    url, key = "postgresql://app:\udcff@db.example.com/todo", "\udcfd" * 16
    message = faults_of({"DATABASE_URL": url, "ENVIRONMENT": "\udcfe", "LOG_USER_KEY": key})
    assert r"ENVIRONMENT cannot be '\udcfe'" in message
    assert "DATABASE_URL cannot be used" in message
    assert "LOG_USER_KEY cannot be used: it is not UTF-8 text" in message


def test_the_two_required_variables_are_enough(load_from: Load) -> None:
    env, smaller = load_from(GOOD), load_from(GOOD | {"DATABASE_POOL_MAX": "3"})

    limits = env.database_options.limits
    assert env.cors_origins == ("http://localhost:3000",)
    assert (limits.min_size, limits.max_size, limits.timeout, limits.lifetime) == (5, 20, 30, 3600)
    assert (smaller.database_options.limits.min_size, smaller.database_options.limits.max_size) == (3, 3)


def test_the_url_is_read_with_the_settings_that_belong_to_it(load_from: Load) -> None:
    settings = {"DATABASE_PRIVATE_HOSTS": "db, cache", "DATABASE_POOLER": "true"}
    for host, is_pooled in (("db", False), ("cache", True)):
        env = load_from(
            GOOD | settings | {"DATABASE_URL": f"postgres://app@{host}/todo", "DATABASE_POOLER": str(is_pooled)}
        )
        with env.database_location.running() as dsn:
            assert (dsn.parameters["sslmode"], dsn.is_pooled) == ("prefer", is_pooled)


def test_the_direct_url_is_the_other_one_unless_it_is_set_and_leads_to_no_pooler(load_from: Load) -> None:
    pooled = GOOD | {"DATABASE_POOLER": "true", "DATABASE_PRIVATE_HOSTS": "db"}
    direct = load_from(pooled | {"DATABASE_URL_DIRECT": "postgresql://owner@db/todo"})

    assert load_from(pooled).database_location_direct == load_from(pooled).database_location
    with direct.database_location_direct.running() as dsn:
        assert (str(dsn), dsn.parameters["sslmode"], dsn.is_pooled) == ("owner@db/todo", "prefer", False)


@pytest.mark.parametrize(
    ("value", "origins"),
    [("https://a.example.com, http://localhost:5173,", ("https://a.example.com", "http://localhost:5173")), ("", ())],
)
def test_origins_are_separated_by_commas(value: str, origins: tuple[str, ...], load_from: Load) -> None:
    assert load_from(GOOD | {"CORS_ORIGINS": value}).cors_origins == origins


def test_production_has_to_be_told_who_may_call(faults_of: FaultsOf) -> None:
    production = {name: value for name, value in GOOD.items() if name != "AUTH_MODE"}

    assert "AUTH_MODE is missing: production needs to be told who may call" in faults_of(production)
    assert "AUTH_MODE cannot be 'open': everybody could" in faults_of(production | {"AUTH_MODE": "open"})


def test_development_is_open_unless_told_otherwise(load_from: Load) -> None:
    development = {"ENVIRONMENT": "development", "DATABASE_URL": URL}

    assert load_from(development).auth_mode == "open"
    assert load_from(development).token_rules is None
    assert load_from(development | TOKENS | {"AUTH_MODE": " JWT "}).token_rules


@pytest.mark.parametrize("name", ["AUTH_ISSUER", "AUTH_AUDIENCE", "AUTH_JWKS_URL"])
def test_tokens_need_an_issuer_an_audience_and_the_address_of_keys(
    name: str, faults_of: FaultsOf, load_from: Load
) -> None:
    rest = {each: value for each, value in (GOOD | TOKENS).items() if each != name}

    assert f"{name} is missing: AUTH_MODE=jwt needs it" in faults_of(rest)
    assert load_from(rest | {"AUTH_MODE": "trusted"}).token_rules is None


def test_an_authorized_party_stands_in_for_an_audience(load_from: Load) -> None:
    parties = {"AUTH_AUTHORIZED_PARTY": "https://a.example.com, https://b.example.com"}
    rest = {each: value for each, value in (GOOD | TOKENS | parties).items() if each != "AUTH_AUDIENCE"}
    rules = load_from(rest).token_rules

    assert rules
    assert rules.audience is None
    assert rules.authorized_parties == ("https://a.example.com", "https://b.example.com")


@pytest.mark.parametrize(
    ("variables", "level", "logs_sql", "migrates"),
    [
        ({"ENVIRONMENT": "development"}, "DEBUG", True, True),
        ({"ENVIRONMENT": "production", "AUTH_MODE": "trusted"}, "INFO", False, False),
        ({"ENVIRONMENT": " Development ", "LOG_LEVEL": "warning"}, "WARNING", True, True),
        ({"ENVIRONMENT": "production", "AUTH_MODE": "trusted", "AUTO_MIGRATE": "true"}, "INFO", False, True),
    ],
)
def test_logs_and_migrations_follow_the_environment_unless_they_are_set(
    variables: dict[str, str], level: str, logs_sql: bool, migrates: bool, load_from: Load
) -> None:
    env = load_from(GOOD | variables)

    assert (env.level, env.database_options.log_sql, env.migrates_at_start) == (level, logs_sql, migrates)


def test_the_env_file_is_read_and_real_variables_win(load_from: Load, tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text(f"# A comment.\nENVIRONMENT='development'\nDATABASE_URL={URL}\nLOG_LEVEL=ERROR\nUNKNOWN_TO_US=1\n")

    env = load_from({"DATABASE_URL": "postgresql://localhost/from_environment"}, file)

    assert (env.environment, env.level) == ("development", "ERROR")
    assert env.database_url == "postgresql://localhost/from_environment"


def test_it_is_frozen_and_its_repr_hides_the_url(load_from: Load) -> None:
    env = load_from(GOOD)

    with pytest.raises(ValidationError, match="frozen"):
        env.log_level = "DEBUG"  # type: ignore[misc] # mypy knows it, too
    assert "db.example.com" not in f"{env!r} {env} {env.database_location!r}"


def test_every_example_can_be_used_as_shown(load_from: Load) -> None:
    assert all(EXAMPLES.values())

    # Of a secret and its file only one can be set, and the files are not here.
    files = {f"{secret.upper()}_FILE" for secret in SECRETS}
    load_from({name: example.split("  (")[0] for name, example in EXAMPLES.items() if name not in files})


def test_the_example_file_loads_names_every_variable_and_has_the_defaults(load_from: Load, tmp_path: Path) -> None:
    text, everything = EXAMPLE_FILE.read_text(), tmp_path / ".env"
    named = [line.removeprefix("# ").partition("=")[0] for line in text.splitlines() if "=" in line.split(" ")[-1]]
    required, _, optional = text.partition("# Optional, with their defaults:\n")
    everything.write_text(required + "\n".join(line.removeprefix("# ") for line in optional.splitlines()))

    said, default = load_from({}, everything), load_from({}, EXAMPLE_FILE)

    assert {name for name in named if name.isupper()} == set(EXAMPLES)
    assert (said.level, said.database_options) == (default.level, default.database_options)
    # The example has values for settings that otherwise follow from other settings.
    derived = {"log_level", "database_pool_min"}
    assert said.model_dump(exclude=derived) == default.model_dump(exclude=derived)


def test_nothing_but_the_settings_reads_the_environment() -> None:
    folders = ("config", "server", "web", "todos", "persistence", "identity", "migrations")
    files = [ROOT / "manage.py", *(file for folder in folders for file in (ROOT / folder).rglob("*.py"))]
    reads = re.compile(r"\b(environb?|getenvb?|putenv|unsetenv)\b|^(import|from) (pydantic_settings|decouple|dotenv)\b")

    lines = {(str(file.relative_to(ROOT)), line.strip()) for file in files for line in file.read_text().splitlines()}

    assert {(file, line) for file, line in lines if reads.search(line)} == {
        # Django's own manage.py has this line, and under gunicorn it tells Django where its settings are.
        ("manage.py", 'os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")'),
        ("config/asgi.py", 'os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")'),
        # libpq is kept from reading its own variables.
        ("persistence/postgres/libpq.py", 'for name in [name for name in os.environ if name.startswith("PG")]:'),
        ("persistence/postgres/libpq.py", "del os.environ[name]"),
        ("persistence/postgres/libpq.py", "os.environ.update(_SENT)"),
        ("config/env.py", "from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict"),
    }
