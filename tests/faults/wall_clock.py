"""A wall clock that can be moved while a process runs, as an administrator or a time server may move the machine's."""

import shutil
import subprocess
import sys
from pathlib import Path

from tests.faults.matrix import Skipped

SOURCE = Path(__file__).with_suffix(".c")


class WallClock:
    """Of all processes that are started with `environment`. Raises `Skipped` where it cannot be made."""

    def __init__(self, folder: Path) -> None:
        compiler = shutil.which("cc")
        if sys.platform != "linux" or not compiler:
            raise Skipped("moving a clock takes Linux and a C compiler")
        folder.mkdir()
        library, self._offset = folder / "wall_clock.so", folder / "offset"
        subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, SOURCE], check=True)
        self._offset.write_bytes(bytes(8))
        self.seconds = 0
        """How much later than the true time it is."""
        self.environment = {"LD_PRELOAD": str(library), "WALL_CLOCK_OFFSET": str(self._offset)}

    def move(self, seconds: int) -> None:
        self.seconds = seconds
        # Whoever has it in his memory sees all eight bytes change at once.
        with self._offset.open("r+b") as file:
            file.write(seconds.to_bytes(8, sys.byteorder, signed=True))
