"""gunicorn's options that this server refuses, because with them it could not keep what it promises.

`docs/configuration.md` has a word on every other option, and a test compares both with the installed gunicorn.
"""

from collections.abc import Mapping
from typing import Any

from gunicorn.config import Config

_LOG = "it may wait for whatever takes the log, and requests with it; log to standard error or to a file"
_HEAD = "a proxy in front may read such a request differently"
_TLS = "HTTPS is for the proxy in front"
_LIMITS = "answers name the limits of server/limits.py; change them there"
_HTTP2 = "only HTTP/1.1 and 1.0 are understood"
_OTHER_PROTOCOL = "only plain HTTP is understood"
_PASTE = "there is no application for Paste"
_DIRTY = "no part of the application uses it"

REFUSED = {
    "worker_class": "reloads, graceful stops and limits for clients are in server.worker.Worker",
    "threads": "a worker has one event loop and no threads; choose the number of workers",
    "preload_app": "a reload would not take new code",
    "reuse_port": "clients that wait for a worker that stops would be reset",
    "raw_env": "it comes too late for our own settings; set the variable in the environment or in .env",
    "asgi_loop": "the server is measured and tested with uvloop only",
    "asgi_lifespan": "the database is opened and closed by it",
    "http_parser": "the rules for the head of a request are built on Python's parser",
    "root_path": "every path begins with /api; let the proxy strip a prefix",
    "control_socket_disable": "a thread of the master for it would be copied into every worker",
    "logger_class": _LOG,
    "logconfig": _LOG,
    "logconfig_dict": _LOG,
    "logconfig_json": _LOG,
    "syslog": _LOG,
    "statsd_host": "it takes the place of the logger that never waits",
    "limit_request_line": _LIMITS,
    "limit_request_fields": _LIMITS,
    "limit_request_field_size": _LIMITS,
    "permit_obsolete_folding": _HEAD,
    "strip_header_spaces": _HEAD,
    "permit_unconventional_http_method": _HEAD,
    "permit_unconventional_http_version": _HEAD,
    "casefold_http_method": _HEAD,
    "keyfile": _TLS,
    "certfile": _TLS,
    "ca_certs": _TLS,
    "http_protocols": _HTTP2,
    "http2_cleartext": _HTTP2,
    "proxy_protocol": _OTHER_PROTOCOL,
    "protocol": _OTHER_PROTOCOL,
    "paste": _PASTE,
    "raw_paste_global_conf": _PASTE,
    "dirty_apps": _DIRTY,
    "dirty_workers": _DIRTY,
}
"""Reasons, by gunicorn's name of the setting, which must be as `config/gunicorn.py` or else gunicorn itself sets it."""


def refuse(cfg: Any, ours: Mapping[str, Any]) -> None:
    """Raises `RuntimeError`, which gunicorn shows in one line, if a refused option differs from our settings."""
    expected = Config()
    for name in REFUSED.keys() & ours.keys():
        expected.set(name, ours[name])
    faults = [
        f"{(setting.cli or (name,))[-1]} cannot be set: {reason}"
        for name, reason in REFUSED.items()
        if (setting := cfg.settings[name]).value != expected.settings[name].value
    ]
    if faults:
        raise RuntimeError(". ".join(faults) + ".")
