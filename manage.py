#!/usr/bin/env python
"""The command line: `manage.py help` lists the commands."""

import os
import sys

from config.commands import Commands

if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    Commands(sys.argv).execute()
