"""Programs: started as shells start them, and why one can't be."""

import errno
import os
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any

Environment = Mapping[bytes, bytes]

_HEAD_BYTES = 256
"""Bytes of a file that tell what it is: as many as Linux reads of a script's first line."""


def start(
    argv: Sequence[str], *, cwd: str | None, env: Environment, **options: Any
) -> "subprocess.Popen[bytes]":
    """Start a program; a script whose first line names no interpreter is run by ``sh``.

    Raises:
        OSError: it can't be started.
        ValueError: an argument contains a NUL byte.
    """
    env = {**env, b"PWD": os.fsencode(_pwd(cwd))} if cwd is not None else env
    try:
        return subprocess.Popen(argv, cwd=cwd, env=env, **options)
    except OSError as error:
        if error.errno != errno.ENOEXEC:
            raise
        file = _find(argv[0], cwd, env)
        if file is None or b"\0" in _head(file).partition(b"\n")[0]:  # not a text
            raise
        return subprocess.Popen(["/bin/sh", file, *argv[1:]], cwd=cwd, env=env, **options)


def require(command: str, cwd: str | None, env: Environment) -> None:
    """Check that a command is there, can be executed, and has its interpreter.

    Raises:
        OSError: it is not, as `start` raises it.
    """
    file = _find(command, cwd, env)
    if file is None:
        is_there = "/" in command and os.path.exists(os.path.join(cwd or os.curdir, command))
        number = errno.EACCES if is_there else errno.ENOENT
        raise OSError(number, os.strerror(number), command)
    first = _head(file).partition(b"\n")[0]
    words = first[2:].strip(b" \t").split(b" ", 1) if first.startswith(b"#!") else []
    if (
        words
        and words[0]
        and not os.path.exists(os.path.join(os.fsencode(cwd or os.curdir), words[0]))
    ):
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), command)


def bad_interpreter(command: str, cwd: str | None, env: Environment) -> str | None:
    """Return what is wrong with the interpreter of a command that was not found, though it is there.

    None: it is not there.
    """
    file = _find(command, cwd, env)
    if file is None:
        return None
    first, _, _ = _head(file).partition(b"\n")
    if not first.startswith(b"#!"):
        return f"{command}: can't be executed: it, or its loader, is for another system"
    words = first[2:].split(None, 1)
    name = os.fsdecode(words[0].rstrip(b"\r")) if words else ""
    if first.endswith(b"\r"):
        return (
            f"{command}: its interpreter {name!r} is not found, since the file has the line ends "
            "of Windows: remove them with `sed -i 's/\\r$//'`"
        )
    return f"{command}: its interpreter {name!r} is not found: correct its first line"


def _pwd(cwd: str) -> str:
    """Return $PWD for a directory: its path as it was given, if that may be one."""
    parts = cwd.split("/")
    return os.path.realpath(cwd) if ".." in parts or "." in parts else cwd


def _find(command: str, cwd: str | None, env: Environment) -> bytes | None:
    """Return the file that a command is, looked for as it is when it is executed."""
    name, here = os.fsencode(command), os.fsencode(cwd or os.curdir)
    path = env.get(b"PATH", os.fsencode(os.defpath))
    for place in [b""] if b"/" in name else path.split(b":"):
        file = os.path.join(here, place, name)
        if os.path.isfile(file) and os.access(file, os.X_OK):
            return file
    return None


def _head(file: bytes) -> bytes:
    try:
        with open(file, "rb") as opened:
            return opened.read(_HEAD_BYTES)
    except OSError:
        return b"\0"
