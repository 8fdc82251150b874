"""The project's settings in the environment of the tests.

Each setting gets its default here, so that a developer's `.env` cannot change what the tests see.
"""

import os

os.environ |= {
    "ENVIRONMENT": "development",
    # Only a placeholder: tests open the databases that their fixtures make.
    "DATABASE_URL": "embedded://.postgres-test",
    "CORS_ORIGINS": "http://localhost:3000",
    "LOG_LEVEL": "DEBUG",
    "REQUEST_TIMEOUT": "5",
    "BODY_MAX_BYTES": "65536",
}

from config.settings import *
