"""The environment: read here once, checked whole, and frozen; nothing else reads it (D15).

Real variables win over `.env` beside `manage.py`. Every fault is reported at once, and the process stops.
"""

import re
import stat
from hashlib import blake2b
from pathlib import Path
from secrets import token_hex
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationError, ValidationInfo, field_validator
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from identity.options import TokenRules, check_algorithms, check_jwks_url
from persistence.location import EMBEDDED, DatabaseLocation
from persistence.postgres.dsn import EXAMPLE, PORT_MAX
from persistence.postgres.options import DatabaseOptions, PoolLimits

ROOT = Path(__file__).resolve().parent.parent
DEFAULT_POOL_MIN = 5
KEY_MIN_LENGTH = 16
"""Characters without which a key, and so the user of a hash in the log, could be guessed."""
# The master makes it, so that all its workers have the same one.
_RANDOM_KEY = token_hex(32)
SECRETS = ("database_url", "database_url_direct", "log_user_key")
"""Fields whose values are never repeated. Each has a field `<name>_file` before it, whose file may hold the value."""
SECRET_FILE_MAX = 64 * 1024
"""Bytes of such a file."""


def _split(value: Any) -> Any:
    """Splits `a, b` as it stands in a variable; pydantic-settings would expect JSON."""
    return [item.strip() for item in value.split(",") if item.strip()] if isinstance(value, str) else value


type _AuthMode = Literal["jwt", "trusted", "open"]
type _Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]
_EMPTY_IS_NONE = BeforeValidator(lambda value: value or None)
type _Text = Annotated[str | None, _EMPTY_IS_NONE]
type _SecretFile = Annotated[Path | None, _EMPTY_IS_NONE]


class Env(BaseSettings):
    """Every setting with an example, by the name of its variable in lower case; `docs/configuration.md` explains each.

    Fields that others are checked against come before them.
    """

    model_config = SettingsConfigDict(frozen=True, env_file=ROOT / ".env", env_file_encoding="utf-8", extra="ignore")

    environment: Literal["development", "production"] = Field(examples=["development  (or production)"])
    database_private_hosts: _Names = Field((), examples=["db,postgres"])
    database_url_file: _SecretFile = Field(None, repr=False, examples=["/run/secrets/database_url"])
    database_url: str = Field(
        None, validate_default=True, repr=False, examples=[f"{EXAMPLE}  (or {EMBEDDED}.postgres in development)"]
    )
    database_url_direct_file: _SecretFile = Field(None, repr=False, examples=["/run/secrets/database_url_direct"])
    database_url_direct: _Text = Field(None, validate_default=True, repr=False, examples=[EXAMPLE])
    database_pooler: bool = Field(default=False, examples=["true"])
    database_pool_max: int = Field(20, ge=1, le=100, examples=["20"])
    database_pool_min: int | None = Field(None, ge=1, le=100, examples=["5"])
    database_pool_timeout: float = Field(30, gt=0, le=30, examples=["30  (seconds)"])
    database_pool_lifetime: float = Field(3600, ge=1, examples=["3600  (seconds)"])
    database_connect_timeout: int = Field(5, ge=2, le=30, examples=["5  (seconds)"])
    auto_migrate: bool = Field(default=False, examples=["true"])
    auth_mode: _AuthMode | None = Field(
        None, validate_default=True, examples=["jwt  (or trusted; open in development)"]
    )
    auth_issuer: str | None = Field(None, validate_default=True, examples=["https://todo.example.com"])
    auth_jwks_url: str | None = Field(None, validate_default=True, examples=["https://todo.example.com/api/auth/jwks"])
    auth_authorized_party: _Names = Field((), examples=["https://todo.example.com  (for issuers without aud)"])
    auth_audience: str | None = Field(None, validate_default=True, examples=["https://todo.example.com"])
    auth_subject: Literal["uuid", "derived"] = Field("uuid", examples=["uuid  (or derived)"])
    auth_algorithms: _Names = Field(("EdDSA", "ES256", "RS256"), examples=["EdDSA,ES256,RS256"])
    auth_max_lifetime: int = Field(24 * 3600, ge=60, le=30 * 24 * 3600, examples=["86400  (seconds)"])
    cors_origins: _Names = Field(
        ("http://localhost:3000",), examples=["http://localhost:3000,https://todo.example.com"]
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] | None = Field(
        None, examples=["INFO  (or DEBUG, WARNING, ERROR)"]
    )
    log_user_key_file: _SecretFile = Field(None, repr=False, examples=["/run/secrets/log_user_key"])
    log_user_key: _Text = Field(None, validate_default=True, repr=False, examples=["a long random text"])
    no_color: _Text = Field(None, examples=["1"])
    metrics_bind: _Text = Field(None, examples=["127.0.0.1:9464  (or unix:/run/todo/metrics.sock)"])
    request_timeout: float = Field(5, gt=0, le=60, examples=["5  (seconds)"])
    body_max_bytes: int = Field(64 * 1024, ge=16 * 1024, le=1024 * 1024, examples=["65536"])
    user_requests_per_minute: int = Field(0, ge=0, le=1_000_000, examples=["600"])
    user_tasks_max: int = Field(0, ge=0, le=100_000, examples=["10000"])
    trash_days: int = Field(30, ge=1, le=3650, examples=["30  (days)"])
    tombstone_days: int = Field(90, ge=1, le=3650, examples=["90  (days)"])
    shutdown_delay: float = Field(0, ge=0, le=60, examples=["10  (seconds)"])

    @field_validator("environment", "log_level", "auth_mode", "auth_subject", mode="before")
    @classmethod
    def _ignore_case(cls, value: Any, info: ValidationInfo) -> Any:
        if not isinstance(value, str):
            return value
        return value.strip().upper() if info.field_name == "log_level" else value.strip().lower()

    @field_validator(*SECRETS, mode="before")
    @classmethod
    def _read_secret(cls, value: Any, info: ValidationInfo) -> Any:
        name = f"{info.field_name}_file"
        file = info.data.get(name)
        if file is None:
            return value
        if value is not None:
            raise ValueError(f"{name.upper()} is set, too; keep one of the two")
        try:
            # A pipe without a writer would hold up the start, and a device may have no end.
            if not stat.S_ISREG((found := file.stat()).st_mode) or found.st_size > SECRET_FILE_MAX:
                raise ValueError(f"{name.upper()} does not name a regular file of at most {SECRET_FILE_MAX:,} bytes")
            secret = file.read_text("utf-8").removesuffix("\n")
        except OSError as error:
            raise ValueError(f"the file that {name.upper()} names cannot be read: {error.strerror}") from None
        except UnicodeDecodeError:
            raise ValueError(f"the file that {name.upper()} names is not UTF-8 text") from None
        if not secret:
            raise ValueError(f"the file that {name.upper()} names is empty")
        return secret

    @field_validator("database_url", "database_url_direct")
    @classmethod
    def _check_database_url(cls, url: str | None, info: ValidationInfo) -> str | None:
        if url is None:
            return None
        if url.startswith(EMBEDDED) and info.data.get("environment") == "production":
            raise ValueError(f"{EMBEDDED} is the development database and is refused in production")
        DatabaseLocation(url, info.data.get("database_private_hosts", ())).check()
        return url

    @field_validator("database_pool_min")
    @classmethod
    def _check_pool(cls, smallest: int | None, info: ValidationInfo) -> int | None:
        if smallest is not None and smallest > info.data.get("database_pool_max", smallest):
            raise ValueError("it is larger than DATABASE_POOL_MAX")
        return smallest

    @field_validator("auth_mode")
    @classmethod
    def _check_auth_mode(cls, mode: _AuthMode | None, info: ValidationInfo) -> _AuthMode | None:
        if info.data.get("environment") != "production":
            return mode or "open"
        if mode is None:
            raise ValueError("production needs to be told who may call")
        if mode == "open":
            raise ValueError("everybody could read and change all tasks, so it is for development only")
        return mode

    @field_validator("auth_issuer", "auth_jwks_url", "auth_audience")
    @classmethod
    def _check_for_tokens(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is not None and not re.fullmatch(r"\S+", value):
            raise ValueError("it is empty or has space in it")
        if value is None and info.data.get("auth_mode") == "jwt":
            if info.field_name != "auth_audience":
                raise ValueError("AUTH_MODE=jwt needs it")
            if info.data.get("auth_authorized_party") == ():
                raise ValueError("AUTH_MODE=jwt needs it, or AUTH_AUTHORIZED_PARTY if the issuer sets no audience")
        return value

    @field_validator("auth_jwks_url")
    @classmethod
    def _check_jwks_url(cls, url: str | None) -> str | None:
        if url is not None:
            check_jwks_url(url)
        return url

    @field_validator("auth_algorithms")
    @classmethod
    def _check_algorithms(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        check_algorithms(names)
        return names

    @field_validator("cors_origins")
    @classmethod
    def _check_origins(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        for origin in origins:
            if not re.fullmatch(r"https?://[^/\s?#*@]+", origin):
                raise ValueError(f"{origin!r} is not an origin; write scheme, host and port, without a final slash")
        return origins

    @field_validator("metrics_bind")
    @classmethod
    def _check_metrics_bind(cls, address: str | None) -> str | None:
        if address is None:
            return None
        found = re.fullmatch(r"unix:/\S+|[^\s/]+:([0-9]{1,5})", address)
        if found is None or int(found[1] or 0) > PORT_MAX:
            raise ValueError(f"write host:port, up to {PORT_MAX}, or unix: and the absolute path of a socket")
        return address

    @field_validator("log_user_key")
    @classmethod
    def _check_user_key(cls, key: str | None) -> str | None:
        if key and len(key) < KEY_MIN_LENGTH:
            raise ValueError(f"it has less than {KEY_MIN_LENGTH} characters; make one by `openssl rand -hex 32`")
        # Python reads a byte of a variable that is not UTF-8 as half a surrogate pair.
        if key and re.search("[\ud800-\udfff]", key):
            raise ValueError("it is not UTF-8 text")
        return key

    @property
    def is_production(self) -> bool:
        return self.environment == "production"

    @property
    def user_key(self) -> bytes:
        """Makes the hashes of users in the log (D47)."""
        return blake2b((self.log_user_key or _RANDOM_KEY).encode()).digest()

    @property
    def migrates_at_start(self) -> bool:
        """True if a server brings the schema up to date when it starts (D11)."""
        return self.auto_migrate or not self.is_production

    @property
    def level(self) -> str:
        """The log level: `LOG_LEVEL`, else DEBUG in development and INFO in production (D18)."""
        return self.log_level or ("INFO" if self.is_production else "DEBUG")

    @property
    def database_options(self) -> DatabaseOptions:
        return DatabaseOptions(
            limits=PoolLimits(
                min_size=self.database_pool_min or min(DEFAULT_POOL_MIN, self.database_pool_max),
                max_size=self.database_pool_max,
                timeout=self.database_pool_timeout,
                lifetime=self.database_pool_lifetime,
            ),
            connect_timeout=self.database_connect_timeout,
            statement_timeout=self.request_timeout,
            log_sql=not self.is_production,
        )

    @property
    def token_rules(self) -> TokenRules | None:
        """How bearer tokens are checked; None where none are asked for (D31)."""
        if self.auth_mode != "jwt":
            return None
        assert self.auth_issuer
        assert self.auth_jwks_url
        return TokenRules(
            issuer=self.auth_issuer,
            audience=self.auth_audience,
            authorized_parties=self.auth_authorized_party,
            jwks_url=self.auth_jwks_url,
            algorithms=self.auth_algorithms,
            subject=self.auth_subject,
            max_lifetime=self.auth_max_lifetime,
        )

    @property
    def database_location(self) -> DatabaseLocation:
        return DatabaseLocation(self.database_url, self.database_private_hosts, behind_pooler=self.database_pooler)

    @property
    def database_location_direct(self) -> DatabaseLocation:
        """The same database for the owner of the tables, without a pooler between: for migrations and operators."""
        if self.database_url_direct is None:
            return self.database_location
        return DatabaseLocation(self.database_url_direct, self.database_private_hosts)


def load(**overrides: Any) -> Env:
    """Reads the environment; on any fault exits with status 1 and one message that names them all."""
    try:
        return Env(**overrides)
    except ValidationError as error:
        faults = "\n".join(_describe(fault) for fault in error.errors(include_url=False))
    except UnicodeDecodeError:
        faults = "  .env is not UTF-8 text"
    raise SystemExit(
        f"The environment cannot be used, so nothing was started:\n\n{faults}\n\n"
        "Set these variables in the environment or in .env; .env.example and docs/configuration.md explain them."
    )


def _describe(fault: ErrorDetails) -> str:
    field = str(fault["loc"][0])
    name = field.upper()
    # The default of a required secret is None, as a file may hold it.
    if fault["type"] in {"missing", "string_type"}:
        problem = "is missing"
    elif fault["input"] is None and field not in SECRETS:
        problem = f"is missing: {_reason(fault)}"
    elif field in {*SECRETS, "auth_jwks_url"}:
        # Its value may hold a password anywhere, so it is not repeated.
        problem = f"cannot be used: {_reason(fault)}"
    else:
        problem = f"cannot be {fault['input']!r}: {_reason(fault)}"
    [example] = Env.model_fields[field].examples or [""]
    return f"  {name} {problem}\n      for example: {name}={example}"


def _reason(fault: ErrorDetails) -> str:
    return fault["msg"].removeprefix("Value error, ").removeprefix("Input ")


env = load()
