"""The settings of `config.gunicorn`, for a worker that may open few files."""

import resource
from typing import Any

from config.gunicorn import *  # noqa: F403 - all of it, and a hook


def post_fork(_server: Any, _worker: Any) -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
