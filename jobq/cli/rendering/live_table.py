"""The live table of jobs that `jobq work` and `jobq list --watch` draw, as lines of text."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from jobq.cli.rendering.job_text import attempts_of, progress_of, time_of
from jobq.cli.rendering.output import COLOURS, cut, styled, width_of
from jobq.cli.rendering.table import table_lines
from jobq.describe import describe
from jobq.diagnostics.eta import MIN_PROGRESS_SHARE
from jobq.models import DEFAULT_QUEUE, FINISHED, Job, JobStatus
from jobq.redaction import ShownJob
from jobq.units import format_duration

_BAR = "progress"
_BAR_DONE, _BAR_LEFT = "━", "─"

_MIN_JOB_WIDTH = 20
"""Terminal columns that the name of a job keeps before other columns are left out."""

_MIN_WIDE_WIDTH = 120
"""Terminal columns from which on bars are longer."""

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
    """A job, with the seconds that it probably has left."""

    job: ShownJob
    left: float | None = None


@dataclass(frozen=True, slots=True)
class Canvas:
    """The width in terminal columns to draw on, and whether in colour."""

    width: int
    color: bool


def bar(share: float | None, width: int) -> tuple[str, str]:
    """Return the done and the open part of a bar; both are empty if the share is unknown."""
    if share is None:
        return "", ""
    filled = min(width, max(0, int(share * width + 0.5)))
    return _BAR_DONE * filled, _BAR_LEFT * (width - filled)


def share_of(job: Job) -> float | None:
    """Return the progress of a job from 0 to 1, if it reports a total."""
    progress = job.progress
    if progress is None or progress.total is None or progress.total <= 0:
        return None
    return min(1.0, max(0.0, progress.done / progress.total))


def table(rows: Sequence[Row], now: datetime, on: Canvas, *, statuses: bool = True) -> list[str]:
    """Return a line of titles and one for each job, none of them wider than the canvas."""
    if not rows:
        return []
    jobs = [row.job for row in rows]
    return table_lines(
        _columns(rows, now, on, statuses=statuses),
        on.width,
        color=on.color,
        styles={
            "status": [COLOURS[job.status] for job in jobs],
            _BAR: [partial(_painted_bar, COLOURS[job.status]) for job in jobs],
        },
        flexible=("job", "message"),
        optional=("prio", "attempts", "message", "queue", _BAR, "time", "done", "left"),
        min_width=_MIN_JOB_WIDTH,
    )


def _columns(
    rows: Sequence[Row], now: datetime, on: Canvas, *, statuses: bool
) -> dict[str, Sequence[str]]:
    jobs = [row.job for row in rows]
    bar_width = 24 if on.width >= _MIN_WIDE_WIDTH else 12
    columns: dict[str, Sequence[str]] = {"id": [str(job.id) for job in jobs]}
    if statuses:
        columns["status"] = [job.status.value for job in jobs]
        columns["prio"] = [str(job.priority) for job in jobs]
    if any(job.queue != DEFAULT_QUEUE for job in jobs):
        columns["queue"] = [job.queue for job in jobs]
    columns["job"] = [job.name or describe(job) for job in jobs]
    columns["message"] = [_note(job) for job in jobs]
    columns[_BAR] = [
        "" if job.status in FINISHED else "".join(bar(share_of(job), bar_width)) for job in jobs
    ]
    if statuses:
        columns["attempts"] = [attempts_of(job) for job in jobs]
    columns["done"] = [progress_of(job) for job in jobs]
    columns["time"] = [time_of(job, now) for job in jobs]
    columns["left"] = [_left(row) for row in rows]
    return columns


def _left(row: Row) -> str:
    """Return the time left, with a ``~`` where it is a guess from past runs."""
    if row.left is None:
        return ""
    is_guess = (share_of(row.job) or 0.0) < MIN_PROGRESS_SHARE
    return f"{'~' if is_guess else ''}{format_duration(max(0.0, row.left))}"


def _note(job: Job) -> str:
    """Return the progress message of a job, or why it failed or was cancelled."""
    if job.status is JobStatus.RUNNING:
        return (job.progress and job.progress.message) or ""
    if job.status in (JobStatus.FAILED, JobStatus.RETRYING):
        return job.error or ""
    return (job.reason or "") if job.status is JobStatus.CANCELLED else ""


def _painted_bar(style: str, text: str) -> str:
    done = text.rstrip(_BAR_LEFT + " ")
    return styled(done, style, color=True) + styled(text[len(done) :], "bright_black", color=True)


def totals(counts: Mapping[JobStatus, int]) -> str:
    """Return the counts in one line: ``2 running · 5 pending · 1 failed``."""
    always = (JobStatus.RUNNING, JobStatus.PENDING, JobStatus.FAILED)
    parts = [f"{counts.get(s, 0):,} {s}" for s in _TOTALS if counts.get(s, 0) or s in always]
    return " · ".join(parts)


def plain_cut(text: str, width: int) -> str:
    """Return text cut with an ellipsis if it is wider, and never padded."""
    return cut(text, width).rstrip() if width_of(text) > width else text
