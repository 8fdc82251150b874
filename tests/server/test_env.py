"""The environment: whatever is wrong with it stops the start at once, with one message that never tells a password."""

import ast
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import ValidationError

from config.env import EXAMPLES, Env, load
from tests.support.processes import clean_environment
from tests.support.servers import ROOT, copy_project

SECRET = "correct-horse-battery"
GOOD = {"DATABASE_URL": f"postgresql://app:{SECRET}@db.example.com/todo", "ENVIRONMENT": "production"}

type Load = Callable[..., Env]


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
def faults_of(load_from: Load) -> Callable[[dict[str, str]], str]:
    """The message that an environment is refused with."""

    def faults_of(variables: dict[str, str]) -> str:
        with pytest.raises(SystemExit) as stop:
            load_from(variables)
        assert stop.value.__cause__ is None
        assert stop.value.__context__ is None
        message = stop.value.code
        assert isinstance(message, str)
        return message

    return faults_of


# What the two programs say ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project without the `.env` that a developer has."""
    return copy_project(tmp_path_factory.mktemp("env") / "project")


BAD_ENVIRONMENTS = {
    "nothing": ({}, ["DATABASE_URL is missing", "ENVIRONMENT is missing"]),
    "no-url": ({"ENVIRONMENT": "production"}, ["DATABASE_URL is missing"]),
    "no-environment": ({"DATABASE_URL": GOOD["DATABASE_URL"]}, ["ENVIRONMENT is missing"]),
    "everything-bad": (
        {
            "DATABASE_URL": f"mysql://app:{SECRET}@db.example.com/todo",
            "ENVIRONMENT": "staging",
            "LOG_LEVEL": "loud",
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
        },
        [
            "DATABASE_URL cannot be used: it must start with one of postgresql://",
            "ENVIRONMENT cannot be 'staging': should be 'development' or 'production'",
            "LOG_LEVEL cannot be",
            "CORS_ORIGINS cannot be '*'",
            "AUTO_MIGRATE cannot be 'perhaps'",
            "DATABASE_POOL_MIN cannot be 'none'",
            "DATABASE_POOL_MAX cannot be '0'",
            "DATABASE_POOL_TIMEOUT cannot be '31'",
            "DATABASE_POOL_LIFETIME cannot be '-1'",
            "DATABASE_POOLER cannot be 'perhaps'",
            "DATABASE_CONNECT_TIMEOUT cannot be '0'",
            "REQUEST_TIMEOUT cannot be 'never'",
            "BODY_MAX_BYTES cannot be '1'",
        ],
    ),
    "password-with-special-characters": (
        GOOD | {"DATABASE_URL": f"postgresql://app:{SECRET}/#?@db.example.com/todo"},
        ["DATABASE_URL cannot be used", "%2F", "%23", "%3F"],
    ),
    "embedded-in-production": (
        GOOD | {"DATABASE_URL": "embedded://.postgres"},
        ["DATABASE_URL cannot be used: embedded:// is the development database and is refused in production"],
    ),
    "no-tls": (
        GOOD | {"DATABASE_URL": GOOD["DATABASE_URL"] + "?sslmode=disable"},
        ["DATABASE_URL cannot be used: sslmode=disable", "name the host in DATABASE_PRIVATE_HOSTS"],
    ),
}


@pytest.mark.parametrize(("variables", "faults"), BAD_ENVIRONMENTS.values(), ids=BAD_ENVIRONMENTS)
def test_a_bad_environment_stops_gunicorn_and_manage_py_with_one_message(
    variables: dict[str, str], faults: list[str], project: Path
) -> None:
    commands = (
        [sys.executable, "-m", "gunicorn", "-c", "python:config.gunicorn", "--bind", "127.0.0.1:0"],
        [sys.executable, "manage.py", "dbhealth"],
    )
    environment = clean_environment() | variables
    processes = [
        subprocess.Popen(
            command, cwd=project, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for command in commands
    ]
    outputs = [process.communicate(timeout=30) for process in processes]

    for process, (stdout, stderr) in zip(processes, outputs, strict=True):
        assert process.returncode == 1
        assert not stdout
        assert stderr.count("The environment cannot be used, so nothing was started:") == 1
        for fault in faults:
            assert fault in stderr
        named = {fault.split()[0] for fault in faults if fault.split()[0] in EXAMPLES}
        assert stderr.count("for example: ") == len(named)
        assert ".env.example" in stderr
        assert "Traceback" not in stderr
        assert SECRET not in stdout + stderr
    assert outputs[0] == outputs[1]


# What is refused -------------------------------------------------------------------------------------------------

UNUSABLE_URLS = [
    ("", "must start with"),
    (SECRET, "must start with"),
    (f"mysql://app:{SECRET}@db.example.com/todo", "must start with"),
    (f"postgresql+psycopg2://app:{SECRET}@db.example.com/todo", "must start with"),
    (f"postgresql:/app:{SECRET}@db.example.com/todo", "must start with"),
    (f"postgresql//app:{SECRET}@db.example.com/todo", "must start with"),
    (f"'postgresql://app:{SECRET}@db.example.com/todo'", "must start with"),
    (f"postgresql://app:{SECRET}@/todo", "names no host"),
    (f"postgresql://app:{SECRET}@db.example.com", "names no database"),
    (f"postgresql://app:{SECRET}@db.example.com/", "names no database"),
    (f"postgresql://app:{SECRET}@db.example.com:abc/todo", "port cannot be read"),
    (f"postgresql://app:{SECRET}@db.example.com:99999/todo", "port cannot be read"),
    (f"postgresql://app:{SECRET}@[db.example.com/todo", "host or port cannot be read"),
    (f"postgresql://app:{SECRET}#x@db.example.com/todo", "'#' as %23"),
    (f"postgresql://app:123#{SECRET}@db.example.com/todo", "%23"),
    (f"postgresql://app:{SECRET}/x@db.example.com/todo", "'/' as %2F"),
    (f"postgresql://app:123/{SECRET}@db.example.com/todo", "%2F"),
    (f"postgresql://app:{SECRET}?x@db.example.com/todo", "'?' as %3F"),
    (f"postgresql://app:123?{SECRET}@db.example.com/todo", "%3F"),
    (f"postgresql://app:{SECRET}[@db.example.com/todo", "cannot be read"),
    (f"postgresql://app:{SECRET}%00@db.example.com/todo", "NUL"),
    (f"postgresql://app:{SECRET}@db.example.com/todo?colour=red", "does not know"),
    (f"postgresql://app:{SECRET}@db.example.com/todo?sslmode=disable", "sslmode=disable"),
    (f"postgresql://app:{SECRET}@db.example.com/todo?sslmode=allow", "sslmode=allow"),
    (f"postgresql://app:{SECRET}@db.example.com/todo?sslmode=prefer", "sslmode=prefer"),
    (f"postgresql://app:{SECRET}@db.example.com/todo?ssl=disable", "sslmode=disable"),
    (f"postgresql://app:{SECRET}@db.example.com/todo?sslmode=verify", "sslmode is none of"),
    (f"postgresql://app:{SECRET}@localhost/todo?host=db.example.com&sslmode=disable", "db.example.com unencrypted"),
    (f"postgresql://app:{SECRET}@localhost/todo?hostaddr=192.0.2.1&sslmode=disable", "192.0.2.1 unencrypted"),
    (f"postgresql://app:{SECRET}@localhost,db.example.com/todo?sslmode=disable", "db.example.com unencrypted"),
    (f"postgresql://app:{SECRET}@localhost/todo?sslmode=verify", "sslmode is none of"),
    (f"postgresql://app:{SECRET}@localhost/todo?port=abc", "port"),
    ("embedded://.postgres", "refused in production"),
]


@pytest.mark.parametrize(("url", "reason"), UNUSABLE_URLS)
def test_an_unusable_url_is_refused_with_the_reason_and_without_the_url(
    url: str, reason: str, faults_of: Callable[[dict[str, str]], str]
) -> None:
    message = faults_of(GOOD | {"DATABASE_URL": url})

    assert f"DATABASE_URL cannot be used: {message.split('cannot be used: ')[1]}" in message
    assert reason in message
    assert message.count("for example:") == 1
    assert SECRET not in message


def test_an_embedded_database_needs_a_folder(faults_of: Callable[[dict[str, str]], str]) -> None:
    assert "no folder" in faults_of({"ENVIRONMENT": "development", "DATABASE_URL": "embedded://"})


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("ENVIRONMENT", ""),
        ("ENVIRONMENT", "test"),
        ("LOG_LEVEL", ""),
        ("LOG_LEVEL", "TRACE"),
        ("CORS_ORIGINS", "todo.example.com"),
        ("CORS_ORIGINS", "https://todo.example.com/"),
        ("CORS_ORIGINS", "https://todo.example.com,ftp://todo.example.com"),
        ("AUTO_MIGRATE", ""),
        ("DATABASE_POOLER", "maybe"),
        ("DATABASE_POOL_MIN", "0"),
        ("DATABASE_POOL_MIN", "21"),
        ("DATABASE_POOL_MAX", "101"),
        ("DATABASE_POOL_MAX", "2.5"),
        ("DATABASE_POOL_TIMEOUT", "0"),
        ("DATABASE_POOL_TIMEOUT", "30.1"),
        ("DATABASE_POOL_TIMEOUT", "nan"),
        ("DATABASE_POOL_LIFETIME", "nan"),
        ("DATABASE_CONNECT_TIMEOUT", "1"),
        ("DATABASE_CONNECT_TIMEOUT", "31"),
        ("REQUEST_TIMEOUT", "0"),
        ("REQUEST_TIMEOUT", "inf"),
        ("BODY_MAX_BYTES", "64k"),
    ],
)
def test_a_bad_value_is_refused_with_its_name_and_an_example(
    variable: str, value: str, faults_of: Callable[[dict[str, str]], str]
) -> None:
    message = faults_of(GOOD | {variable: value})

    assert f"  {variable} cannot be {value!r}: " in message
    assert f"      for example: {variable}={EXAMPLES[variable]}" in message
    assert message.count("for example:") == 1


def test_bytes_that_are_no_text_are_refused_readably(project: Path) -> None:
    process = subprocess.run(
        [sys.executable, "manage.py", "dbhealth"],
        cwd=project,
        env={name.encode(): value.encode() for name, value in (clean_environment() | GOOD).items()}
        | {b"DATABASE_URL": b"postgresql://app:\xff@db.example.com/todo", b"ENVIRONMENT": b"\xfe"},
        capture_output=True,
        check=False,
    )

    assert process.returncode == 1
    assert b"ENVIRONMENT cannot be" in process.stderr
    assert b"DATABASE_URL cannot be used" in process.stderr
    assert b"Traceback" not in process.stderr


def test_an_env_file_that_is_no_text_is_refused_readably(load_from: Load, tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_bytes(b"ENVIRONMENT=\xff\n")

    with pytest.raises(SystemExit, match=r"\.env is not UTF-8"):
        load_from({}, file)


def test_a_smaller_maximum_alone_is_enough_to_make_the_pool_smaller(load_from: Load) -> None:
    limits = load_from(GOOD | {"DATABASE_POOL_MAX": "3"}).database_options.limits

    assert limits.max_size == 3
    assert limits.min_size <= 3


# What is accepted ------------------------------------------------------------------------------------------------


def test_the_two_required_variables_are_enough(load_from: Load) -> None:
    env = load_from(GOOD)

    assert env.is_production
    assert env.cors_origins == ("http://localhost:3000",)
    assert (env.database_options.limits.min_size, env.database_options.limits.max_size) == (5, 20)
    assert (env.database_options.limits.timeout, env.database_options.limits.lifetime) == (30, 3600)


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+asyncpg", "postgresql+psycopg"])
def test_the_four_forms_of_the_url_mean_the_same(scheme: str, load_from: Load) -> None:
    url = f"{scheme}://app:{SECRET}@db.example.com/todo?options=project%3Dmine%20branch%3Ddev&channel_binding=require"
    with load_from(GOOD | {"DATABASE_URL": url}).located_database() as dsn:
        assert dsn.parameters | {"sslrootcert": ""} == {
            "host": "db.example.com",
            "user": "app",
            "password": SECRET,
            "dbname": "todo",
            "options": "project=mine branch=dev",
            "channel_binding": "require",
            "sslmode": "verify-full",
            "sslrootcert": "",
        }


@pytest.mark.parametrize(
    ("encoded", "password"), [("p%40ss", "p@ss"), ("p%2F%23%3F%25", "p/#?%"), ("p@ss:w", "p@ss:w")]
)
def test_special_characters_of_a_password_survive(encoded: str, password: str, load_from: Load) -> None:
    url = f"postgresql://app:{encoded}@db.example.com/todo"
    with load_from(GOOD | {"DATABASE_URL": url}).located_database() as dsn:
        assert dsn.parameters["password"] == password


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "127.1.2.3"])
@pytest.mark.parametrize("sslmode", ["disable", "prefer"])
def test_loopback_needs_no_tls(host: str, sslmode: str, load_from: Load) -> None:
    load_from(GOOD | {"DATABASE_URL": f"postgresql://app@{host}:5432/todo?sslmode={sslmode}"})


def test_a_host_named_private_needs_no_tls_and_only_that_one(
    load_from: Load, faults_of: Callable[[dict[str, str]], str]
) -> None:
    private = GOOD | {"DATABASE_PRIVATE_HOSTS": "db, cache"}

    load_from(private | {"DATABASE_URL": "postgresql://app@db/todo?sslmode=disable"})

    assert "sslmode=disable" in faults_of(private | {"DATABASE_URL": "postgresql://app@db2/todo?sslmode=disable"})


@pytest.mark.parametrize(
    ("value", "origins"),
    [
        ("https://a.example.com, http://localhost:5173", ("https://a.example.com", "http://localhost:5173")),
        ("https://a.example.com,", ("https://a.example.com",)),
        ("", ()),
    ],
)
def test_origins_are_separated_by_commas(value: str, origins: tuple[str, ...], load_from: Load) -> None:
    assert load_from(GOOD | {"CORS_ORIGINS": value}).cors_origins == origins


@pytest.mark.parametrize(
    ("variables", "level"),
    [
        ({"ENVIRONMENT": "development"}, "DEBUG"),
        ({"ENVIRONMENT": "production"}, "INFO"),
        ({"ENVIRONMENT": "development", "LOG_LEVEL": "warning"}, "WARNING"),
    ],
)
def test_the_log_level_follows_the_environment_unless_it_is_set(
    variables: dict[str, str], level: str, load_from: Load
) -> None:
    assert load_from(GOOD | variables).level == level


@pytest.mark.parametrize(
    ("environment", "auto", "migrates"),
    [("development", "false", True), ("production", "false", False), ("production", "true", True)],
)
def test_only_production_leaves_the_schema_alone_unless_told_otherwise(
    environment: str, auto: str, migrates: bool, load_from: Load
) -> None:
    assert load_from(GOOD | {"ENVIRONMENT": environment, "AUTO_MIGRATE": auto}).migrates_at_start is migrates


# .env ------------------------------------------------------------------------------------------------------------


def test_the_env_file_is_read_and_real_variables_win(load_from: Load, tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text(
        "# A comment.\nENVIRONMENT=development\nDATABASE_URL='postgresql://localhost/from_file'\n"
        "LOG_LEVEL=ERROR\nUNKNOWN_TO_US=1\n"
    )

    env = load_from({"DATABASE_URL": "postgresql://localhost/from_environment"}, file)

    assert env.environment == "development"
    assert env.level == "ERROR"
    with env.located_database() as dsn:
        assert dsn.database == "from_environment"


def test_it_is_frozen_and_its_repr_hides_the_url(load_from: Load) -> None:
    env = load_from(GOOD)

    with pytest.raises(ValidationError, match="frozen"):
        env.log_level = "DEBUG"  # type: ignore[misc] # mypy knows it, too
    assert SECRET not in repr(env) + str(env)
    assert "db.example.com" not in repr(env)


def test_every_variable_has_an_example_and_every_example_a_variable() -> None:
    assert set(EXAMPLES) == {name.upper() for name in Env.model_fields}


def test_every_example_can_be_used_as_shown(load_from: Load) -> None:
    load_from({name: example.split("  (")[0] for name, example in EXAMPLES.items()})


def test_the_example_file_loads_as_it_is_and_names_every_variable(load_from: Load, tmp_path: Path) -> None:
    text = (ROOT / ".env.example").read_text()
    assert load_from({}, ROOT / ".env.example").environment == "development"

    named = [line.removeprefix("# ").partition("=") for line in text.splitlines() if "=" in line.split(" ")[-1]]
    assert {name for name, _, _ in named if name.isupper()} == set(EXAMPLES)


def test_what_the_example_file_calls_defaults_are_the_defaults(load_from: Load, tmp_path: Path) -> None:
    text = (ROOT / ".env.example").read_text()
    required, _, optional = text.partition("# Optional, with their defaults:\n")
    everything = tmp_path / ".env"
    everything.write_text(required + "\n".join(line.removeprefix("# ") for line in optional.splitlines()))

    said, default = load_from({}, everything), load_from({}, ROOT / ".env.example")

    assert said.level == default.level
    # The example says in numbers what follows from DATABASE_POOL_MAX when nothing is said.
    derived = {"log_level", "database_pool_min"}
    assert said.model_dump(exclude=derived) == default.model_dump(exclude=derived)
    assert said.database_options == default.database_options


# One reader ------------------------------------------------------------------------------------------------------


def test_nothing_but_the_settings_reads_the_environment() -> None:
    found = set()
    for folder in ("config", "todos", "persistence", "migrations", "manage.py"):
        path = ROOT / folder
        for file in [path] if path.is_file() else path.rglob("*.py"):
            lines = file.read_text().splitlines()
            for node in ast.walk(ast.parse(file.read_text())):
                if isinstance(node, ast.Attribute | ast.ImportFrom) and _touches_environment(node):
                    found.add((str(file.relative_to(ROOT)), lines[node.lineno - 1].strip()))

    assert found == {
        # What Django's own manage.py writes, and what tells Django under gunicorn where its settings are.
        ("manage.py", 'os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")'),
        ("config/asgi.py", 'os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")'),
        # A message to libpq.
        ("persistence/postgres/database.py", 'os.environ["PGTZ"] = "UTC"'),
        # It reads the variables for the settings.
        ("config/env.py", "from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict"),
    }


def _touches_environment(node: ast.Attribute | ast.ImportFrom) -> bool:
    names = {"environ", "environb", "getenv", "getenvb", "putenv", "unsetenv"}
    match node:
        case ast.Attribute(value=ast.Name(id="os"), attr=attribute):
            return attribute in names
        case ast.ImportFrom(module="os", names=imported):
            return any(alias.name in names for alias in imported)
        case ast.ImportFrom(module="pydantic_settings" | "environ" | "decouple" | "dotenv"):
            return True
    return False
