"""``python -m jobq`` and the ``jobq`` command."""

import os
import sys

INTERRUPTED = 130
FAILED = 1

EXIT_TIMEOUT_S = 10.0
"""Longest time for what worker files have begun at import, such as threads, to come to an end."""


def main() -> None:
    """Run the command line, and leave with its exit code.

    A Ctrl-C while modules are imported, or at the very end, ends the process at once, as it does a
    program that does not handle it.
    """
    # `signal` itself takes longer, and its import could be interrupted.
    import _signal as signal  # type: ignore[import-not-found]

    handled = signal.getsignal(signal.SIGINT) is signal.default_int_handler  # else it is ignored
    if handled:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        from jobq.cli.main import run
    except OSError as error:
        _fail(error)
    try:
        if handled:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        code = run(sys.argv[1:])
    except KeyboardInterrupt:
        code = INTERRUPTED
    if handled:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    _leave(code)


def _fail(error: OSError) -> None:
    """End with a line about a module that can't be read, as where no file can be opened."""
    os.write(2, f"jobq: {error.filename}: {error.strerror}\n".encode())
    os._exit(FAILED)


def _leave(code: int) -> None:
    """Leave without taking the interpreter apart, which takes a seventh of the time of `jobq add`.

    Not where workers were imported: they may have something to do at the end.
    """
    from jobq.job_types.worker import BUNDLED

    for stream in (sys.stdout, sys.stderr):
        try:  # noqa: SIM105 - contextlib would be imported before a Ctrl-C is handled
            stream.flush()
        except OSError:
            pass  # where it could matter, `run` has flushed them
    if BUNDLED in sys.modules:
        import threading

        timer = threading.Timer(EXIT_TIMEOUT_S, os._exit, [code])
        timer.daemon = True
        try:  # noqa: SIM105 - as above
            timer.start()
        except RuntimeError:
            pass  # the host has no room for another thread
        sys.exit(code)
    os._exit(code)


if __name__ == "__main__":
    main()
