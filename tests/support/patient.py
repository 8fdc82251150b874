"""The settings of `config.gunicorn`, for a server that takes requests for a minute after it has been told to stop."""

from config.gunicorn import *  # noqa: F403 - all of it, with more time
from server import worker

graceful_timeout = 90
worker.DRAIN_SECONDS = 60
