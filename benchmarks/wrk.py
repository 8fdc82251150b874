"""wrk as the load generator: each client sends its next request as soon as it has the last answer."""

import json
import math
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.operations import Request

WRK = shutil.which("wrk")
HOW_TO_GET_WRK = "wrk is missing: `apt install wrk` on Debian and Ubuntu, `brew install wrk` on macOS"

# The requests are made beforehand, so that one thread of wrk is enough to send them, over and over.
_SCRIPT = r"""
local requests, sent = {}, 0

function init(arguments)
  local file = assert(io.open(arguments[1], "rb"))
  for request in (file:read("*a")):gmatch("[^%z]+") do requests[#requests + 1] = request end
  file:close()
end

function request()
  sent = sent % #requests + 1
  return requests[sent]
end

function done(summary, latency, _)
  local errors = summary.errors
  io.write(string.format(
    '\n{"requests": %d, "microseconds": %d, "p50": %f, "p99": %f, "statuses": %d, "others": %d}\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    errors.status, errors.connect + errors.read + errors.write + errors.timeout))
end
"""


class LoadFailed(Exception):
    """A request was not answered, or had an error status, so that the figures mean nothing."""


class RequestsExhausted(LoadFailed):
    """The server was so fast that wrk sent a request again that can be sent only once."""


@dataclass(frozen=True)
class Result:
    """Times are in milliseconds."""

    requests: int
    rate: float
    p50: float
    p99: float


def run(port: int, requests: Sequence[Request], clients: int, seconds: float) -> Result:
    """Sends the requests over and over. Raises `LoadFailed` if an answer has a status of 400 or more.

    The failure is `RequestsExhausted` if wrk may have sent all requests and begun again.
    """
    if WRK is None:
        raise LoadFailed(HOW_TO_GET_WRK)
    with tempfile.TemporaryDirectory(prefix="todo-benchmark-wrk-") as folder:
        script, sent = Path(folder) / "requests.lua", Path(folder) / "requests"
        script.write_text(_SCRIPT)
        sent.write_bytes(b"\0".join(request.encode(port) for request in requests))
        # wrk counts in whole seconds; an interrupt ends it at any time, and it still reports.
        command = [WRK, "-t1", f"-c{clients}", f"-d{math.ceil(seconds) + 10}s", "--timeout", "10s", "-s", str(script)]
        process = subprocess.Popen(  # noqa: S603 - the arguments are our own
            [*command, f"http://127.0.0.1:{port}", "--", str(sent)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        time.sleep(seconds)
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=60)
    return parse(output, len(requests) - clients)


def parse(output: str, enough: int) -> Result:
    """Reads the line that the script adds to wrk's output. Up to `enough` answers, no request was sent twice."""
    line = output.rstrip().rpartition("\n")[2]
    if not line.startswith("{"):
        raise LoadFailed(f"wrk failed: {output}")
    found: dict[str, Any] = json.loads(line)
    if found["statuses"] or found["others"] or not found["requests"]:
        kind = RequestsExhausted if found["statuses"] and found["requests"] > enough else LoadFailed
        raise kind(
            f"of {found['requests']} requests {found['statuses']} were answered with an error status,"
            f" and {found['others']} connections failed or timed out"
        )
    return Result(
        requests=found["requests"],
        rate=found["requests"] / found["microseconds"] * 1e6,
        p50=found["p50"] / 1000,
        p99=found["p99"] / 1000,
    )
