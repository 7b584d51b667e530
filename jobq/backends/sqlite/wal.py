"""A write-ahead log from outside, as https://www.sqlite.org/fileformat2.html#walformat has it.

SQLite takes a log whose header it can't read for an empty one, and writes over it. What was
committed to it would be lost without a word.
"""

import os
import struct
from pathlib import Path

from jobq.errors import DatabaseDamagedError

_HEADER = struct.Struct(">8L")
_FRAME_HEADER = 24
_MAGIC = 0x377F0682
"""Of a log with little-endian checksums; its last bit is set where they are big-endian."""


def require_log(path: Path) -> None:
    """Refuse a file that is there and no write-ahead log.

    To read it does not let go of locks, as reading the database would: SQLite keeps none on it.

    Raises:
        DatabaseDamagedError: it is something else, or its header is damaged.
        OSError: it can't be read.
    """
    with path.open("rb") as file:
        header = file.read(_HEADER.size)
    if header.strip(b"\0") and not _is_whole(header):
        raise DatabaseDamagedError(
            f"{path}: not a write-ahead log of SQLite, or damaged; left untouched: restore a "
            "backup, or move this file away to go on with what the database itself holds"
        )


def reaches(log: int, size: int) -> bool:
    """Whether so many bytes of an open file are of the present log.

    SQLite begins anew at the start of the file: what is behind the present log is of an earlier one,
    whose frames have another salt than its header.
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
