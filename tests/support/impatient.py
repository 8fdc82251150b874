"""`config.gunicorn` with deadlines for tests that cannot wait for those that clients get."""

from typing import Any

from config.gunicorn import *  # noqa: F403 - all of it, and a hook


def post_worker_init(_worker: Any) -> None:
    # Only a worker may import them, so that a reload takes new code.
    from server import protocol, responses
    from web import handler

    protocol.HEAD_TIMEOUT = protocol.UNREAD_TIMEOUT = 1.0
    responses.LINGER_SECONDS = 1.0
    handler.BODY_TIMEOUT = 1.0
