"""The private files of `jobq serve`: the directory `serve/` beside the database."""

import json
import os
import secrets
from contextlib import suppress
from pathlib import Path
from typing import Any

from jobq.config.trust import refuse_foreign
from jobq.errors import ConfigError
from jobq.system.permissions import DIRECTORY_MODE, make_directory, open_file

MAX_FILE_BYTES = 64 << 10


def make_private(folder: Path) -> None:
    """Make a directory of `serve/` that only its owner can enter.

    Raises:
        ConfigError: it is another user's, or others may write to it.
        OSError: it can't be made.
    """
    make_directory(folder)
    refuse_foreign(folder)
    mode = folder.stat().st_mode
    if mode & 0o077:
        raise ConfigError(
            f"{folder}: other users may read it (mode {mode & 0o777:04o}): run "
            f"`chmod {DIRECTORY_MODE:o} {folder}`"
        )


def write_private(path: Path, data: bytes, *, replace: bool = True) -> None:
    """Write a file of mode 0600 that appears at its path as a whole.

    Raises:
        FileExistsError: it is there already, and is not to be replaced.
        OSError: it can't be written.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    try:
        with open(open_file(temporary, flags), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if replace:
            temporary.replace(path)
        else:
            path.hardlink_to(temporary)
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()


def write_document(path: Path, document: dict[str, Any], *, replace: bool = True) -> None:
    """Write a JSON object as `write_private` writes bytes."""
    write_private(path, json.dumps(document).encode() + b"\n", replace=replace)


def read_document(path: Path) -> dict[str, Any] | None:
    """Return the JSON object in a file; None if there is no such file, or none in it."""
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as file:
            document = json.loads(file.read(MAX_FILE_BYTES))
    except (OSError, ValueError):
        return None
    return document if isinstance(document, dict) else None
