"""Disk space: supervisors start nothing while a disk has less free than is to be left."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from jobq.config.settings import SQLITE, Settings
from jobq.units import format_size

SETTING = "[logs] min_free"

_AUTO_MIN_FREE_BYTES = 200 << 20
_AUTO_MIN_FREE_SHARE = 1 / 20  # of a small disk


@dataclass(frozen=True, slots=True)
class Shortage:
    """A disk with less room than is to be left free."""

    path: Path
    free: int  # bytes
    wanted: int

    def __str__(self) -> str:
        return f"only {format_size(self.free)} free at {self.path}, and {SETTING} is {format_size(self.wanted)}"


class Disks:
    """The disks of logs and database. A shortage is reported once, and its end once."""

    def __init__(
        self, settings: Settings, on_message: Callable[[str], None] = lambda _: None
    ) -> None:
        self._directories = directories(settings)
        self._min_free = settings.min_free
        self._on_message = on_message
        self.shortage: Shortage | None = None
        """The first disk that was short of room when they were checked last."""

    def are_short(self) -> bool:
        """Check whether one of them is too full to start anything."""
        before, self.shortage = self.shortage, self.find_shortage()
        if self.shortage is not None and before is None:
            self._on_message(f"{self.shortage}: no jobs are started until there is more")
        elif self.shortage is None and before is not None:
            self._on_message("there is room on the disk again: jobs are started")
        return self.shortage is not None

    def find_shortage(self) -> Shortage | None:
        """Return the first disk that is short of room now; None if none is."""
        found = (shortage_at(path, self._min_free) for path in self._directories)
        return next((each for each in found if each is not None), None)


def shortage(settings: Settings) -> Shortage | None:
    """Return the first disk of logs and database that is short of room; None if none is."""
    return Disks(settings).find_shortage()


def directories(settings: Settings) -> tuple[Path, ...]:
    """Return the directories of logs and database, for a database that is a link, of its target."""
    if settings.backend != SQLITE:
        return (settings.log_dir,)
    return settings.log_dir, Path(os.path.realpath(settings.database)).parent


def shortage_at(path: Path, min_free: int | None) -> Shortage | None:
    """Return a shortage if less than ``min_free`` bytes are free where a directory is, or will be.

    None: what is left free by default.
    """
    try:
        disk = _disk(path)
    except OSError:  # whatever uses it reports what is wrong
        return None
    size, free = disk.f_blocks * disk.f_frsize, disk.f_bavail * disk.f_frsize
    if min_free is None:
        min_free = min(_AUTO_MIN_FREE_BYTES, int(size * _AUTO_MIN_FREE_SHARE))
    return Shortage(path, free, min_free) if free < min_free else None


def _disk(path: Path) -> os.statvfs_result:
    """Return the disk where a directory is, or will be made."""
    try:
        return os.statvfs(path)
    except FileNotFoundError:
        if path == path.parent:
            raise
        return _disk(path.parent)
