"""The header of a write-ahead log: https://www.sqlite.org/fileformat2.html#walformat.

SQLite treats a log with a damaged header as empty, and overwrites it. The transactions committed to
it would be lost silently.
"""

import os
import struct
from pathlib import Path

from jobq.errors import DatabaseDamagedError

_HEADER = struct.Struct(">8L")
_FRAME_HEADER = 24
_MAGIC = 0x377F0682
"""The magic number of a log with little-endian checksums; the last bit is set for big-endian ones."""


def require_log(path: Path) -> None:
    """Refuse an existing file that is not a write-ahead log.

    Reading it does not drop locks, as reading the database would: SQLite holds none on it.

    Raises:
        DatabaseDamagedError: it is something else, or its header is damaged.
        OSError: it can't be read.
    """
    with path.open("rb") as file:
        header = file.read(_HEADER.size)
    if header.strip(b"\0") and not _is_whole(header):
        raise DatabaseDamagedError(
            f"{path}: not a write-ahead log of SQLite, or damaged; left untouched: restore a "
            "backup, or move this file away to continue with what the database itself holds"
        )


def require_no_frames(database: Path, path: Path) -> None:
    """Refuse a log with transactions beside a database that is missing or empty.

    SQLite would delete it. Whoever has moved the database away may put it back.

    Raises:
        DatabaseDamagedError: there is one.
        OSError: it can't be examined.
    """
    try:
        size = os.lstat(path).st_size
    except FileNotFoundError:
        return
    if size > _HEADER.size:
        raise DatabaseDamagedError(
            f"{path}: holds changes to a database, and {database.name} is missing or empty; left "
            f"untouched: put {database.name} back, or move this file away to begin anew"
        )


def reaches(log: int, size: int) -> bool:
    """Return whether the current log in an open file is at least ``size`` bytes long.

    SQLite restarts the log at the start of the file: frames behind the current log belong to an
    earlier one, and have another salt than the header.
    """
    header = os.pread(log, _HEADER.size, 0)
    frame = _FRAME_HEADER + int.from_bytes(header[8:12], "big")
    last = (size - _HEADER.size) // frame * frame + _HEADER.size
    return bool(header) and os.pread(log, 8, last + 8) == header[16:24]


def _is_whole(header: bytes) -> bool:
    if len(header) < _HEADER.size:
        return False
    magic = _HEADER.unpack(header)[0]
    if magic | 1 != _MAGIC | 1:
        return False
    words = struct.unpack(">6L" if magic & 1 else "<6L", header[:24])
    first = second = 0
    for even, odd in zip(words[::2], words[1::2], strict=True):
        first = (first + even + second) & 0xFFFFFFFF
        second = (second + odd + first) & 0xFFFFFFFF
    return (first, second) == _HEADER.unpack(header)[6:]
