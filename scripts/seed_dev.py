#!/usr/bin/env python3
"""Does what `manage.py seed_dev` does, under the name that the requirements give it."""

import runpy
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]

# Python looks for modules beside this file only.
sys.path.insert(0, str(PROJECT))
sys.argv.insert(1, "seed_dev")
runpy.run_path(str(PROJECT / "manage.py"), run_name="__main__")
