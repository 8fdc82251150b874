#!/usr/bin/env python3
"""The command line: `manage.py help` lists the commands."""

import os
import sys

if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    try:
        # Importing takes time, in which Ctrl-C may come.
        try:
            from config.commands import Commands
        except ImportError as error:
            # This is an older Python, which must be able to read this file, or one without the packages.
            sys.exit("Error: " + str(error) + ". Run .venv/bin/python manage.py instead; `make setup` makes .venv.")

        Commands(sys.argv).execute()
    except KeyboardInterrupt:
        sys.exit("Interrupted.")
