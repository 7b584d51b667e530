"""The classes for workers: `JobWorker`, `JobContext`, and the exceptions that `run` may raise."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from jobq.backends.outage import Outage
from jobq.models import Progress
from jobq.system.permissions import make_directory
from jobq.units import checked_amount, parse_duration

if TYPE_CHECKING:
    import logging
    from datetime import timedelta
    from typing import Unpack

    from pydantic import BaseModel

    from jobq.models import Job
    from jobq.options import ChildOptions
    from jobq.queue import JobQueue

NO_TYPE = ""

VIA_TAG = "jobq:via"
"""The tag of a job that came from outside: its downloads do not reach private addresses."""

BUNDLED = "jobq_bundled_workers"
"""The package that the bundled worker files are imported as."""


class Permanent(Exception):
    """Raised in `run`: the job fails and is not retried."""


class RetryAfter(Exception):
    """Raised in `run`: this attempt failed; the next one starts after `delay` seconds."""

    def __init__(self, delay: float | timedelta, message: str = "asked to be retried") -> None:
        super().__init__(message)
        self.seconds = parse_duration(delay)


class Snooze(Exception):
    """Raised in `run`: run the job again after `delay` seconds; it does not use up a retry."""

    def __init__(self, delay: float | timedelta, message: str = "snoozed") -> None:
        super().__init__(message)
        self.seconds = parse_duration(delay)


class Cancelled(BaseException):
    """Raised in `run` by jobq when the job is to stop; raised by the worker, it cancels the job.

    Not an `Exception`, so that ``except Exception`` in a worker does not swallow it.
    """


class JobContext:
    """An attempt, as the worker's `run` sees it."""

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
        """Report progress. Cheap: call it as often as you like.

        Raises:
            UsageError: a number is negative, endless or absurdly large.
        """
        done = checked_amount("done", done)
        total = None if total is None else checked_amount("total", total)
        self._report(Progress(done, total, message))

    @property
    def cancelled(self) -> bool:
        """True once the job is to stop. A worker with ``cooperative = True`` checks it in its loop."""
        return self._is_cancelled()

    def add(
        self, job_type: str, args: dict[str, Any] | None = None, **options: Unpack[ChildOptions]
    ) -> Job:
        """Add another job, with the options of `JobQueue.add`; its ``added_by`` is this job.

        What was added because of a job that came over HTTP is held to the same rules.

        While the server does not answer, this waits until it does, or the job is stopped.
        """
        self._outage.until_answered(self.queue.change_counter)
        if VIA_TAG in self.tags:
            options["tags"] = {**(options.get("tags") or {}), VIA_TAG: self.tags[VIA_TAG]}
        return self.queue.add(job_type, args, added_by=self.id, **options)

    def close(self) -> None:
        """Close what the run opened. The creator of the context calls it."""
        if self._queue is not None:
            self._queue.close()

    @property
    def queue(self) -> JobQueue:
        """The queue that this job is from, opened on first use."""
        if self._queue is None:
            self._queue = self._outage.until_answered(self._open_queue)
        return self._queue

    @property
    def artifacts(self) -> Path:
        """A directory for files that are kept, and pruned, with the job's logs."""
        path = self.log_dir / "artifacts"
        make_directory(path)
        return path


class JobWorker(ABC):
    """The code of one job type; a subclass's docstring is what ``jobq types`` shows.

    ``run`` may be ``async def``. Its return value is kept on the job, as JSON.
    """

    job_type: ClassVar[str] = NO_TYPE
    """The name that jobs are added by; required."""

    Args: ClassVar[type[BaseModel]]
    """A pydantic model of the arguments. Without one, the type takes none."""

    max_retries: ClassVar[int | None] = None
    retry_base: ClassVar[float | None] = None
    timeout: ClassVar[float | None] = None
    """Seconds; 0 is no limit. None: the configuration's default."""

    cooperative: ClassVar[bool] = False
    """If true, a request to stop only sets ``job.cancelled``, and `run` has the grace period to
    return. Otherwise `Cancelled` is raised in `run`."""

    @classmethod  # noqa: B027 - there may be nothing to do
    def setup(cls) -> None:
        """Prepare the process, before the first job of this type that runs in it."""

    @classmethod  # noqa: B027 - as `setup`
    def teardown(cls) -> None:
        """Tidy up after `setup`, when the process exits. Not called after a crash."""

    @abstractmethod
    def run(self, args: Any, job: JobContext) -> Any:
        """Do the work of one attempt."""
