"""``python -m jobq`` and the ``jobq`` command."""

import sys

INTERRUPTED = 130


def main() -> None:
    """Run the command line, and leave with its exit code."""
    try:
        from jobq.cli.main import run
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
