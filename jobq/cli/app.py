"""The ``jobq`` command: finds the module of the verb asked for, and turns errors into one line.

Typer builds every command that it knows of at start; so each verb is imported when it is asked for.
"""

import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from errno import EDQUOT, ENOSPC
from importlib import import_module
from io import TextIOWrapper
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from jobq import config
from jobq.bounds import bounded_text
from jobq.cli.output import inert
from jobq.config import Settings
from jobq.errors import DiskFullError, JobqError
from jobq.queue import JobQueue

VERBS = {
    "init": "jobq.cli.init",
    "add": "jobq.cli.add",
    "list": "jobq.cli.list",
    "show": "jobq.cli.show",
    "explain": "jobq.cli.explain",
    "tail": "jobq.cli.tail",
    "cancel": "jobq.cli.cancel",
    "retry": "jobq.cli.retry",
    "wait": "jobq.cli.wait",
    "run": "jobq.cli.run",
    "work": "jobq.cli.work",
    "import": "jobq.cli.import_",
    "export": "jobq.cli.export",
    "queue": "jobq.cli.queue",
    "schedule": "jobq.cli.schedule",
    "service": "jobq.cli.service",
    "types": "jobq.cli.types",
    "stats": "jobq.cli.stats",
    "prune": "jobq.cli.prune",
    "verify": "jobq.cli.verify",
    "config": "jobq.cli.config",
    "doctor": "jobq.cli.doctor",
    "backup": "jobq.cli.backup",
    "version": "jobq.cli.version",
}
"""Every verb and its module, in the order of ``jobq --help``."""

INTERRUPTED = 130

_LONGEST_COMPLAINT = 4000

_NAMES_ONLY = "jobq.names_only"


class _ReaderLeftError(Exception):
    """Whoever read our output has left: neither an error nor worth a message."""


@dataclass(slots=True)
class Cli:
    """What the options before the verb say."""

    config: str | None = None
    color: bool = True
    draws: bool = True  # what is on the terminal can be drawn anew
    debug: bool = False

    def settings(self) -> Settings:
        """The settings that this command works with."""
        return config.load(self.config)

    @contextmanager
    def queue(self) -> Iterator[JobQueue]:
        """The queue that this command works on."""
        with JobQueue.from_settings(self.settings()) as queue:
            yield queue


class Verbs(TyperGroup):
    """The verbs, each imported when it is asked for."""

    def list_commands(self, ctx: Any) -> list[str]:
        del ctx
        return list(VERBS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in VERBS:
            return None
        if ctx.meta.get(_NAMES_ONLY):
            return TyperCommand(cmd_name, help=_title(VERBS[cmd_name]))
        command = typer.main.get_command(import_module(VERBS[cmd_name]).app)
        command.name = cmd_name
        return command

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError as error:  # which Typer would make exit code 1
            raise _ReaderLeftError from error

    def shell_complete(self, ctx: Any, incomplete: str) -> Any:
        """The verbs that a word may become: to import them all would take long."""
        ctx.meta[_NAMES_ONLY] = True
        try:
            return super().shell_complete(ctx, incomplete)
        finally:
            del ctx.meta[_NAMES_ONLY]


def _title(module: str) -> str:
    """What a module says it is about, read from its first line."""
    with Path(__file__).with_name(f"{module.rpartition('.')[2]}.py").open(encoding="utf-8") as file:
        return file.readline().partition(": ")[2].strip('."\n')


app = typer.Typer(
    cls=Verbs,
    help="A durable job runner: add commands and jobs, let `jobq work` run them, see what they did.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        from jobq.cli.version import installed

        print("jobq", installed())
        raise typer.Exit


@app.callback()
def options(
    ctx: typer.Context,
    config_file: Annotated[
        str | None, typer.Option("--config", metavar="FILE", help="Use this jobq.toml.")
    ] = None,
    no_color: Annotated[bool, typer.Option("--no-color", help="Print without colours.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    del version
    dumb = os.environ.get("TERM") == "dumb"
    color = not (no_color or os.environ.get("NO_COLOR") or dumb)
    ctx.obj = Cli(config_file, color, not dumb, debug)


def run(argv: list[str]) -> int:
    """Run one command line; the exit code. Whatever goes wrong is one line on stderr."""
    if "_JOBQ_COMPLETE" in os.environ:
        from jobq.cli.completion import without_markup

        without_markup()
    if len(argv) == 2 and argv[0] in ("--install-completion", "--show-completion"):
        # The shell is named: left to itself, Typer would pass over that, and take the one around.
        os.environ["_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION"] = "1"
    _prepare_streams()
    debug = "--debug" in argv[: _verb_at(argv)]
    try:
        code = app(argv, prog_name="jobq", standalone_mode=False)
        sys.stdout.flush()
    except typer.TyperException as error:
        return _usage(error)
    except (_ReaderLeftError, BrokenPipeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # for what is still buffered
        return 0
    except (JobqError, OSError) as error:
        if debug:
            traceback.print_exc()
        return _failed(error)
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception as error:  # noqa: BLE001 - the edge of the program
        if debug:
            traceback.print_exc()
        complain(f"{type(error).__name__}: {error} (a bug in jobq: --debug shows where)")
        return 1
    return code if isinstance(code, int) else 0


def _prepare_streams() -> None:
    """Text is UTF-8, whatever the locale (cron has none); a closed stream swallows what comes."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
        elif isinstance(stream, TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")


def complain(message: str) -> None:
    """One line on stderr."""
    print(f"jobq: {inert(bounded_text(message, _LONGEST_COMPLAINT))}", file=sys.stderr)


def _failed(error: JobqError | OSError) -> int:
    """Say what went wrong; the exit code."""
    if isinstance(error, JobqError):
        complain(str(error))
        return error.exit_code
    full = error.errno in (ENOSPC, EDQUOT)
    complain(_os_error(error) + (": free some disk space and try again" if full else ""))
    return DiskFullError.exit_code if full else 1


def _os_error(error: OSError) -> str:
    """What went wrong, and where; what to do about it is for the reader to tell."""
    what = error.strerror or str(error)
    return what if error.filename is None else f"{os.fsdecode(error.filename)}: {what}"


def _verb_at(argv: list[str]) -> int:
    return next((place for place, word in enumerate(argv) if word in VERBS), len(argv))


def _usage(error: typer.TyperException) -> int:
    text = error.format_message() if hasattr(error, "format_message") else str(error)
    if ctx := getattr(error, "ctx", None):
        if type(error).__name__ == "NoArgsIsHelpError":
            print(ctx.get_help())
            return 2
        text = f"{text.rstrip('.')}: see `{ctx.command_path} --help`"
    complain(text)
    return getattr(error, "exit_code", 2)


def project_file(path: Path) -> str:
    """A path as people type it: relative where that is shorter."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
