"""Headers that every answer has, in the form of ASGI."""

FIXED_HEADERS = [
    (b"X-Content-Type-Options", b"nosniff"),
    (b"Referrer-Policy", b"no-referrer"),
]
NO_STORE = (b"Cache-Control", b"no-store")
"""For every answer that does not say otherwise."""
