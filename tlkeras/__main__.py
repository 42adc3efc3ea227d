"""Runs the command line: `python -m tlkeras`."""

import sys

from tlkeras import cli

if __name__ == "__main__":
    sys.exit(cli.main())
