"""The sizes of a request's head, and the seconds of a worker's stop: what gunicorn is told, too, stands here once."""

LINE_MAX = 8190
"""Bytes of the first line: room for a query with every filter, all in characters that take 12 bytes in a URL."""
HEADERS_MAX = 100
"""Headers of one request."""
HEADER_MAX = 8190
"""Bytes of one header."""
HEAD_MAX = 32 * 1024
"""Bytes of all headers together, and of what else comes in lines: sizes of chunks, and trailers."""
CHUNKS_MAX = 1_000
"""Chunks of one body: each takes the parser some 2 µs, however short it is."""
UNSENT_MAX = 64 * 1024
"""Bytes of answers that the kernel keeps for a client, besides those that are on their way.

Only when half of them are gone does it take more from the server. Linux may keep 4 MiB, and then a client that reads
100 KB a second seems to read nothing for half a minute.
"""

DRAIN_SECONDS = 1
"""Seconds for which a worker that stops still takes requests on its connections."""
CLOSE_SECONDS = 1
"""Seconds that are left at the end of a stop to close connections, before gunicorn's master kills the worker.

No more, as container platforms kill the whole server ten seconds after the signal.
"""
