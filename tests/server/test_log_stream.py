"""The log of a server whose reader is stuck holds up neither requests nor a stop, and loses nothing otherwise."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from persistence.postgres.dsn import Dsn
from server.log_stream import WAITING_MAX, LogStream
from tests.support.servers import LONG, ROOT, PipedWebServer, eventually
from tests.support.sites import production

LOST = re.compile(r"(\d+) lines of the log are lost")
LOGGER = """
import os, sys
from gunicorn.config import Config
from server.log_stream import Logger
log = Logger(Config())
"""


@contextmanager
def pipe() -> Iterator[tuple[int, LogStream]]:
    read, write = os.pipe()
    try:
        yield read, LogStream(write)
    finally:
        os.close(read)
        os.close(write)


def text_until(read: int, word: str) -> str:
    data = b""
    while word.encode() not in data:
        data += os.read(read, 65536)
    return data.decode()


def test_lines_that_nothing_reads_are_lost_and_counted_and_the_others_come_whole() -> None:
    line = f"{'x' * 1000}\n"
    number = 2 * WAITING_MAX // len(line)
    with pipe() as (read, stream):
        for _ in range(number):
            stream.write(line)
        text = text_until(read, "lost")
        stream.write("The next one\n")
        text += text_until(read, "next one")

    *lines, count, last = text.splitlines()
    assert set(lines) == {line.rstrip()}
    assert (found := LOST.search(count))
    assert len(lines) + int(found[1]) == number
    assert last == "The next one"


def test_pieces_are_joined_to_lines_and_a_pipe_that_does_not_block_gets_them_all() -> None:
    with pipe() as (read, stream):
        os.set_blocking(stream.fileno(), False)
        for number in range(2000):
            for piece in ("Line ", f"{number:04}", " é" * 100, "\n"):
                stream.write(piece)
        text = text_until(read, "Line 1999")

    assert [line[:9] for line in text.splitlines()] == [f"Line {number:04}" for number in range(2000)]


def test_lines_of_several_processes_come_between_each_other_and_never_into_each_other() -> None:
    lines = {f"{name * 300}\n" for name in "ab"}
    with pipe() as (read, first):
        second = LogStream(first.fileno())
        for _ in range(6):
            for stream, line in zip((first, second), lines, strict=True):
                # As a worker writes the lines of many requests. A pipe takes a third of them.
                stream.write(line * 500)
        text = ""
        while text.count("\n") < 6_000:
            text += os.read(read, 4096).decode()

    assert {*text.splitlines(keepends=True)} == lines


def test_a_reader_that_has_gone_does_no_harm() -> None:
    read, write = os.pipe()
    os.close(read)
    stream = LogStream(write)
    for _ in range(3):
        stream.write("Nobody hears this\n")
    stream.drain(LONG)
    os.close(write)


FULL = """
import os, resource, signal, sys
from server.log_stream import LogStream
stream = LogStream(os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND))
stream.write("Whole\\n")
stream.drain(60)
resource.setrlimit(resource.RLIMIT_FSIZE, (10, resource.RLIM_INFINITY))
for number in range(3):
    stream.write(f"Line {number}\\n")
    stream.drain(60)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
stream.write("Whole again\\n")
stream.drain(60)
"""
"""A disk without room for a while, which is a file that may not grow."""


def test_lines_for_which_a_disk_has_no_room_are_counted_and_the_next_one_begins_a_line(tmp_path: Path) -> None:
    file = tmp_path / "log"
    subprocess.run([sys.executable, "-c", FULL, file], cwd=ROOT, timeout=LONG, check=True)

    first, torn, next_one, count = file.read_text().splitlines()
    assert (first, torn, next_one) == ("Whole", "Line", "Whole again")
    assert "3 lines of the log are lost" in count


def output_of(code: str, status: int = 0) -> str:
    """What a process prints that logs as a server does."""
    process = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", LOGGER + code],
        cwd=ROOT, capture_output=True, text=True, timeout=LONG, check=False,
    )  # fmt: skip
    assert process.returncode == status, process.stderr
    return process.stdout + process.stderr


def test_a_child_writes_its_own_lines_and_none_of_its_parent() -> None:
    output = output_of("print('x' * 1_000_000)\nprint('child' if os.fork() == 0 else os.wait() and 'parent')")

    assert (output.count("x"), output.count("child"), output.count("parent")) == (1_000_000, 1, 1)


@pytest.mark.parametrize(
    ("end", "status", "last"),
    [
        ("", 0, "Line 4999"),
        ("sys.exit(3)", 3, "Line 4999"),
        ("print('no end of a line', end='', file=sys.stderr)", 0, "no end of a line"),
        ("raise RuntimeError('crash')", 1, "RuntimeError: crash"),
        ("import logging; logging.warning('Without a handler')", 0, "Without a handler"),
    ],
)
def test_the_last_lines_of_a_process_appear_however_it_ends(end: str, status: int, last: str) -> None:
    lines = output_of(f"for number in range(5000): log.error('Line %04d', number)\n{end}", status).splitlines()

    assert lines[-1].endswith(last)
    assert [line[-9:] for line in lines[:5000]] == [f"Line {number:04}" for number in range(5000)] or end


def test_a_process_ends_although_nothing_reads_its_log() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", LOGGER + "print('x' * 1_000_000)\nlog.error('Last')"],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    with process:
        assert process.wait(LONG) == 0


def lines_told_of(log: str, word: str) -> int:
    """Counts the lines with a word, and those that are said to be lost."""
    return log.count(word) + sum(int(number) for number in LOST.findall(log))


def test_requests_and_a_stop_wait_for_no_reader_of_the_log_and_no_line_is_lost_unsaid(
    migrated_dsn: Dsn, tmp_path: Path
) -> None:
    # A longer line is not written at once, and lines of standard error may come into it.
    agent, requests = "x" * 3900, 2 * WAITING_MAX // 3900
    # A worker that waited would be killed long after the test has given up.
    options = ("--workers", "1", "--access-logfile", "-", "--graceful-timeout", "600")
    with production(migrated_dsn, tmp_path, *options, kind=PipedWebServer) as web:
        assert isinstance(web, PipedWebServer)
        web.freeze_reader()
        for _ in range(requests):
            assert web.http.get("/v1/live", headers={"User-Agent": agent}).status_code == 200
        web.thaw_reader()
        # The line of the last request may come after its answer, and so after that of the lost ones.
        eventually(lambda: bool(LOST.search(web.log)) and lines_told_of(web.log, agent) == requests)

        web.freeze_reader()
        for _ in range(requests):
            web.http.get("/v1/live", headers={"User-Agent": agent})
        assert web.stop() == 0


@pytest.mark.slow
def test_a_full_disk_for_the_access_log_costs_its_lines_and_fills_no_other(migrated_dsn: Dsn, tmp_path: Path) -> None:
    with production(migrated_dsn, tmp_path, "--workers", "1", "--access-logfile", "/dev/full") as web:
        assert [web.http.get("/v1/live").status_code for _ in range(3)] == [200] * 3
        web.stop()

    assert "Logging error" not in web.log
    assert "Traceback" not in web.log


@pytest.mark.slow
def test_everything_goes_to_a_file_if_gunicorn_is_told_to_capture_it(migrated_dsn: Dsn, tmp_path: Path) -> None:
    file = tmp_path / "all.log"
    options = ("--workers", "1", "--capture-output", "--error-logfile", str(file), "--access-logfile", "-")
    with production(migrated_dsn, tmp_path, *options) as web:
        web.http.get("/v1/live")
        eventually(lambda: "GET /api/v1/live" in file.read_text())
        file.rename(tmp_path / "old.log")
        web.process.send_signal(signal.SIGUSR1)
        eventually(file.exists)
        web.stop()

    assert "Connected to the database" in (tmp_path / "old.log").read_text()
    assert "GET /api/v1/live" in (tmp_path / "old.log").read_text()
    assert "Shutting down" in file.read_text()
    assert "Connected" not in web.log
