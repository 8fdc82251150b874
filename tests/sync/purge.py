"""Runs `manage.py purge` with no time in which deleted tasks and tombstones are kept: `python -m tests.sync.purge`."""

import os

import django
from django.conf import settings
from django.core.management import call_command

if __name__ == "__main__":
    os.environ["DJANGO_SETTINGS_MODULE"] = "config.settings"
    django.setup()
    settings.TRASH_DAYS = settings.TOMBSTONE_DAYS = 0
    call_command("purge")
