"""gunicorn's options and values that this server refuses, because with them it could not keep what it promises.

`docs/configuration.md` has a word on every other option, and a test compares both with the installed gunicorn.
"""

from collections.abc import Mapping
from typing import Any

from gunicorn import util
from gunicorn.config import Config
from gunicorn.glogging import Logger

_REASONS = {
    "reloads, graceful stops and limits for clients are in server.worker.Worker": ["worker_class"],
    "a worker has one event loop and no threads; choose the number of workers": ["threads"],
    "a reload would not take new code": ["preload_app"],
    "clients that wait for a worker that stops would be reset": ["reuse_port"],
    "it comes too late for our own settings; set the variable in the environment or in .env": ["raw_env"],
    "the server is measured and tested with uvloop only": ["asgi_loop"],
    "the database is opened and closed by it": ["asgi_lifespan"],
    "the rules for the head of a request are built on Python's parser": ["http_parser"],
    "every path begins with /api; let the proxy strip a prefix": ["root_path"],
    "a new worker may be forked while the thread of the control socket holds a lock": ["control_socket_disable"],
    "it may wait for whatever takes the log, and requests with it; log to standard error or to a file": [
        "logger_class", "logconfig", "logconfig_dict", "logconfig_json", "syslog",
    ],
    "our logger, which never waits, does not send to it": ["statsd_host"],
    "answers name the limits of server/limits.py; change them there": [
        "limit_request_line", "limit_request_fields", "limit_request_field_size",
    ],
    "a proxy in front may read such a request differently": [
        "permit_obsolete_folding", "strip_header_spaces", "permit_unconventional_http_method",
        "permit_unconventional_http_version", "casefold_http_method",
    ],
    "HTTPS is for the proxy in front": ["keyfile", "certfile", "ca_certs"],
    "only HTTP/1.1 and 1.0 are understood": ["http_protocols", "http2_cleartext"],
    "only plain HTTP is understood": ["proxy_protocol", "protocol"],
    "there is no application for Paste": ["paste", "raw_paste_global_conf"],
    "no part of the application uses it": ["dirty_apps", "dirty_workers"],
}  # fmt: skip
REFUSED = {name: reason for reason, names in _REASONS.items() for name in names}
"""Reasons, by gunicorn's name of the setting, which must be as `config/gunicorn.py` or else gunicorn itself sets it."""
AT_LEAST: dict[str, tuple[int | None, str]] = {
    "workers": (1, "nothing would answer"),
    "worker_connections": (1, "every client would be refused"),
    "timeout": (None, "a start may take 30 seconds, and a stop as long as --graceful-timeout"),
    "graceful_timeout": (None, "requests under way would be cut off"),
    "asgi_disconnect_grace_period": (None, "a client that hangs up would cancel its write"),
}
"""Lower bounds with reasons; None for the value that `config/gunicorn.py` has."""


def refuse(cfg: Any, ours: Mapping[str, Any]) -> None:
    """Raises `RuntimeError`, which gunicorn shows in one line, for each option that breaks a promise."""
    expected = Config()
    for name in REFUSED.keys() & ours.keys():
        expected.set(name, ours[name])
    faults = [
        f"{(setting.cli or (name,))[-1]} cannot be set: {reason}"
        for name, reason in REFUSED.items()
        if (setting := cfg.settings[name]).value != expected.settings[name].value
    ]
    faults += [
        f"{cfg.settings[name].cli[-1]} must be at least {least}: {reason}"
        for name, (bound, reason) in AT_LEAST.items()
        if cfg.settings[name].value < (least := ours[name] if bound is None else bound)
    ]
    metrics_bind = ours.get("metrics_bind")
    if metrics_bind and util.parse_address(metrics_bind) in cfg.address:
        faults.append(f"METRICS_BIND cannot be {metrics_bind}, where --bind has the API listen")
    if cfg.loglevel.lower() not in Logger.LOG_LEVELS:
        faults.append(f"--log-level must be one of {', '.join(Logger.LOG_LEVELS)}")
    if faults:
        raise RuntimeError(". ".join(faults) + ".")
