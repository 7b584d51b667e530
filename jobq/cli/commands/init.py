"""``jobq init``: write the files of a new project."""

import os
import shlex
import sys
from importlib import resources
from pathlib import Path
from typing import Annotated

from jobq.cli.context import project_file
from jobq.cli.parsing.declarations import Argument, Context, option
from jobq.cli.rendering.output import confirmed, is_terminal, note
from jobq.errors import UsageError
from jobq.inert import inert
from jobq.system.permissions import (
    SHARED_DIRECTORY_MODE,
    SHARED_FILE_MODE,
    make_directory,
    open_file,
)

Directory = Annotated[
    str,
    Argument(
        metavar="[DIR]", help="The directory of the project (default: here); created if missing."
    ),
]

IGNORE_ALL = "*\n"


AUTOSTART_OFF = "# [work]\n# autostart = false"
AUTOSTART_ON = "[work]\nautostart = true  "


def command(
    ctx: Context,
    folder: Directory = ".",
    autostart: Annotated[
        bool, option("--autostart", help="Let jobs that are added start a supervisor.")
    ] = False,
) -> None:
    """Write jobq.toml, workers/ with an example, and logs/; keep files that exist.

    On a terminal, it asks if jobs that are added shall start a supervisor in the background where
    none is running.

    Examples:
        jobq init
        jobq init ~/media
    """
    del ctx
    directory = Path(folder)
    if directory.exists() and not directory.is_dir():
        raise UsageError(f"{directory}: not a directory")
    make_directory(directory / "workers", SHARED_DIRECTORY_MODE)
    make_directory(directory / "logs")
    make_directory(directory / ".jobq")
    templates = resources.files("jobq.templates")
    settings = templates.joinpath("jobq.toml").read_text("utf-8")
    if not (directory / "jobq.toml").exists() and (autostart or _wants_autostart()):
        settings = settings.replace(AUTOSTART_OFF, AUTOSTART_ON)
    _write(directory / "jobq.toml", settings)
    _write(
        directory / "workers" / "hello.py",
        templates.joinpath("example_worker.py").read_text("utf-8"),
    )
    _write(directory / "logs" / ".gitignore", IGNORE_ALL)
    _write(directory / ".jobq" / ".gitignore", IGNORE_ALL)
    note("Next:")
    if directory.resolve() != Path.cwd():
        note(f"  cd {shlex.quote(str(directory))}")
    note("  jobq add -- echo hello      add a command; or a job: jobq add hello name=you")
    note("  jobq up                     run jobs in the background; jobq down ends that")
    note("  jobq work --drain           run the jobs there are, and exit")
    note("  jobq list                   see what became of them")


def _wants_autostart() -> bool:
    """Return the answer of the person at the terminal; without a terminal, do not ask."""
    question = "Run jobs in the background as soon as they are added ([work] autostart)?"
    return is_terminal() and sys.stdin.isatty() and sys.stderr.isatty() and confirmed(question)


def _write(file: Path, text: str) -> None:
    """Create a file; keep one that exists."""
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        with open(open_file(file, flags, mode=SHARED_FILE_MODE), "w", encoding="utf-8") as new:
            new.write(text)
    except FileExistsError:
        print(inert(f"kept {project_file(file)}"))
    else:
        print(inert(f"created {project_file(file)}"))
