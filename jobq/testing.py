"""Tests of workers: run one without a queue, or a queue without a supervisor.

Everything happens in the calling process: breakpoints, coverage and monkeypatching work.
"""

import contextlib
import io
import logging
import os
import random
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jobq.backends.sqlite.backend import SqliteBackend
from jobq.clock import utcnow
from jobq.config.environment import job_environment
from jobq.config.settings import Settings
from jobq.execution.children.call import call, jsonable, report_of
from jobq.job_types import shell
from jobq.job_types.arguments import args_model
from jobq.job_types.registry import JobType
from jobq.job_types.worker import JobContext, JobWorker
from jobq.jobs.outcome import Exit, attempt_result, exit_of_process
from jobq.jobs.signature import signed
from jobq.logs.directory import LOG, STDERR, STDOUT
from jobq.models import Claim, Job, Outcome, Progress
from jobq.queue import JobQueue, backend_of
from jobq.units import parse_duration

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


def run(
    worker: type[JobWorker],
    args: Mapping[str, Any] | None = None,
    *,
    queue: JobQueue | None = None,
    cancelled: bool = False,
    attempt: int = 1,
) -> Run:
    """Run a worker once. An exception raised by `run` is kept in ``error``.

    ``queue`` is the one that ``job.queue`` and ``job.add`` use; without it, a temporary one.

    Raises:
        ArgsError: the arguments do not fit.
    """
    checked = JobType(worker.job_type, "", "", worker).parse(args or {})
    with _queue_for(queue, worker) as used:
        newest = max((job.id for job in used.find()), default=0)
        with tempfile.TemporaryDirectory() as folder:
            done = _run(worker, checked, used, Path(folder), cancelled=cancelled, attempt=attempt)
        done.added = used.find(after_id=newest)
    return done


def drain(queue: JobQueue, *, limit: int = 10_000) -> list[Job]:
    """Run all pending jobs, and those that they make pending, in turn; return them as they ended.

    Raises:
        RuntimeError: after ``limit`` jobs there are still some.
    """
    ids: list[int] = []
    lease = parse_duration(queue.settings.lease)
    while claim := queue.claim(owner=_OWNER, lease=lease):
        if len(ids) >= limit:
            raise RuntimeError(f"more than {limit} jobs: do they add each other?")
        ids.append(claim.job.id)
        now = utcnow()
        end = _run_claim(queue, claim)
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
    return queue.get_many(list(dict.fromkeys(ids)))


@contextmanager
def _queue_for(queue: JobQueue | None, worker: type[JobWorker]) -> Iterator[JobQueue]:
    if queue is not None:
        yield queue
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        settings = Settings(
            path=None, database=path / "jobq.db", log_dir=path / "logs", concurrency=1
        )
        with JobQueue(settings, SqliteBackend(settings.database)) as own:
            if worker.job_type not in own.registry.types:
                own.registry.add(worker, "the test")
            yield own


def _run(
    worker: type[JobWorker],
    args: Mapping[str, Any],
    queue: JobQueue,
    log_dir: Path,
    *,
    cancelled: bool = False,
    attempt: int = 1,
    job_id: int = 0,
) -> Run:
    done = Run()
    out, err, log = io.StringIO(), io.StringIO(), io.StringIO()
    logger = logging.Logger("jobq.job", logging.DEBUG)  # noqa: LOG001 - this run's own, no tree
    handler = logging.StreamHandler(log)
    handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
    logger.addHandler(handler)
    context = JobContext(
        job_id=job_id,
        attempt=attempt,
        tags={},
        log=logger,
        log_dir=log_dir,
        report=done.progress.append,
        open_queue=lambda: queue,
        is_cancelled=lambda: cancelled,
    )
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            checked = args_model(worker).model_validate(dict(args))
            done.result = jsonable(call(worker, checked, context))
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            done.error = error
    done.stdout, done.stderr, done.log = out.getvalue(), err.getvalue(), log.getvalue()
    return done


def _run_claim(queue: JobQueue, claim: Claim) -> Exit:
    if claim.job.type == shell.JOB_TYPE:
        return _run_command(queue, claim)
    worker = queue.job_type(claim.job.type).worker
    assert worker is not None
    with queue.logs.create(claim.job) as log:
        done = _run(
            worker,
            claim.job.args,
            queue,
            log.path,
            attempt=claim.attempt,
            job_id=claim.job.id,
        )
        for name, text in ((STDOUT, done.stdout), (STDERR, done.stderr), (LOG, done.log)):
            if text:
                with os.fdopen(log.append(name), "w", encoding="utf-8") as file:
                    file.write(text)
    if done.error is None:
        return Exit(outcome=Outcome.COMPLETED, result=done.result)
    report = report_of(done.error)
    return Exit(
        outcome=Outcome(report["outcome"]),
        error=report.get("error"),
        frame=report.get("frame"),
        reason=report.get("reason"),
        retryable=report.get("retryable", True),
        delay=report.get("delay"),
    )


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
