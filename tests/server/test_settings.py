"""Django's settings, as they follow from the environment."""

import time
from datetime import UTC, datetime

from django.apps import apps
from django.conf import settings
from django.db import connections

from config.env import env
from config.logs import configuration


def test_djangos_own_database_layer_is_off() -> None:
    # Django fills in a database that raises whenever it is used.
    assert [database["ENGINE"] for database in connections.settings.values()] == ["django.db.backends.dummy"]
    assert list(apps.get_models()) == []


def test_the_clock_of_the_process_is_utc() -> None:
    assert settings.USE_TZ
    assert time.tzname[0] == "UTC"
    assert datetime.now().astimezone().utcoffset() == UTC.utcoffset(None)


def test_the_settings_come_from_the_environment() -> None:
    assert env.cors_origins == settings.CORS_ALLOWED_ORIGINS
    assert env.body_max_bytes == settings.DATA_UPLOAD_MAX_MEMORY_SIZE
    assert configuration(env) == settings.LOGGING
    assert settings.DEBUG is False
    commands = (settings.IS_PRODUCTION, settings.DATABASE_OPTIONS)
    assert commands == (env.is_production, env.database_options)
    locations = (settings.DATABASE_LOCATION, settings.DATABASE_LOCATION_DIRECT)
    assert locations == (env.database_location, env.database_location_direct)
