"""The lines of keys in a TOML file, for error messages."""

import re
from pathlib import Path


def line_of(path: Path | None, table: tuple[str, ...], key: str) -> int | None:
    """Return the line of a key, or else of its table: tomllib does not give it."""
    if path is None:
        return None
    current: tuple[str, ...] = ()
    best = None
    for number, line in enumerate(path.read_text("utf-8-sig").splitlines(), 1):
        if header := re.match(r"\s*\[+\s*([^\]]+?)\s*\]+", line):
            current = _parts(header[1])
            if current in (table, (*table, key)):
                best = number
        elif match := re.match(r"\s*([^=#]+?)\s*=", line):
            dotted = (*current, *_parts(match[1]))
            if dotted == (*table, key):
                return number
            if dotted == table:
                best = number
    return best


def _parts(dotted: str) -> tuple[str, ...]:
    """Return the parts of a dotted key, each of which may be quoted."""
    return tuple(part.strip("\"'") for part in re.findall(r"\"[^\"]*\"|'[^']*'|[^.\s]+", dotted))
