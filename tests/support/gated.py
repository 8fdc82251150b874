"""The application, for workers that a test holds up while they start: while it has the file `GATE` locked."""

import fcntl
import os
from pathlib import Path

print("At the gate", flush=True)  # noqa: T201 - the test waits for this line of the log
with Path(os.environ["GATE"]).open() as gate:
    fcntl.flock(gate, fcntl.LOCK_SH)

from config.asgi import application as application  # noqa: E402, PLC0414 - the gate comes first
