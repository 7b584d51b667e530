"""What a check finds, and what it is given to look at."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path

from jobq.config.settings import Settings


class Level(StrEnum):
    """How bad it is: with a problem, jobs can't run or get lost; a warning can wait."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    level: Level
    check: str  # its name, for programs
    where: str
    message: str
    remedy: str = ""
    fix: Callable[[], str] | None = None
    """Mends it, and tells what it did. Raises JobqError or OSError if it can't."""

    destructive: bool = False
    """Whether the fix deletes what nobody could make again."""


@dataclass(frozen=True, slots=True)
class Examination:
    """What is examined, and when."""

    settings: Settings
    now: datetime
    full: bool


def ok(check: str, where: Path | str, message: str) -> Finding:
    """Nothing is wrong."""
    return Finding(Level.OK, check, str(where), message)


def warning(
    check: str,
    where: Path | str,
    message: str,
    remedy: str,
    fix: Callable[[], str] | None = None,
    *,
    destructive: bool = False,
) -> Finding:
    """Something to look after."""
    return Finding(Level.WARNING, check, str(where), message, remedy, fix, destructive)


def problem(
    check: str,
    where: Path | str,
    message: str,
    remedy: str,
    fix: Callable[[], str] | None = None,
) -> Finding:
    """Something that is wrong."""
    return Finding(Level.PROBLEM, check, str(where), message, remedy, fix)


def some(names: list[str], most: int = 5) -> str:
    """A few of many names."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")
