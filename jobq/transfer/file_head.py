"""The beginning of a file of rows: its format, and files that are not text or not in lines."""

import re
import shlex
from io import BufferedReader, BytesIO, RawIOBase
from typing import Any, BinaryIO

HEAD_BYTES = 4096

UTF_16 = (b"\xff\xfe", b"\xfe\xff")
"""The first bytes of files in UTF-16, in either byte order."""

_UTF_32 = (b"\xff\xfe\0\0", b"\0\0\xfe\xff")
_COMPRESSED = {
    b"\x1f\x8b": ("gzip", ".gz"),
    b"BZh": ("bzip2", ".bz2"),
    b"\xfd7zXZ\0": ("xz", ".xz"),
    b"\x28\xb5\x2f\xfd": ("zstd", ".zst"),
}
_SHEETS = (".xlsx", ".xlsm", ".ods", ".xls", ".xlsb")
_MAC_LINES = re.compile(rb'[^"\r\n]*\r\s*[^\s]')
_MAC_OBJECTS = re.compile(rb"[^\n]*\}\s*\r\s*\{")


def peek(source: Any) -> tuple[bytes, BinaryIO]:
    """Return the first bytes of a file, and the file with them still to be read.

    A pipe gives what has been written so far, so all of these bytes are waited for.
    """
    if source.seekable():
        return source.peek(HEAD_BYTES)[:HEAD_BYTES], source
    head = source.read(HEAD_BYTES)
    return head, BufferedReader(_Rejoined(head, source))


class _Rejoined(RawIOBase):
    """Bytes that were read from a stream, and then the rest of it."""

    def __init__(self, head: bytes, rest: Any) -> None:
        self._head = BytesIO(head)
        self._rest = rest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._head.read(len(buffer)) or self._rest.read1(len(buffer))
        buffer[: len(data)] = data
        return len(data)


def utf_16(head: bytes) -> str | None:
    """Return the problem of a text in UTF-16 that says so in its first bytes."""
    return _encoded("UTF-16") if head.startswith(UTF_16) else None


def problem_of(head: bytes, name: str, kind: str | None) -> str | None:
    """Return what a file is that is not made of rows in UTF-8, and the command that helps."""
    file = "FILE" if name == "stdin" else shlex.quote(name)
    for magic, (method, ending) in _COMPRESSED.items():
        if head.startswith(magic):
            inner = kind or _kind_within(name.lower().removesuffix(ending))
            return (
                f"compressed with {method}: unpack it with "
                f"`{method} -dc {file} | jobq import - --format {inner}`"
            )
    if head.startswith((b"PK\x03\x04", b"\xd0\xcf\x11\xe0")):
        is_sheet = name.lower().endswith(_SHEETS) or head.startswith(b"\xd0") or b"xl/" in head
        what = "a spreadsheet" if is_sheet else "a zip archive or a spreadsheet"
        return (
            f"{what}, not text: save it as CSV in UTF-8, e.g. with "
            f"`soffice --headless --convert-to csv {file}`"
        )
    if head.startswith(_UTF_32):
        return _encoded("UTF-32")
    if head.startswith(UTF_16):
        return _encoded("UTF-16")
    if b"\0" in head:
        return _with_nuls(head)
    return _old_lines(head, file, kind)


def _kind_within(name: str) -> str:
    """Return the format to name for the file inside a compressed one."""
    ending = name.rpartition(".")[2]
    known = {"tsv": "tsv", "tab": "tsv", "json": "json", "jsonl": "jsonl", "ndjson": "jsonl"}
    return known.get(ending, "csv")


def _encoded(encoding: str) -> str:
    return f"{encoding}, not UTF-8: convert it with `iconv -f {encoding} -t UTF-8`"


def _with_nuls(head: bytes) -> str | None:
    """Return the problem of a file with NUL bytes: UTF-16 without a mark has them in turns."""
    for encoding, place in (("UTF-16LE", 1), ("UTF-16BE", 0)):
        if not any(head[place:32:2]) and all(head[1 - place : 32 : 2]):
            return _encoded(encoding)
    if any(byte < 9 for byte in head[:16]):
        return "a binary file, not text: give jsonl, json, csv or tsv"
    return None


def _old_lines(head: bytes, file: str, kind: str | None) -> str | None:
    """Return the problem of a file whose lines end with a carriage return alone."""
    if kind == "json" or head.lstrip().startswith(b"[") or b"\n" in head:
        return None
    lines = _MAC_OBJECTS if head.lstrip().startswith(b"{") else _MAC_LINES
    if not lines.match(head):
        return None
    return (
        "its lines end with a carriage return alone: convert it with "
        f"`tr '\\r' '\\n' < {file} | jobq import - --format {kind or 'csv'}`"
    )
