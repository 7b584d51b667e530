"""Artifacts: the files that a job has left in ``artifacts/`` of its log directory, for keeps.

The job can put anything there: links are not followed, and only regular files are read.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import NamedTuple

from jobq.logs.directory import JobLog, open_directory, open_regular

FOLDER = "artifacts"
MAX_LISTED = 1000


class Artifact(NamedTuple):
    """A file that a job has left."""

    name: str
    size: int  # bytes
    modified_at: datetime


def list_artifacts(log: JobLog) -> list[Artifact]:
    """Return the first `MAX_LISTED` artifacts of a job, by name.

    Names that are no UTF-8 are left out: no URL can hold them.
    """
    found: list[Artifact] = []
    with _folder(log) as folder:
        for name in sorted(os.listdir(folder) if folder is not None else ()):  # noqa: PTH208 - of a descriptor
            if len(found) < MAX_LISTED and _is_utf8(name):
                with _open(folder, name) as descriptor:
                    if descriptor is not None:
                        found.append(_artifact(name, descriptor))
    return found


@contextmanager
def open_artifact(log: JobLog, name: str) -> Iterator[tuple[Artifact, int] | None]:
    """Open an artifact by its name, which is no path; None if there is no such file."""
    with _folder(log) as folder, _open(folder, name) as descriptor:
        yield None if descriptor is None else (_artifact(name, descriptor), descriptor)


@contextmanager
def _folder(log: JobLog) -> Iterator[int | None]:
    try:
        descriptor = open_directory(FOLDER, log.descriptor)
    except OSError:  # mostly, there is none
        yield None
        return
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def _open(folder: int | None, name: str) -> Iterator[int | None]:
    descriptor = None
    if folder is not None and name not in ("", ".", "..") and not {"/", "\0"} & set(name):
        try:
            descriptor = open_regular(name, folder)
        except OSError:
            descriptor = None
    try:
        yield descriptor
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _artifact(name: str, descriptor: int) -> Artifact:
    found = os.fstat(descriptor)
    return Artifact(name, found.st_size, datetime.fromtimestamp(found.st_mtime, UTC))


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
