"""The ASGI application: opens the database when the server starts, closes it when the server stops."""

import atexit
import gc
import logging
import os
from contextlib import AsyncExitStack
from importlib import import_module

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

import django
from django.conf import settings

from config import logs
from config.env import env
from persistence.development.embedded_postgres import EmbeddedPostgresError
from persistence.startup import StartupError, start
from web.handler import Handler, Message, Receive, Send
from web.observation import settle
from web.request_log import REQUEST_LOG

if env.token_rules:
    # It loads libraries that no other mode needs.
    from identity.verifier import open_verifier

django.setup(set_prefix=False)
# Django would import the endpoints with the first request, which would have to wait for that.
import_module(settings.ROOT_URLCONF)
logger = logging.getLogger(__name__)
handler = Handler()


async def application(scope: Message, receive: Receive, send: Send) -> None:
    if scope["type"] == "http":
        await handler(scope, receive, send)
    elif scope["type"] == "lifespan":
        await lifespan(scope, receive, send)
    else:
        # Refuses a WebSocket; there are none.
        await send({"type": "websocket.close"})


async def lifespan(scope: Message, receive: Receive, send: Send) -> None:
    await receive()
    state = scope["state"]
    state["database"] = state["verifier"] = None
    if env.metrics_bind:
        # It loads a library that is not needed otherwise.
        from config import metrics

        state["collect_metrics"] = lambda: metrics.collect(state["database"], state["verifier"])
        state["render_metrics"] = metrics.render
    async with AsyncExitStack() as stack:
        REQUEST_LOG.open(env.user_key, as_json=logs.writes_json(env), in_colour=logs.in_colour(env))
        # A quick stop leaves the rest out.
        atexit.register(settle)
        stack.callback(settle)
        try:
            dsn = stack.enter_context(env.database_location.running())
            owner = stack.enter_context(env.database_location_direct.running()) if env.database_url_direct else dsn
            database = await stack.enter_async_context(
                start(
                    dsn,
                    env.database_options,
                    retry=env.is_production,
                    migrate_at=owner if env.migrates_at_start else None,
                    # Set by server/worker.py.
                    is_replacement=env.is_production and state.get("is_replacement", False),
                )
            )
        except (EmbeddedPostgresError, StartupError) as error:
            logger.critical("%s", error)
            await send({"type": "lifespan.startup.failed", "message": "the database is not usable"})
            return
        state["database"] = database
        if env.token_rules:
            state["verifier"] = await stack.enter_async_context(open_verifier(env.token_rules, env.request_timeout))
        # What has been imported stays. Looking through it again and again for garbage stopped the worker for tens of
        # milliseconds each time (docs/adr/0017-event-loop-and-garbage.md).
        gc.collect()
        gc.freeze()
        await send({"type": "lifespan.startup.complete"})
        await receive()
    await send({"type": "lifespan.shutdown.complete"})
