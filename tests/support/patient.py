"""The settings of `config.gunicorn`, for a server that takes requests for a minute after it has been told to stop."""

from config.gunicorn import *  # noqa: F403 - all of it, with more time
from server import limits

graceful_timeout = 90
# gunicorn loads the worker, which takes this over, after its settings.
limits.DRAIN_SECONDS = 60
