"""Findings of a check, and the examination that a check takes part in."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from pathlib import Path

from jobq.config.settings import Settings
from jobq.limits import listed


class Level(StrEnum):
    """Severity: with a problem, jobs can't run or may be lost; a warning can wait."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check of one thing."""

    level: Level
    check: str  # the name of the check, for programs
    where: str
    message: str
    remedy: str = ""
    fix: Callable[[], str] | None = None
    """Repairs it and returns what was done. Raises JobqError or OSError if it can't."""

    destructive: bool = False
    """True if the fix deletes data that can't be recovered."""


@dataclass(frozen=True, slots=True)
class Examination:
    """The settings under examination, and the time of it."""

    settings: Settings
    now: datetime
    full: bool  # read all of the database for damage


def ok(check: str, where: Path | str, message: str) -> Finding:
    """Return a finding that nothing is wrong."""
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
    """Return a finding that can wait."""
    return Finding(Level.WARNING, check, str(where), message, remedy, fix, destructive)


def if_any(names: Sequence[str], found: Finding, *, otherwise: str) -> Finding:
    """Return the finding with the names after its message; without names, that all is well."""
    if not names:
        return ok(found.check, found.where, otherwise)
    return replace(found, message=f"{found.message}: {listed(names)}")


def problem(
    check: str,
    where: Path | str,
    message: str,
    remedy: str,
    fix: Callable[[], str] | None = None,
) -> Finding:
    """Return a finding that keeps jobs from running, or may lose them."""
    return Finding(Level.PROBLEM, check, str(where), message, remedy, fix)


def ownerless(ids: Sequence[str], where: Path | str) -> Finding:
    """Return the finding about running jobs whose owner is gone, by their ids."""
    return if_any(
        ids,
        warning(
            "running",
            where,
            "running jobs without an owner, whose leases have expired",
            "`jobq work` gives them back; a pull worker must renew its lease with `heartbeat`",
        ),
        otherwise="every running job has an owner",
    )
