"""Files of rows: JSON Lines, JSON, CSV and TSV, read one row at a time with the line it begins on.

Not with sqlite-utils' readers: those keep no line numbers, read a JSON file whole, and stop at the
first damaged row; here each damaged row is reported with the others.
"""

import csv
import json
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from io import TextIOWrapper
from pathlib import PurePath
from typing import Any, BinaryIO, NamedTuple, Self, TextIO

from jobq.errors import UsageError
from jobq.job_types.argument_text import STRICT_JSON
from jobq.redaction import Redaction

FORMATS = ("jsonl", "json", "csv", "tsv")
MAX_ROW_BYTES = 16 * 1024 * 1024
"""A longer row is most likely a quote that is never closed."""

_ENDINGS = {
    ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "json", ".csv": "csv", ".tsv": "tsv",
    ".tab": "tsv",
}  # fmt: skip
_BOM = b"\xef\xbb\xbf"
_BLOCK_CHARS = 65536
_TAIL_CHARS = 16  # an error this near the end of a block may just be the cut
_SPECIAL = re.compile(r"""[",;\t\r\n]|^\s|\s$""")
_SPACE = re.compile(r"[ \t\r\n]*")


class Row(NamedTuple):
    """One row: the line it begins on, and its values or why it can't be read."""

    line: int
    values: dict[str, Any]
    problem: str | None = None


@dataclass(slots=True)
class Table:
    """The rows of a file. With columns, every value is text, and an empty one is left out."""

    rows: Iterator[Row]
    columns: list[str] | None = None
    header_line: int = 1
    header_readable: bool = True  # if not, the only row is the problem with it


def format_of(name: str, head: bytes) -> str:
    """Return the format of a file, by its ending, or else by its first bytes."""
    if known := ending_of(name):
        return known
    begin = head.removeprefix(_BOM).lstrip()
    if begin.startswith(b"["):
        return "json"
    if begin.startswith(b"{") or not begin:
        return "jsonl"
    return "tsv" if b"\t" in begin.split(b"\n", 1)[0] else "csv"


def ending_of(name: str) -> str | None:
    """Return the format that the ending of a file's name stands for."""
    return _ENDINGS.get(PurePath(name).suffix.lower())


def read(source: BinaryIO, kind: str) -> Table:
    """Read the rows of a file in one of FORMATS.

    Raises:
        UsageError: there is no such format.
    """
    if kind == "jsonl":
        return Table(_json_lines(source))
    if kind == "json":
        return Table(_Objects(source).rows())
    if kind in ("csv", "tsv"):
        return _table(source, kind)
    raise UsageError(f"format {kind!r}: give one of {', '.join(FORMATS)}")


# -- JSON Lines ----------------------------------------------------------------------------------


_DECODER = json.JSONDecoder(**STRICT_JSON)


def _lines(source: BinaryIO) -> Iterator[bytes]:
    """Yield lines with their ends; one that is too long comes in parts, each longer than allowed."""
    first = source.readline(MAX_ROW_BYTES + 1)
    if first:
        yield first.removeprefix(_BOM)
    while line := source.readline(MAX_ROW_BYTES + 1):
        yield line


def _json_lines(source: BinaryIO) -> Iterator[Row]:
    decode, is_first = _DECODER.decode, True
    for number, line in enumerate(_lines(source), 1):
        if len(line) > MAX_ROW_BYTES:
            yield Row(number, {}, _too_long())
            return
        try:
            values = decode(line.decode())
        except (ValueError, RecursionError) as error:
            if is_first and line.strip() in _OPENINGS:
                yield Row(number, {}, _NOT_LINES)
                return
            if line.strip():
                is_first = False
                yield Row(number, {}, _not_json(error))
            continue
        is_first = False
        if isinstance(values, dict):
            yield Row(number, values)
        else:
            shown = f"{Redaction().value(values)!r:.80}"
            yield Row(number, {}, f'expected an object, such as {{"argv": […]}}, got {shown}')


_OPENINGS = (b"{", b"[", b"[{")
"""Lines that only begin a document which goes on in the next ones, as programs indent it."""

_NOT_LINES = (
    "JSON Lines has a whole object in each line, and this one goes on in the next: read it as one "
    "document with --format json"
)


def _too_long() -> str:
    return f"a row of more than {MAX_ROW_BYTES:,} bytes: the rest of the file was not read"


def _not_json(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"not valid JSON: {error.msg} (character {error.colno})"
    if isinstance(error, UnicodeDecodeError):
        return f"not valid UTF-8: byte {error.start + 1} of the line"
    if isinstance(error, RecursionError):
        return "not valid JSON: nested too deeply"
    return f"not valid JSON: {error}"


# -- JSON ----------------------------------------------------------------------------------------


class _Objects:
    """The objects of a JSON array, or one after the other, decoded as they are read."""

    def __init__(self, source: BinaryIO) -> None:
        self._file = TextIOWrapper(source, "utf-8-sig", newline="")
        self._text = ""
        self._at = 0
        self._line = 1  # where self._at is
        self._ended = False

    def rows(self) -> Iterator[Row]:
        try:
            yield from self._rows()
        except UnicodeDecodeError:
            yield Row(self._line, {}, "not valid UTF-8: the rest of the file was not read")
        finally:
            self._file.detach()  # the caller closes it

    def _rows(self) -> Iterator[Row]:
        in_array = self._next() == "["
        if in_array:
            self._pass(self._at + 1)
        while (sign := self._next()) not in ("", "]"):
            if sign != "{":
                yield Row(self._line, {}, f"expected an object, got {sign!r}: {_UNREAD}")
                return
            line = self._line
            values = self._object()
            yield values if isinstance(values, Row) else Row(line, values)
            if isinstance(values, Row):
                return
            if in_array and (problem := self._separator()):
                yield Row(self._line, {}, problem)
                return
        if in_array and sign != "]":
            yield Row(self._line, {}, "not valid JSON: the array has no end")
        elif in_array:
            self._pass(self._at + 1)
            if self._next():
                yield Row(self._line, {}, "not valid JSON: something follows the array")
        elif sign:
            yield Row(self._line, {}, f"expected an object, got {sign!r}: {_UNREAD}")

    def _separator(self) -> str | None:
        """Pass the comma between two objects; return the problem if there is none."""
        sign = self._next()
        if sign == ",":
            self._pass(self._at + 1)
            sign = self._next()
            return None if sign == "{" else f"expected an object after ',', got {sign!r}: {_UNREAD}"
        return None if sign in ("", "]") else f"not valid JSON: expected ',' or ']': {_UNREAD}"

    def _object(self) -> dict[str, Any] | Row:
        while True:
            try:
                values, end = _DECODER.raw_decode(self._text, self._at)
            except (ValueError, RecursionError) as error:
                ahead = self._text.count("\n", self._at, getattr(error, "pos", self._at))
                if self._may_be_cut_off(error) and self._more():
                    continue
                what = f"not valid JSON: {getattr(error, 'msg', error)}"
                return Row(self._line + ahead, {}, f"{what}: {_UNREAD}")
            self._pass(end)
            found: dict[str, Any] = values
            return found

    def _may_be_cut_off(self, error: Exception) -> bool:
        """Tell whether an error may only mean that the rest has not been read yet."""
        if (
            not isinstance(error, json.JSONDecodeError)
            or len(self._text) - self._at > MAX_ROW_BYTES
        ):
            return False
        cut = error.pos >= len(self._text) - _TAIL_CHARS
        return cut or error.msg.startswith("Unterminated string")

    def _next(self) -> str:
        """Return the next character that is no space; an empty string at the end."""
        while True:
            match = _SPACE.match(self._text, self._at)
            assert match is not None  # it may be empty
            self._pass(match.end())
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._more():
                return ""

    def _pass(self, to: int) -> None:
        self._line += self._text.count("\n", self._at, to)
        self._at = to

    def _more(self) -> bool:
        # Twice as much each time, so that a long object is not decoded a hundred times.
        block = self._file.read(max(_BLOCK_CHARS, len(self._text) - self._at))
        self._text, self._at = self._text[self._at :] + block, 0
        return bool(block)


_UNREAD = "the rest of the file was not read"


# -- CSV and TSV ---------------------------------------------------------------------------------


def _table(source: BinaryIO, kind: str) -> Table:
    csv.field_size_limit(MAX_ROW_BYTES)
    texts = _Texts(source)
    try:
        first = next(texts)
        while not first.strip("\r\n"):
            first = next(texts)
    except StopIteration:
        return Table(iter(()), [])
    except csv.Error as error:
        return _without_header(texts.line + 1, error)
    header_line = texts.line
    texts.give_back([first])
    delimiter = "\t" if kind == "tsv" else ";" if ";" in first and "," not in first else ","
    reader = _reader(texts, delimiter)
    try:
        columns = [name.strip() for name in next(reader)]
    except csv.Error as error:
        return _without_header(header_line, error)
    if any("\n" in name for name in columns):
        return _without_header(header_line, csv.Error(_UNCLOSED))
    return Table(_records(texts, delimiter, columns), columns, header_line)


def _reader(texts: Iterable[str], delimiter: str) -> Iterator[list[str]]:
    # Blanks before a field are trimmed, as they are in the header: a quote behind them is one.
    return csv.reader(texts, delimiter=delimiter, strict=True, skipinitialspace=True)


def _without_header(line: int, error: csv.Error) -> Table:
    problem = Row(line, {}, f"the header can't be read: {error}")
    return Table(iter((problem,)), [], line, header_readable=False)


class _Texts:
    """The lines of a file; those of a row that could not be read can be given back."""

    def __init__(self, source: BinaryIO) -> None:
        self._lines = _lines(source)
        self._returned: deque[str] = deque()
        self.line = 0  # the number of the last line
        self.taken: list[str] = []  # the lines since this was emptied

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> str:
        text = self._returned.popleft() if self._returned else self._read()
        self.line += 1
        self.taken.append(text)
        return text

    def _read(self) -> str:
        line = next(self._lines)
        if len(line) > MAX_ROW_BYTES:  # its parts must not be taken for rows
            self._lines = iter(())
            raise csv.Error(_too_long())
        # Bytes that are not UTF-8 become surrogates, which the check of texts refuses by row.
        return line.decode("utf-8", "surrogateescape")

    def give_back(self, texts: Sequence[str]) -> None:
        """Let the last lines be read again."""
        self._returned.extendleft(reversed(texts))
        self.line -= len(texts)


def _records(texts: _Texts, delimiter: str, columns: Sequence[str]) -> Iterator[Row]:
    width = len(columns)
    reader = _reader(texts, delimiter)
    while True:
        texts.taken.clear()
        line = texts.line + 1
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            is_end = str(error) == _END
            what = _UNCLOSED if is_end or len(texts.taken) > 1 else str(error)
            lost = _lost_lines(texts, delimiter, width, is_end=is_end)
            yield from _unreadable(line, f"not valid CSV: {what}", lost)
            continue
        if not fields:
            continue
        if len(fields) != width:
            what = f"fields: {len(fields)}, and the header names {width}"
            yield from _unreadable(line, what, len(texts.taken) - 1)
        else:
            yield Row(
                line, {name: text for name, text in zip(columns, fields, strict=True) if text}
            )


_END = "unexpected end of data"
_UNCLOSED = (
    "a quote at the start of a field is never closed: close it, or put the field in quotes and "
    "double those inside"
)


def _unreadable(line: int, what: str, lost: int) -> Iterator[Row]:
    """Yield a problem for a row, and for each of the lines that are lost with it."""
    if lost:
        last = line + lost
        those = f"line {last} is" if lost == 1 else f"lines {line + 1} to {last} are"
        what += f"; {those} inside its quotes"
    yield Row(line, {}, what)
    for number in range(line + 1, line + lost + 1):
        yield Row(number, {}, f"not read as a row: it is inside the quotes of line {line}")


def _lost_lines(texts: _Texts, delimiter: str, width: int, *, is_end: bool) -> int:
    """Give the lines behind a stray quote back, if they are rows; return how many are lost.

    The quote may as well begin a text of several lines that is damaged further on, and those must
    not become jobs. So the lines before the end, or before the quote that does not fit, all have
    to be as wide as the header, and that quote has to open a field.
    """
    behind = texts.taken[1:]
    inside, last = (behind, "") if is_end else (behind[:-1], "".join(behind[-1:]))
    try:
        widths = {len(fields) for fields in _reader(inside, delimiter) if fields}
    except csv.Error:
        return len(behind)
    before = last.partition('"')[0].rstrip(" ")
    if width == 1 or not widths <= {width} or (before and before[-1] != delimiter):
        return len(behind)
    texts.give_back(behind)
    return 0


# -- writing -------------------------------------------------------------------------------------


def write(rows: Iterable[dict[str, Any]], kind: str, file: TextIO, columns: Sequence[str]) -> int:
    """Write rows, and return how many. ``columns`` are those of a table; its objects are JSON."""
    writers: dict[str, Callable[[], int]] = {
        "jsonl": lambda: _write_json_lines(rows, file),
        "json": lambda: _write_json(rows, file),
        "csv": lambda: _write_table(rows, file, columns, ","),
        "tsv": lambda: _write_table(rows, file, columns, "\t"),
    }
    return writers[kind]()


def _write_json_lines(rows: Iterable[dict[str, Any]], file: TextIO) -> int:
    number = 0
    for row in rows:
        file.write(_json(row) + "\n")
        number += 1
    return number


def _write_json(rows: Iterable[dict[str, Any]], file: TextIO) -> int:
    number = 0
    for row in rows:
        file.write((",\n" if number else "[\n") + _json(row))
        number += 1
    file.write("\n]\n" if number else "[]\n")
    return number


def _write_table(
    rows: Iterable[dict[str, Any]], file: TextIO, columns: Sequence[str], delimiter: str
) -> int:
    file.write(delimiter.join(columns) + "\n")
    number = 0
    for row in rows:
        file.write(delimiter.join(_cell(row.get(name)) for name in columns) + "\n")
        number += 1
    return number


def _cell(value: Any) -> str:
    """Return a field, quoted where needed.

    Not with csv.writer, which leaves a carriage return bare that its reader refuses.
    """
    if value is None:
        return ""
    text = value if isinstance(value, str) else _json(value)
    return '"' + text.replace('"', '""') + '"' if _SPECIAL.search(text) else text


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(", ", ": "))
