"""Django's settings, as they follow from the environment."""

import time
from datetime import UTC, datetime

from django.apps import apps
from django.conf import settings
from django.db import connections

from config.env import Env
from config.logs import configuration


def test_djangos_own_database_layer_is_off() -> None:
    # Django fills in a database that raises whenever it is used.
    assert [database["ENGINE"] for database in connections.settings.values()] == ["django.db.backends.dummy"]


def test_no_app_needs_a_table() -> None:
    assert list(apps.get_models()) == []


def test_the_clock_of_the_process_is_utc() -> None:
    assert settings.TIME_ZONE == "UTC"
    assert settings.USE_TZ
    assert time.tzname[0] == "UTC"
    assert datetime.now().astimezone().utcoffset() == UTC.utcoffset(None)


def test_they_come_from_the_environment() -> None:
    assert isinstance(settings.ENV, Env)
    assert settings.ENV.cors_origins == settings.CORS_ALLOWED_ORIGINS
    assert settings.ENV.body_max_bytes == settings.DATA_UPLOAD_MAX_MEMORY_SIZE
    assert configuration(settings.ENV) == settings.LOGGING
    assert settings.DEBUG is False
