"""Django in production, with only the middleware that an API needs, which is less than a new project has."""

import os
from urllib.parse import urlsplit

url = urlsplit(os.environ["DATABASE_URL"])

DEBUG = False
SECRET_KEY = "unused"
ALLOWED_HOSTS = ["127.0.0.1"]
INSTALLED_APPS = ["benchmarks.peers.orm"]
MIDDLEWARE = ["django.middleware.security.SecurityMiddleware", "django.middleware.common.CommonMiddleware"]
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": url.path.removeprefix("/"),
        "USER": url.username,
        "HOST": url.hostname,
        "PORT": url.port,
        # Each thread keeps its connection, so that the server has as many connections as threads.
        "CONN_MAX_AGE": None,
    }
}
USE_TZ = True
TIME_ZONE = "UTC"
USE_I18N = False
