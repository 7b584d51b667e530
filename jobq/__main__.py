"""``python -m jobq`` and the ``jobq`` command."""

import os
import sys
from contextlib import suppress

from jobq.job_types.worker import BUNDLED

INTERRUPTED = 130


def main() -> None:
    """Run the command line, and leave with its exit code."""
    try:
        from jobq.cli.main import run
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    _leave(run(sys.argv[1:]))


def _leave(code: int) -> None:
    """Leave without taking the interpreter apart, which takes a seventh of the time of `jobq add`.

    Not where workers were imported: they may have something to do at the end.
    """
    if BUNDLED in sys.modules:
        sys.exit(code)
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):  # where it could matter, `run` has flushed them
            stream.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
