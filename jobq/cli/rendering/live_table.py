"""The live table of jobs that `jobq work` and `jobq list --watch` draw: lines of text, made to fit."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from jobq.cli.rendering.job_text import describe, progress_of, time_of, tries_of
from jobq.cli.rendering.output import COLOURS, cut, fit, inert, styled, width_of
from jobq.models import DEFAULT_QUEUE, Job, JobStatus
from jobq.redaction import ShownJob
from jobq.units import format_duration

_GAP = "  "
_BAR = "progress"
_LEAST = 20
"""Columns that what a job is called keeps before others are left out."""

_WIDE = 120
"""Columns from which on there is room for longer bars."""

_TOTALS = (
    JobStatus.RUNNING,
    JobStatus.PENDING,
    JobStatus.RETRYING,
    JobStatus.SCHEDULED,
    JobStatus.BLOCKED,
    JobStatus.FAILED,
)


@dataclass(frozen=True, slots=True)
class Row:
    """A job, and the seconds that it is likely to take yet."""

    job: ShownJob
    left: float | None = None


@dataclass(frozen=True, slots=True)
class Look:
    """What is drawn on."""

    width: int
    color: bool


def bar(share: float, width: int) -> tuple[str, str]:
    """How far something is, as the two parts of a bar."""
    filled = min(width, max(0, int(share * width + 0.5)))
    return "━" * filled, "─" * (width - filled)


def share_of(job: Job) -> float | None:
    """How far a job is, from 0 to 1, where it says how much there is to do."""
    progress = job.progress
    if progress is None or progress.total is None or progress.total <= 0:
        return None
    return min(1.0, max(0.0, progress.done / progress.total))


def table(rows: Sequence[Row], now: datetime, look: Look, *, statuses: bool = True) -> list[str]:
    """A line of titles and one for each job, none of them wider than the terminal."""
    if not rows:
        return []
    columns = _columns(rows, now, statuses=statuses)
    bars = any(share_of(row.job) is not None for row in rows)
    size = (24 if look.width >= _WIDE else 12) if bars else 0
    if bars:
        columns[_BAR] = ["x" * size] * len(rows)
    widths = {t: max(map(width_of, (t, *cells))) for t, cells in columns.items() if any(cells)}
    optional = ("prio", "tries", "message", "queue", _BAR, "time", "done", "left")
    widths = fit(widths, look.width, ("job", "message"), optional, least=_LEAST)
    order = [t for t in ("id", "status", "prio", "queue", "job", "message", _BAR) if t in widths]
    order += [title for title in widths if title not in order]
    lines = [_GAP.join(styled(cut(t, widths[t]), "bold", color=look.color) for t in order)]
    for number, row in enumerate(rows):
        cells = [
            _cell(title, columns[title][number], widths[title], row.job, look) for title in order
        ]
        lines.append(_GAP.join(cells))
    return [line.rstrip() for line in lines]


def _columns(rows: Sequence[Row], now: datetime, *, statuses: bool) -> dict[str, Sequence[str]]:
    jobs = [row.job for row in rows]
    columns: dict[str, Sequence[str]] = {"id": [str(job.id) for job in jobs]}
    if statuses:
        columns["status"] = [job.status.value for job in jobs]
        columns["prio"] = [str(job.priority) for job in jobs]
        columns["tries"] = [tries_of(job) for job in jobs]
    if any(job.queue != DEFAULT_QUEUE for job in jobs):
        columns["queue"] = [inert(job.queue) for job in jobs]
    columns["job"] = [inert(job.name or describe(job)) for job in jobs]
    columns["message"] = [inert(_note(job)) for job in jobs]
    columns["done"] = [progress_of(job) for job in jobs]
    columns["time"] = [time_of(job, now) for job in jobs]
    columns["left"] = [
        "" if row.left is None else format_duration(max(0.0, row.left)) for row in rows
    ]
    return columns


def _note(job: Job) -> str:
    """What a job says of itself, or what went wrong with it."""
    if job.status is JobStatus.RUNNING:
        return (job.progress and job.progress.message) or ""
    if job.status in (JobStatus.FAILED, JobStatus.RETRYING):
        return job.error or ""
    return (job.reason or "") if job.status is JobStatus.CANCELLED else ""


def _cell(title: str, text: str, width: int, job: Job, look: Look) -> str:
    if title == _BAR:
        share = share_of(job)
        if share is None:
            return " " * width
        done, left = bar(share, width)
        return styled(done, COLOURS[job.status], color=look.color) + styled(
            left, "bright_black", color=look.color
        )
    style = COLOURS[job.status] if title == "status" else None
    return styled(cut(text, width), style, color=look.color)


def totals(counts: Mapping[JobStatus, int]) -> str:
    """What there is, in one line: ``2 running · 5 pending · 1 failed``."""
    always = (JobStatus.RUNNING, JobStatus.PENDING, JobStatus.FAILED)
    parts = [f"{counts.get(s, 0):,} {s}" for s in _TOTALS if counts.get(s, 0) or s in always]
    return " · ".join(parts)


def plain_cut(text: str, width: int) -> str:
    """Text that is cut with an ellipsis if it is wider, and not filled up."""
    return cut(text, width).rstrip() if width_of(text) > width else text
