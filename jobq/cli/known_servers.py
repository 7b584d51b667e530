"""The servers that jobs are sent to: the first time that a jobq.toml found by search names one.

Whoever works in a directory that another person wrote sees where arguments and variables go.
"""

import os
import sys
from contextlib import suppress
from pathlib import Path

from jobq.cli.rendering.output import note
from jobq.config.environment import BACKEND_VAR, CONFIG_VAR
from jobq.config.loader import is_users_file, user_directory
from jobq.config.settings import Settings
from jobq.system.permissions import make_directory, open_file

FILE_NAME = "servers"
_MAX_BYTES = 1_000_000


def tell_once(settings: Settings, named: str | None) -> None:
    """Say on a terminal to which server jobs go, unless that was said before, or asked for."""
    path = settings.path
    asked_for = named or os.environ.get(CONFIG_VAR) or os.environ.get(BACKEND_VAR)
    if path is None or asked_for or is_users_file(path) or not sys.stderr.isatty():
        return
    state = user_directory("state")
    known = state / FILE_NAME if state else None
    line = f"{path.resolve()}\t{settings.backend_shown}\n".encode(errors="surrogateescape")
    if known and line in _lines(known):
        return
    shown = path.name if path.parent == Path.cwd() else path
    what = f"{shown} sends jobs, with their arguments and variables, to"
    note(f"{what} {settings.backend_shown} (said once)")
    if known is None:  # a user without a home: it is said each time
        return
    with suppress(OSError):  # then it is said again
        make_directory(known.parent)
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW
        with open(open_file(known, flags), "ab") as file:
            file.write(line)


def _lines(file: Path) -> list[bytes]:
    with suppress(OSError), file.open("rb") as opened:
        return opened.read(_MAX_BYTES).splitlines(keepends=True)
    return []
