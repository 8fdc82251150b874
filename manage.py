#!/usr/bin/env python
"""The command line: `manage.py help` lists the commands."""

import os
import sys

if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    try:
        # Importing takes time, in which Ctrl-C may come.
        from config.commands import Commands

        Commands(sys.argv).execute()
    except KeyboardInterrupt:
        sys.exit("Interrupted.")
