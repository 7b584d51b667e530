"""Tests of workers: run one without a queue, or a queue of the test's own without a supervisor.

Everything happens in the calling process: breakpoints, coverage and monkeypatching work.
"""

import contextlib
import io
import logging
import os
import random
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from jobq.backends.sqlite.backend import SqliteBackend
from jobq.clock import utcnow
from jobq.config.environment import job_environment
from jobq.config.loader import find_file, is_users_file, load_settings
from jobq.config.settings import SQLITE, Settings
from jobq.errors import UsageError
from jobq.execution.children.call import call, jsonable, report_of
from jobq.job_types import shell
from jobq.job_types.arguments import args_model
from jobq.job_types.function import worker_of
from jobq.job_types.registry import JobType, Registry, load
from jobq.job_types.worker import JobContext, JobWorker
from jobq.jobs.outcome import Exit, attempt_result, exit_of_process
from jobq.jobs.signature import signed
from jobq.limits import MAX_COUNT
from jobq.logs.directory import LOG, STDERR, STDOUT
from jobq.models import Claim, Job, Outcome, Progress
from jobq.queue import JobQueue, backend_of
from jobq.units import parse_duration

_NO_JOB_ID = MAX_COUNT
"""The id in a run without a job: the largest that may stand in ``added_by``, and no job's."""

_OWNER = "testing:0:00000000"  # as a supervisor, which keeps logs


@dataclass(slots=True)
class Run:
    """The outcome of one run of a worker."""

    result: Any = None
    error: BaseException | None = None
    stdout: str = ""
    stderr: str = ""
    log: str = ""
    progress: list[Progress] = field(default_factory=list)
    added: list[Job] = field(default_factory=list)


Worker = type[JobWorker] | Callable[..., Any]
"""A worker class, or a function under `@job_type`."""


def run(
    worker: Worker,
    args: Mapping[str, Any] | None = None,
    *,
    queue: JobQueue | None = None,
    cancelled: bool = False,
    attempt: int = 1,
    check: bool = False,
) -> Run:
    """Run a worker once. An exception of the worker is kept in ``error``; ``check`` raises it.

    ``queue`` is the one that ``job.queue`` and ``job.add`` use; without it, one as `queue` makes.

    Raises:
        ArgsError: the arguments do not fit.
        WorkerLoadError: it is no worker.
    """
    of_type = worker_of(worker)
    checked = JobType(of_type.job_type, "", "", of_type).parse(args or {})
    with _queue_for(queue, of_type) as used, tempfile.TemporaryDirectory() as folder:
        newest = max((job.id for job in used.find()), default=0)
        done, _ = _run(of_type, checked, used, Path(folder), cancelled=cancelled, attempt=attempt)
        done.added = used.find(after_id=newest)
    if check and done.error is not None:
        raise done.error
    return done


@contextmanager
def queue(
    workers: Iterable[Worker] = (), *, project: str | Path | None = None
) -> Iterator[JobQueue]:
    """Make a queue in a temporary directory, and delete it at the end.

    It has the job types and settings of the jobq.toml in the folder ``project`` (by default the
    working directory) or above it, but no hooks. ``workers`` replace types of the same name.

    Raises:
        ConfigError: the jobq.toml is wrong.
    """
    found = _project_settings(Path.cwd() if project is None else Path(project).absolute())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        settings = replace(
            found,
            path=None,
            backend=SQLITE,
            database=folder / "jobq.db",
            log_dir=folder / "logs",
            on_finish=(),
        )
        with _OwnQueue(settings, list(map(worker_of, workers))) as own:
            own.apply_configured_queues()
            yield own


def drain(
    queue: JobQueue, *, limit: int = 10_000, check: bool = False, real: bool = False
) -> list[Job]:
    """Run all pending jobs, and those that they make pending, in turn; return them as they ended.

    With ``check``, the first failure is raised: a worker's own exception, or a RuntimeError.

    Raises:
        UsageError: the queue was not made by `queue`, and ``real`` was not given.
        RuntimeError: after ``limit`` jobs there are still some.
    """
    if not (real or isinstance(queue, _OwnQueue)):
        raise UsageError(
            f"{queue.settings.database} is a real queue, and drain would run all its jobs: make "
            "one with jobq.testing.queue(), or give drain(queue, real=True)"
        )
    ids: list[int] = []
    lease = parse_duration(queue.settings.lease)
    while claim := queue.claim(owner=_OWNER, lease=lease):
        if len(ids) >= limit:
            raise RuntimeError(f"more than {limit} jobs: do they add each other?")
        ids.append(claim.job.id)
        end, error = _run_claim(queue, claim)
        now = utcnow()
        result = attempt_result(
            claim,
            end,
            None,
            now=now,
            policy=queue.settings.retry,
            chance=random.random(),  # noqa: S311 - jitter, not a secret
        )
        hide = queue.settings.redactor.of(claim.job.args, claim.job.tags)
        backend_of(queue).end([signed(result, claim.job, hide, end.frame)], now)
        if check and end.outcome in _FAILURES:
            raise _failure(claim.job, end, error)
    return queue.get_many(list(dict.fromkeys(ids)))


_FAILURES = {Outcome.FAILED, Outcome.CRASHED, Outcome.TIMED_OUT}


def _failure(job: Job, end: Exit, error: BaseException | None) -> BaseException:
    if error is None:
        return RuntimeError(f"job {job.id}, {job.type}: {end.error}")
    error.add_note(f"in job {job.id}, {job.type} {dict(job.args)}")
    return error


class _OwnQueue(JobQueue):
    """A queue that was made for a test, with workers of its own."""

    def __init__(self, settings: Settings, workers: Iterable[type[JobWorker]]) -> None:
        super().__init__(settings, SqliteBackend(settings.database))
        self._workers = workers

    @property
    def registry(self) -> Registry:
        """The job types of the project, and those of the test in their place."""
        if self._registry is None:
            self._registry = load(self.settings.worker_paths)
            for worker in self._workers:
                self._registry.types.pop(worker.job_type, None)
                self._registry.ambiguous.pop(worker.job_type, None)
                self._registry.add(worker, "the test")
        return self._registry


def _project_settings(folder: Path) -> Settings:
    file = find_file(None, {}, folder)
    if file is not None and not is_users_file(file):
        return load_settings(file, environ={})
    return Settings(path=None, database=folder, log_dir=folder, concurrency=1)


@contextmanager
def _queue_for(given: JobQueue | None, worker: type[JobWorker]) -> Iterator[JobQueue]:
    if given is not None:
        yield given
        return
    with queue([worker]) as own:
        yield own


def _run(
    worker: type[JobWorker],
    args: Mapping[str, Any],
    queue: JobQueue,
    log_dir: Path,
    *,
    cancelled: bool = False,
    attempt: int = 1,
    job_id: int = _NO_JOB_ID,
    tags: Mapping[str, str] | None = None,
) -> tuple[Run, dict[str, Any]]:
    """Run a worker; return that, and the report of its outcome as a supervisor would get it."""
    done, report = Run(), {"outcome": Outcome.COMPLETED}
    out, err, log = io.StringIO(), io.StringIO(), io.StringIO()
    logger = logging.Logger("jobq.job", logging.DEBUG)  # noqa: LOG001 - this run's own, no tree
    handler = logging.StreamHandler(log)
    handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
    logger.addHandler(handler)
    context = JobContext(
        job_id=job_id,
        attempt=attempt,
        tags=dict(tags or {}),
        log=logger,
        log_dir=log_dir,
        report=done.progress.append,
        open_queue=lambda: queue,
        is_cancelled=lambda: cancelled,
    )
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            checked = args_model(worker).model_validate(dict(args))
            worker.setup()
            try:
                done.result = jsonable(call(worker, checked, context))
            finally:
                worker.teardown()
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            done.error, report = error, report_of(error)
    done.stdout, done.stderr, done.log = out.getvalue(), err.getvalue(), log.getvalue()
    return done, report


def _run_claim(queue: JobQueue, claim: Claim) -> tuple[Exit, BaseException | None]:
    if claim.job.type == shell.JOB_TYPE:
        return _run_command(queue, claim), None
    worker = queue.job_type(claim.job.type).worker
    assert worker is not None
    with queue.logs.create(claim.job) as log:
        done, report = _run(
            worker,
            claim.job.args,
            queue,
            log.path,
            attempt=claim.attempt,
            job_id=claim.job.id,
            tags=claim.job.tags,
        )
        for name, text in ((STDOUT, done.stdout), (STDERR, done.stderr), (LOG, done.log)):
            if text:
                with os.fdopen(log.append(name), "w", encoding="utf-8") as file:
                    file.write(text)
    return Exit(**report, result=done.result), done.error


def _run_command(queue: JobQueue, claim: Claim) -> Exit:
    args = shell.ShellArgs(**claim.job.args)
    with (
        queue.logs.create(claim.job) as log,
        os.fdopen(log.append(STDOUT), "wb") as out,
        os.fdopen(log.append(STDERR), "wb") as err,
        suppress(subprocess.TimeoutExpired),
    ):
        process = subprocess.run(
            args.command(),
            cwd=args.cwd,
            env=job_environment(queue.settings)
            | args.env
            | ({"PWD": args.cwd} if args.cwd else {}),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            check=False,
            timeout=claim.job.timeout,
        )
        code = process.returncode
        return exit_of_process(-code if code < 0 else code << 8, None)
    return Exit(outcome=Outcome.TIMED_OUT, error="timed out")
