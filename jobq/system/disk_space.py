"""Whether the disks have room for more jobs."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from jobq.config.settings import SQLITE, Settings
from jobq.units import format_size

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
        return f"only {format_size(self.free)} free at {self.path}, and {SETTING} is {format_size(self.wanted)}"


class Disks:
    """Whether there is room for more jobs: told once where there is not, and once when there is."""

    def __init__(self, settings: Settings, tell: Callable[[str], None] = lambda _: None) -> None:
        self._directories = directories(settings)
        self._least = settings.min_free
        self._tell = tell
        self.shortage: Shortage | None = None
        """The first disk that was short of room at the last look."""

    def are_short(self) -> bool:
        """Look whether one of them is too full to start anything."""
        before, self.shortage = self.shortage, self.find_shortage()
        if self.shortage is not None and before is None:
            self._tell(f"{self.shortage}: nothing is started until there is more")
        elif self.shortage is None and before is not None:
            self._tell("there is room on the disk again: going on")
        return self.shortage is not None

    def find_shortage(self) -> Shortage | None:
        """The first disk that is short of room now; None if none is."""
        found = (shortage_at(path, self._least) for path in self._directories)
        return next((each for each in found if each is not None), None)


def shortage(settings: Settings) -> Shortage | None:
    """The first disk, of the logs' and the database's, that is short of room; None if none is."""
    return Disks(settings).find_shortage()


def directories(settings: Settings) -> tuple[Path, ...]:
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
