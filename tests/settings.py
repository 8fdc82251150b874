"""The project's settings in the environment of the tests.

Each setting gets its default here, so that a developer's `.env` cannot change what the tests see.
"""

import os

os.environ |= {
    "ENVIRONMENT": "development",
    # Only a placeholder: tests open the databases that their fixtures make.
    "DATABASE_URL": "embedded://.postgres-test",
    "DATABASE_URL_FILE": "",
    "DATABASE_URL_DIRECT": "",
    "DATABASE_URL_DIRECT_FILE": "",
    "AUTH_MODE": "open",
    "CORS_ORIGINS": "http://localhost:3000",
    "LOG_LEVEL": "DEBUG",
    "REQUEST_TIMEOUT": "5",
    "BODY_MAX_BYTES": "65536",
}

from config import logs
from config.settings import *

# What one test logs must not appear in the output of another.
logs.COUNTED_SECONDS = 3600.0
