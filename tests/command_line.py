"""The command line in the test's own process."""

import sys

from heatproof import cli


def heatproof(*words: str) -> int:
    """The exit status of ``heatproof WORDS``."""
    argv, sys.argv = sys.argv, ["heatproof", *words]
    try:
        cli.main()
    except SystemExit as stop:
        return int(stop.code or 0)
    finally:
        sys.argv = argv
    return 0
