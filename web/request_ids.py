"""The id of a request, which its answer and its lines in the log have in common."""

import re
from collections.abc import Mapping
from random import getrandbits

PATTERN = "^[A-Za-z0-9._-]{1,128}$"
"""For the contract, and for what a client sends."""

_FORM = re.compile(PATTERN.strip("^$"), re.ASCII)


def new_request_id() -> str:
    # It is not a secret, and an id from the system's source of randomness takes longer to make.
    return f"{getrandbits(128):032x}"


def request_id_from(headers: Mapping[bytes, bytes]) -> str:
    """The caller's X-Request-ID when it is harmless in a log and a header, else a new one."""
    given = headers.get(b"x-request-id", b"").decode("latin-1")
    return given if _FORM.fullmatch(given) else new_request_id()
