"""Django's settings, all from `config.env`. Django's own database layer is not used, so no app may need a table."""

from corsheaders.defaults import default_headers

from config import logs
from config.env import ROOT, env

DEBUG = False  # Errors are problem documents in development, too; what happened is in the log.
SECRET_KEY = "unused"  # noqa: S105 - nothing here signs; Django only refuses to start without a value
ALLOWED_HOSTS = ["*"]  # No response depends on the Host header.

SILENCED_SYSTEM_CHECKS = [
    "security.W001",  # web/headers.py sets the headers that Django's middleware would; HTTPS is for the proxy.
    "security.W002",  # So does frame-ancestors there, which browsers take over X-Frame-Options.
    "security.W003",  # No cookie signs anybody in, so no other site can send one along.
    "security.W009",  # Nothing uses SECRET_KEY.
]

BASE_DIR = ROOT
ROOT_URLCONF = "config.urls"
INSTALLED_APPS = ["config", "todos", "web", "django.contrib.staticfiles", "corsheaders", "ninja"]
MIDDLEWARE = ["web.cors.OriginCorsMiddleware"]
TEMPLATES = [{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True}]
STATIC_URL = "/api/static/"  # A proxy passes only `/api/` on.

DATABASES: dict[str, dict[str, str]] = {}
# For the management commands.
IS_PRODUCTION = env.is_production
DATABASE_LOCATION = env.database_location
DATABASE_LOCATION_DIRECT = env.database_location_direct
DATABASE_OPTIONS = env.database_options
AUTH_MODE = env.auth_mode
MAX_TOKEN_LIFETIME = env.auth_max_lifetime

# 0 is no limit.
USER_REQUESTS_PER_MINUTE = env.user_requests_per_minute
USER_TASKS_MAX = env.user_tasks_max

TRASH_DAYS = env.trash_days
TOMBSTONE_DAYS = env.tombstone_days

TIME_ZONE = "UTC"  # Django sets the process's clock to this.
USE_TZ = True
USE_I18N = False

CORS_ALLOWED_ORIGINS = env.cors_origins
CORS_ALLOW_CREDENTIALS = True
CORS_URLS_REGEX = r"^/api/"
CORS_ALLOW_HEADERS = (
    *default_headers, "idempotency-key", "if-match", "if-none-match", "x-request-id",
    # Tracing in the browser adds these to every request, unasked (W3C, Sentry).
    "traceparent", "tracestate", "baggage", "sentry-trace",
)  # fmt: skip
CORS_EXPOSE_HEADERS = (
    "Accept", "Accept-Patch", "Allow", "Content-Disposition", "ETag", "Idempotency-Replayed", "Link", "Location",
    "Retry-After", "WWW-Authenticate", "X-Request-ID", "traceparent",
)  # fmt: skip

DATA_UPLOAD_MAX_MEMORY_SIZE = env.body_max_bytes
DATA_UPLOAD_MAX_NUMBER_FIELDS = 200  # Parameters of one query: every tag that may be sent, and all others.
LOGGING = logs.configuration(env)
