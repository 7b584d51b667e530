"""The entry point: run one command line, and report any error as one line."""

import os
import sys
import warnings
from errno import EDQUOT, EMFILE, ENOSPC

from jobq.cli.command_table import GROUPS, READING_VERBS, VERBS
from jobq.cli.context import INTERRUPTED, ReaderLeftError, complain
from jobq.cli.parsing import fast_parser, shorthand
from jobq.cli.rendering import streams
from jobq.config.environment import COMPLETE_VAR
from jobq.errors import DiskFullError, JobqError

_DISK_FULL = (ENOSPC, EDQUOT)
_REMEDIES = {
    **dict.fromkeys(_DISK_FULL, ": free some disk space and try again"),
    EMFILE: ": raise the limit of open files (`ulimit -n`) and try again",
}


def run(argv: list[str]) -> int:
    """Run one command line and return its exit code. Errors are one line on stderr."""
    streams.prepare()
    argv = shorthand.expanded(argv)
    warnings.showwarning = lambda message, *_: complain(str(message))
    if _changes_something(argv):
        streams.go_on_without_output()
    try:
        code = _run(argv)
        sys.stdout.flush()
        _report_dropped_output()
    except (ReaderLeftError, BrokenPipeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # for output that is still buffered
        return 0
    except (JobqError, OSError) as error:
        _trace(argv)
        return _failed(error)
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception as error:  # noqa: BLE001 - the edge of the program
        _trace(argv)
        complain(f"{type(error).__name__}: {error} (a bug in jobq: --debug shows where)")
        return 1
    return code


def _run(argv: list[str]) -> int:
    if COMPLETE_VAR in os.environ:
        from jobq.cli.parsing import shell_completion

        if (answer := shell_completion.answer(os.environ)) is not None:
            return answer.give()
    else:
        argv = shorthand.with_separator(argv)
    if COMPLETE_VAR not in os.environ and (call := fast_parser.call_of(argv)) is not None:
        return call()
    from jobq.cli.parsing.typer_app import run_with_typer  # takes three times as long as the rest

    return run_with_typer(argv)


def _verb_of(argv: list[str]) -> str | None:
    return next((word for word in argv if word in VERBS), None)


def _changes_something(argv: list[str]) -> bool:
    verb = _verb_of(argv)
    if verb in GROUPS:
        return READING_VERBS.isdisjoint(argv[argv.index(verb) + 1 :][:1])
    return verb is not None and verb not in READING_VERBS


def _report_dropped_output() -> None:
    if (failure := streams.output_failure()) is not None:
        complain(
            f"stdout: {failure.strerror}: output was lost, but all changes were made: see "
            "`jobq list`"
        )


def _trace(argv: list[str]) -> None:
    verb = _verb_of(argv)
    if "--debug" in argv[: argv.index(verb) if verb else len(argv)]:
        import traceback  # only here

        traceback.print_exc()


def _failed(error: JobqError | OSError) -> int:
    """Report an error and return its exit code."""
    if isinstance(error, JobqError):
        complain(str(error))
        return error.exit_code
    full = error.errno in _DISK_FULL
    if isinstance(error, streams.OutputError):
        complain(f"{_os_error(error)}: output was lost")
        return DiskFullError.exit_code if full else 1
    complain(_os_error(error) + _REMEDIES.get(error.errno or 0, ""))
    return DiskFullError.exit_code if full else 1


def _os_error(error: OSError) -> str:
    """Return the message of an OS error, with its file."""
    what = error.strerror or str(error)
    return what if error.filename is None else f"{os.fsdecode(error.filename)}: {what}"
