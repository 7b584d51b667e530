"""Checks of the private files of `jobq serve`: its key, its tokens, and who may read them."""

import json
import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from functools import partial
from pathlib import Path

from jobq.config.trust import distrust
from jobq.diagnostics.doctor.finding import Examination, Finding, ok, problem, warning
from jobq.limits import listed
from jobq.system.permissions import DIRECTORY_MODE, FILE_MODE

MIN_KEY_BYTES = 32


def check_serve(examined: Examination) -> Iterator[Finding]:
    """Find a key or tokens that others can read, a key that is too short, and expired tokens."""
    folder = examined.settings.serve_dir
    if not folder.is_dir():
        yield ok("serve", folder, "is not there: no token was made")
        return
    if (reason := distrust(folder)) is not None:
        what, _, remedy = reason.partition(": ")
        yield problem("serve", folder, what, remedy)
    found = [*_open_to_others(folder), *_key(folder / "key"), *_expired(examined, folder)]
    yield from found or [ok("serve", folder, "key and tokens are private")]


def _open_to_others(folder: Path) -> Iterator[Finding]:
    opened = [path for path in (folder, *folder.rglob("*")) if _is_open(path)]
    if opened:
        yield problem(
            "serve",
            folder,
            f"other users have access to {listed([path.name for path in opened])}",
            "`jobq doctor --fix` makes it private; then end all tokens with "
            "`jobq token rotate-key`: others may have read the key",
            partial(_make_private, opened),
        )


def _is_open(path: Path) -> bool:
    with suppress(OSError):
        mode = path.lstat().st_mode
        return bool(mode & 0o077) and not stat.S_ISLNK(mode)
    return False


def _make_private(paths: list[Path]) -> str:
    for path in paths:
        path.chmod(DIRECTORY_MODE if path.is_dir() else FILE_MODE)
    return f"files and directories made private: {len(paths)}"


def _key(file: Path) -> Iterator[Finding]:
    size = file.stat().st_size if file.exists() else MIN_KEY_BYTES
    if size < MIN_KEY_BYTES:
        yield problem(
            "serve key",
            file,
            f"is too short: {size} bytes of at least {MIN_KEY_BYTES}",
            f"delete it and run `jobq token rotate-key`, which ends all tokens: rm {file}",
        )


def _expired(examined: Examination, folder: Path) -> Iterator[Finding]:
    files = [file for file in (folder / "tokens").glob("*.json") if _is_expired(file, examined.now)]
    if files:
        yield warning(
            "tokens",
            folder / "tokens",
            f"expired tokens: {len(files)}",
            "`jobq doctor --fix` deletes them, as does a running `jobq serve` every hour",
            partial(_delete, files),
        )


def _is_expired(file: Path, now: datetime) -> bool:
    try:
        with open(os.open(file, os.O_RDONLY | os.O_NOFOLLOW), "rb") as opened:
            return now >= datetime.fromisoformat(json.load(opened)["expires_at"])
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _delete(files: list[Path]) -> str:
    for file in files:
        file.unlink(missing_ok=True)
    return f"expired tokens deleted: {len(files)}"
