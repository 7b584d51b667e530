"""What a worker's author writes and is given: `JobWorker`, `JobContext`, and what `run` may raise."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from jobq.backends.outage import Outage
from jobq.models import Progress
from jobq.system.permissions import make_directory
from jobq.units import parse_duration

if TYPE_CHECKING:
    import logging
    from datetime import timedelta

    from pydantic import BaseModel

    from jobq.models import Job
    from jobq.queue import JobQueue

NO_TYPE = ""

BUNDLED = "jobq_bundled_workers"
"""The package that the bundled files of workers are imported as, before any others."""


class Permanent(Exception):
    """Raised in `run`: the job fails, and is not retried."""


class RetryAfter(Exception):
    """Raised in `run`: this try failed; the next one starts after so many seconds."""

    def __init__(self, delay: float | timedelta, message: str = "asked to be retried") -> None:
        super().__init__(message)
        self.seconds = parse_duration(delay)


class Snooze(Exception):
    """Raised in `run`: run this again after so many seconds; it does not use up a retry."""

    def __init__(self, delay: float | timedelta, message: str = "snoozed") -> None:
        super().__init__(message)
        self.seconds = parse_duration(delay)


class Cancelled(BaseException):
    """Raised inside `run` when the job is to stop; raised by `run`, it cancels the job.

    Not an `Exception`, so that ``except Exception`` in a worker does not swallow it.
    """


class JobContext:
    """One attempt, as the worker's `run` sees it."""

    def __init__(
        self,
        *,
        job_id: int,
        attempt: int,
        tags: dict[str, str],
        log: logging.Logger,
        log_dir: Path,
        report: Callable[[Progress], None],
        open_queue: Callable[[], JobQueue],
        is_cancelled: Callable[[], bool],
    ) -> None:
        self.id = job_id
        self.attempt = attempt
        self.tags = tags
        self.log = log
        self.log_dir = log_dir
        self._report = report
        self._open_queue = open_queue
        self._queue: JobQueue | None = None
        self._outage = Outage(log.warning)
        self._is_cancelled = is_cancelled

    def progress(self, done: float, total: float | None = None, message: str | None = None) -> None:
        """Say how far the run has come. Cheap: call it as often as you like."""
        self._report(Progress(done, total, message))

    @property
    def cancelled(self) -> bool:
        """Whether the job is to stop. A worker with ``cooperative = True`` looks at it in its loop."""
        return self._is_cancelled()

    def add(self, job_type: str, args: dict[str, Any] | None = None, **options: Any) -> Job:
        """Add another job, with the options of `JobQueue.add`; it remembers who added it.

        Where no server answers, this waits until one does, or the job is stopped.
        """
        self._outage.until_answered(self.queue.backend.change_counter)
        return self.queue.add(job_type, args, added_by=self.id, **options)

    def close(self) -> None:
        """Let go of what the run opened. Whoever made the context calls it."""
        if self._queue is not None:
            self._queue.close()

    @property
    def queue(self) -> JobQueue:
        """The queue that this job is from, opened at the first use."""
        if self._queue is None:
            self._queue = self._outage.until_answered(self._open_queue)
        return self._queue

    @property
    def artifacts(self) -> Path:
        """A directory for files that are kept with the job's logs, and pruned with them."""
        path = self.log_dir / "artifacts"
        make_directory(path)
        return path


class JobWorker(ABC):
    """Knows how to run one type of job. Its docstring is shown by ``jobq types``.

    ``run`` may be ``async def``. What it returns is kept on the job, as JSON.
    """

    job_type: ClassVar[str] = NO_TYPE
    """The name that jobs are added by. Required."""

    Args: ClassVar[type[BaseModel]]
    """A pydantic model of the arguments. Without one, the type takes none."""

    max_retries: ClassVar[int | None] = None
    retry_base: ClassVar[float | None] = None
    timeout: ClassVar[float | None] = None
    """Seconds; 0 is no limit. None: the configuration's default."""

    cooperative: ClassVar[bool] = False
    """If true, a request to stop only sets ``job.cancelled``, and `run` is trusted to return
    within the grace period. Otherwise `Cancelled` is raised inside `run`."""

    @abstractmethod
    def run(self, args: Any, job: JobContext) -> Any:
        """Do the work of one attempt."""
