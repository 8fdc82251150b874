"""The sizes of a request's head that gunicorn is told to take, and that a client is told of."""

LINE_MAX = 8190
"""Bytes of the first line: room for a query with every filter, all in characters that take 12 bytes in a URL."""
HEADERS_MAX = 100
HEADER_MAX = 8190
"""Bytes of one header."""
