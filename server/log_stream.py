"""Standard output and standard error of a server, whose reader may be stuck: no request and no stop waits for it."""

import atexit
import io
import logging
import os
import select
import sys
import threading
import time
from collections import deque
from functools import partial
from typing import Any, cast, override

from gunicorn.glogging import Logger as GunicornLogger

from server.log_format import JsonFormatter, SafeFormatter, each_as_json, json_line

WAITING_MAX = 1024 * 1024
"""Bytes that may wait for the reader of one stream, in each process."""
DRAIN_SECONDS = 0.5
"""Seconds for which a process that ends waits for the readers of its log."""


class LogStream(io.TextIOBase):
    """A stream of text that takes every line at once; a thread writes them. Lines beyond `WAITING_MAX` are counted.

    With `as_json` it makes an object of each line that is none, such as what Python prints.
    """

    lost = 0
    """Lines that this process has lost."""

    def __init__(self, fd: int, *, as_json: bool = False) -> None:
        self._fd = fd
        self._as_json = as_json
        self._begin()
        # The thread stays with the parent, and so does the text that it has yet to write.
        os.register_at_fork(after_in_child=self._begin)

    def _begin(self) -> None:
        self._changed = threading.Condition()
        self._partial = ""
        self._waiting = deque[bytes]()
        self._size = self._told = self.lost = 0
        self._is_torn = False
        self._thread: threading.Thread | None = None

    @override
    def fileno(self) -> int:
        return self._fd

    @override
    def isatty(self) -> bool:
        return os.isatty(self._fd)

    @override
    def write(self, text: str) -> int:
        with self._changed:
            lines, end, self._partial = (self._partial + text).rpartition("\n")
            if end:
                self._put(lines + end)
        return len(text)

    @override
    def flush(self) -> None:
        """Ends no line, and waits for nothing: logging calls it after each line."""

    def _put(self, lines: str) -> None:
        if self._as_json:
            lines = each_as_json(lines)
        data = lines.encode(errors="backslashreplace")
        if self._waiting and self._size + len(data) > WAITING_MAX:
            self.lost += lines.count("\n")
            return
        self._waiting.append(data)
        self._size += len(data)
        if self._thread is None:
            self._thread = threading.Thread(target=self._write_all, name=f"log stream {self._fd}", daemon=True)
            self._thread.start()
        self._changed.notify_all()

    def _write_all(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting)
                data = self._waiting[0]
            lost = self._write(data)
            with self._changed:
                self.lost += lost
                untold = self.lost - self._told if not lost and len(self._waiting) == 1 else 0
            # Not through a logger, which would come back here.
            if untold and not self._write(self._notice(f"{untold} lines of the log are lost.")):
                self._told += untold
            with self._changed:
                # It counts as waiting until it has been written.
                self._size -= len(self._waiting.popleft())
                self._changed.notify_all()

    def _notice(self, text: str) -> bytes:
        if self._as_json:
            line = json_line({"level": "WARNING", "logger": __name__, "message": text})
        else:
            line = f"{time.strftime(GunicornLogger.datefmt)} [{os.getpid()}] [WARNING] {text}"
        return f"{line}\n".encode()

    def _write(self, data: bytes) -> int:
        """Returns the number of lines that are lost, because the reader has gone or a disk is full.

        Writes to the descriptor itself: the lock of Python's own stream would be held at the end of the process.
        """
        lines = data.count(b"\n")
        data = b"\n" * self._is_torn + data
        while data:
            try:
                number = os.write(self._fd, _piece(data))
            except BlockingIOError:
                # Another process that has the same pipe or terminal may have set it so.
                select.select([], [self._fd], [])
            except OSError:
                break
            else:
                self._is_torn = data[number - 1 : number] != b"\n"
                data = data[number:]
        return min(lines, data.count(b"\n"))

    def drain(self, seconds: float) -> None:
        with self._changed:
            if self._partial:
                self._put(self._partial)
            self._changed.wait_for(lambda: not self._waiting, seconds)


_STREAMS: list[LogStream] = []


class Logger(GunicornLogger):  # type: ignore[misc] # gunicorn has no types
    """gunicorn's, which the master makes before it logs anything; whatever the process prints goes the same way."""

    as_json = False

    def __init__(self, cfg: Any) -> None:
        _STREAMS[:] = LogStream(1), LogStream(2, as_json=self.as_json)
        sys.stdout, sys.stderr = (cast(Any, stream) for stream in _STREAMS)
        atexit.register(drain)
        super().__init__(cfg)

    @override
    def setup(self, cfg: Any) -> None:
        super().setup(cfg)
        for handler in (*self.error_log.handlers, *self.access_log.handlers):
            handler.handleError = partial(_lose, handler)
        for handler in self.error_log.handlers:
            handler.setFormatter(JsonFormatter() if self.as_json else SafeFormatter(self.error_fmt, self.datefmt))


class JsonLogger(Logger):
    """Writes each line of standard error as an object of JSON."""

    as_json = True


def _piece(lines: bytes) -> bytes:
    """As many whole lines as a pipe takes at once, so that those of other processes come between lines (pipe(7))."""
    end = lines.rfind(b"\n", 0, select.PIPE_BUF) + 1
    # A longer line is written alone.
    return lines[: end or lines.find(b"\n") + 1 or len(lines)]


def _lose(handler: logging.Handler, record: logging.LogRecord) -> None:
    # The traceback of each line that a full disk does not take would fill the disk of standard error as well.
    if not isinstance(sys.exception(), OSError):
        logging.Handler.handleError(handler, record)


def lost_lines() -> int:
    """Counts the lines that this process has lost."""
    return sum(stream.lost for stream in _STREAMS)


def drain() -> None:
    """Waits for what reads the log, but not for long; called at the end of a process."""
    end = time.monotonic() + DRAIN_SECONDS
    for stream in _STREAMS:
        stream.drain(end - time.monotonic())
