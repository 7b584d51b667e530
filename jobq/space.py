"""Whether the disks have room for more jobs."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from jobq.config import SQLITE, Settings

SETTING = "[logs] min_free"

_AUTO = 200 << 20
_AUTO_SHARE = 20  # of a small disk, one part in so many


@dataclass(frozen=True, slots=True)
class Shortage:
    """A disk with less room than is to be left free."""

    path: Path
    free: int  # bytes
    wanted: int

    def __str__(self) -> str:
        return f"only {_size(self.free)} free at {self.path}, and {SETTING} is {_size(self.wanted)}"


def shortage(settings: Settings) -> Shortage | None:
    """The first disk, of the logs' and the database's, that is short of room; None if none is."""
    return first_shortage(disks(settings), settings.min_free)


def first_shortage(directories: Iterable[Path], least: int | None) -> Shortage | None:
    """The first of these directories whose disk has less than ``least`` bytes free, if any."""
    found = (shortage_at(path, least) for path in directories)
    return next((short for short in found if short is not None), None)


def disks(settings: Settings) -> tuple[Path, ...]:
    """The directories of logs and database; a database that is a link is where that leads to."""
    if settings.backend != SQLITE:
        return (settings.log_dir,)
    return settings.log_dir, Path(os.path.realpath(settings.database)).parent


def shortage_at(path: Path, least: int | None) -> Shortage | None:
    """Whether less than ``least`` bytes are free where a directory is, or will be made."""
    try:
        disk = _disk(path)
    except OSError:  # to use it will say what is wrong
        return None
    size, free = disk.f_blocks * disk.f_frsize, disk.f_bavail * disk.f_frsize
    wanted = min(_AUTO, size // _AUTO_SHARE) if least is None else least
    return Shortage(path, free, wanted) if free < wanted else None


def _disk(path: Path) -> os.statvfs_result:
    """The disk where a directory is, or will be made."""
    try:
        return os.statvfs(path)
    except FileNotFoundError:
        if path == path.parent:
            raise
        return _disk(path.parent)


def _size(size: int) -> str:
    """A size as people, and `[logs]`, write it."""
    for unit, power in (("GB", 30), ("MB", 20), ("KB", 10)):
        if size >= 1 << power:
            return f"{size / (1 << power):.1f}".removesuffix(".0") + f" {unit}"
    return f"{size} bytes"
