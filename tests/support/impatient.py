"""The settings of `config.gunicorn`, with short deadlines, and with an application that fails."""

from typing import Any

from config.gunicorn import *  # noqa: F403 - all of it, and a hook

wsgi_app = "tests.support.failing:application"
UNREAD_TIMEOUT = 2.0


def post_worker_init(_worker: Any) -> None:
    # Only a worker may import them, so that a reload takes new code.
    from server import protocol, responses
    from web import handler

    protocol.HEAD_TIMEOUT = 2.0
    protocol.UNREAD_TIMEOUT = UNREAD_TIMEOUT
    # A test needs it to last longer than a busy machine may hold up the test.
    responses.LINGER_SECONDS = 5.0
    handler.BODY_TIMEOUT = 2.0
