"""The record of earlier downloads: a file of JSON lines beside the database.

It is not in the job table, which is pruned, nor in the output directory, where a cleanup of old
files would delete it. Lines are independent: delete one to have that item downloaded again.
"""

from __future__ import annotations

import fcntl
import json
import os
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jobq import JobQueue

from .names import digest


@dataclass(frozen=True, slots=True)
class Known:
    """An item in the record."""

    file: str | None  # None: not downloaded, since it was too old
    date: datetime | None
    source: str | None = None  # a digest of the URL of its file


_NOTHING = Known(None, None)


class Record:
    """The record of downloads into one directory."""

    def __init__(self, queue: JobQueue, directory: Path) -> None:
        database = queue.settings.database
        self.path = database.with_name(f"{database.stem}.downloads.jsonl")
        self._directory = str(directory)

    def read(self) -> dict[str, Known]:
        """Return the items by their keys. A line cut short by a power failure is skipped."""
        found: dict[str, Known] = {}
        try:
            lines = self.path.open("rb")
        except FileNotFoundError:
            return found
        with lines:
            for line in lines:
                with suppress(ValueError, KeyError, TypeError):
                    entry = json.loads(line)
                    if entry["directory"] == self._directory:
                        before = found.get(entry["item"], _NOTHING)
                        found[entry["item"]] = Known(
                            entry["file"] or before.file,
                            _moment(entry["date"]) or before.date,
                            entry.get("source") or before.source,
                        )
        return found

    def add(self, item: str, *, file: str | None, date: datetime | None, url: str) -> None:
        """Record an item of this URL, on disk when this returns. Safe in several processes at the same time."""
        entry = {
            "item": item,
            "directory": self._directory,
            "file": file,
            "date": date and date.isoformat(),
            "source": digest(url),
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        _append(self.path, json.dumps(entry).encode() + b"\n")


def _moment(text: Any) -> datetime | None:
    if text is None:
        return None
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _append(path: Path, line: bytes) -> None:
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    path.parent.mkdir(
        mode=0o700, exist_ok=True
    )  # where the database is on a server, or not yet made
    descriptor = os.open(path, flags, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        size = os.fstat(descriptor).st_size
        if size and os.pread(descriptor, 1, size - 1) != b"\n":
            line = b"\n" + line  # a power failure cut the last line short
        os.write(descriptor, line)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
