"""Passwords as bcrypt hashes."""

import bcrypt

MAX_BYTES = 72
"""bcrypt reads no further; a longer password would be as good as its beginning, so it is refused."""


def hash_password(password: str) -> str:
    """Takes about a quarter of a second of CPU, on purpose. Raises ValueError for a password over 72 bytes."""
    encoded = password.encode()
    if len(encoded) > MAX_BYTES:
        raise ValueError(f"A password has at most {MAX_BYTES} bytes in UTF-8; this one has {len(encoded)}.")
    return bcrypt.hashpw(encoded, bcrypt.gensalt()).decode()
