"""Parsers of the values in jobq.toml: each returns what a value stands for, or says what was expected."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jobq.config.settings import SQLITE
from jobq.errors import UsageError
from jobq.limits import MAX_COUNT
from jobq.units import parse_duration, parse_limit, parse_rate, parse_size

Parse = Callable[[Any], Any]
MAX_PORT = 65_535
_ORIGIN = re.compile(r"https?://([A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(:\d{1,5})?/?")
NO_HOME = "expected a path in an existing home directory"


def text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise UsageError("expected text")
    return value


def path(value: Any) -> str:
    try:
        Path(text(value)).expanduser()
    except RuntimeError:
        raise UsageError(NO_HOME) from None
    return str(value)


def backend(value: Any) -> str:
    if value == SQLITE:
        return SQLITE
    from jobq.config.redis_url import is_redis, parse_url  # SQLite does not need it

    if not is_redis(value):
        raise UsageError('expected "sqlite" or "redis://HOST:PORT/DB"')
    parse_url(value)
    return str(value)


def optional_path(value: Any) -> str | None:
    return None if value == "" else path(value)


def switch(value: Any) -> bool:
    if not isinstance(value, bool):
        raise UsageError("expected true or false")
    return value


def port(value: Any) -> int:
    number = int(whole_number(0)(value))
    if number > MAX_PORT:
        raise UsageError(f"expected a port, at most {MAX_PORT}")
    return number


def public_url(value: Any) -> str:
    """Return the origin that clients use: scheme, name and perhaps a port; "" for none."""
    if value == "":
        return ""
    if not isinstance(value, str) or not _ORIGIN.fullmatch(value):
        raise UsageError('expected "https://NAME" or "https://NAME:PORT", without a path')
    return value.lower().removesuffix("/")


def texts(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise UsageError("expected a list of strings")
    return tuple(value)


def commands(value: Any) -> tuple[tuple[str, ...], ...]:
    """Return commands from one list of strings, or from a list of such lists."""
    several = value if isinstance(value, list) and value and isinstance(value[0], list) else [value]
    commands = tuple(texts(command) for command in several)
    if value == []:
        return ()
    if not all(commands) or not all(word and "\0" not in word for c in commands for word in c[:1]):
        raise UsageError("expected a command as a list of strings, or a list of such lists")
    return commands


def whole_number(minimum: int) -> Parse:
    def parse(value: Any) -> int:
        if isinstance(value, str) and re.fullmatch(r"\d{1,9}", value):
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
            raise UsageError(f"expected a whole number of at least {minimum}")
        if value > MAX_COUNT:
            raise UsageError(f"expected a whole number of at most {MAX_COUNT:,}")
        return value

    return parse


def boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise UsageError("expected true or false")
    return value


def fraction(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise UsageError("expected a number from 0 to 1")
    return float(value)


def positive_duration(value: Any) -> float:
    try:
        seconds = parse_duration(value)
    except UsageError:
        seconds = 0.0
    if seconds <= 0:
        raise UsageError('expected a duration above 0, in seconds or as "10m"')
    return seconds


def limit(value: Any) -> float:
    try:
        return parse_limit(value)
    except UsageError:
        raise UsageError('expected a duration, in seconds or as "10m", or "none"') from None


def size(minimum: int = 0) -> Callable[[Any], int]:
    """Return a parser of bytes; 0, or "off", is no limit."""

    def parse(value: Any) -> int:
        try:
            size = 0 if value == "off" else parse_size(value)
        except UsageError:
            raise UsageError('expected a size, in bytes or as "100MB", or "off"') from None
        if 0 < size < minimum:
            raise UsageError(f'expected at least {minimum:,} bytes, or "off"')
        return size

    return parse


def size_or_auto(value: Any) -> int | None:
    return None if value == "auto" else size()(value)


def rate(value: Any) -> Any:
    return parse_rate(text(value))


def paths(value: Any) -> tuple[str, ...]:
    return tuple(map(path, texts(value)))
