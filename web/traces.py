"""The trace that a request is part of (W3C Trace Context): read from its `traceparent`, which its answer repeats."""

import re

_FORM = re.compile(rb"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(-[!-~]*)?")


def trace_id_from(traceparent: bytes | None) -> str | None:
    """The id of the trace, or None without a valid `traceparent`, which is then as if it had not been sent.

    A later version than ours may have more behind the known fields.
    """
    found = _FORM.fullmatch(traceparent) if traceparent else None
    if found is None or (found[1] == b"00" and found[3]):
        return None
    return found[2].decode()
