"""The header of a write-ahead log, as https://www.sqlite.org/fileformat2.html#walformat has it.

SQLite takes a log whose header it can't read for an empty one, and writes over it. What was
committed to it would be lost without a word.
"""

import struct
from pathlib import Path

from jobq.errors import DatabaseDamagedError

_HEADER = struct.Struct(">8L")
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
