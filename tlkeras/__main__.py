"""Runs the command line: `tlkeras`, `python -m tlkeras`."""

import sys


def main() -> int:
    """Runs the process's command, and returns its exit status."""
    try:
        from tlkeras import cli
    except KeyboardInterrupt:
        # To import it takes half a second.
        sys.stderr.write("tlkeras: interrupted\n")
        return 130
    return cli.main()


if __name__ == "__main__":
    sys.exit(main())
