"""A job that runs in this process, on this terminal, so that a debugger can be used in it."""

import logging
import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from jobq.config.environment import ATTEMPT_VAR, JOB_ID_VAR, LOG_DIR_VAR, job_environment
from jobq.errors import DatabaseError
from jobq.execution.children.call import call, jsonable, report_of
from jobq.job_types import shell
from jobq.job_types.arguments import args_model
from jobq.job_types.worker import Cancelled, JobContext, JobWorker
from jobq.jobs.outcome import Exit, attempt_result, exit_of_process
from jobq.jobs.signature import signed
from jobq.logs.directory import LOG, JobLog, append_line, event_line
from jobq.logs.events import start_lines
from jobq.models import Claim, Job, Outcome, Progress
from jobq.queue import JobQueue, backend_of

_HEARTBEATS_PER_LEASE = 3
_MAX_HEARTBEAT_INTERVAL_S = 2.0  # they tell, too, that the job was cancelled


def run_here(
    queue: JobQueue, claim: Claim, on_error: Callable[[Exception], None] = lambda _: None
) -> Job:
    """Run a claimed job in this process, and return it as it ended. It has no time limit.

    Its output goes where that of this process goes, and not into its log. ``on_error`` gets an
    exception of its worker.
    """
    with queue.logs.create(claim.job) as log, _kept(queue, claim):
        begun, added = queue.now(), claim.job.created_at if claim.attempt == 1 else None
        details = {"pid": os.getpid(), "supervisor": claim.owner}
        _append_events(log, start_lines(added, begun, claim.attempt, **details))
        if claim.job.type == shell.JOB_TYPE:
            end = _run_command(queue, claim, log)
        else:
            end = _run_worker(queue, claim, log, on_error)
        now = queue.now()
        result = attempt_result(
            claim,
            end,
            None,
            now=now,
            policy=queue.settings.retry,
            chance=random.random(),  # noqa: S311 - jitter, not a secret
        )
        ended = {
            "outcome": result.outcome.value,
            "status": result.status.value,
            "duration": round(max(0.0, (now - begun).total_seconds()), 3),
        }
        _append_events(log, event_line("finished", now, claim.attempt, **ended))
    backend = backend_of(queue)
    hide = queue.settings.redactor.of(claim.job.args, claim.job.tags)
    backend.end([signed(result, claim.job, hide, end.frame)], now)
    while backend.settle_dependents(now):
        pass  # there may be no supervisor to do so
    return queue.get(claim.job.id)


def _append_events(log: JobLog, lines: bytes) -> None:
    descriptor = log.append_events()
    try:
        append_line(descriptor, lines)
    finally:
        os.close(descriptor)


@contextmanager
def _kept(queue: JobQueue, claim: Claim) -> Iterator[None]:
    """Keep the lease, and raise `Cancelled` in this thread once the job is to stop."""
    ended = threading.Event()
    interval = min(queue.settings.lease / _HEARTBEATS_PER_LEASE, _MAX_HEARTBEAT_INTERVAL_S)

    def keep() -> None:
        while not ended.wait(interval):
            try:
                if not queue.heartbeat(claim):
                    os.kill(os.getpid(), signal.SIGTERM)
                    return
            except DatabaseError:  # it may answer the next time
                pass

    def cancel(*_: object) -> None:
        raise Cancelled

    before = signal.signal(signal.SIGTERM, cancel)
    thread = threading.Thread(target=keep, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        signal.signal(signal.SIGTERM, before)


def _run_command(queue: JobQueue, claim: Claim, log: JobLog) -> Exit:
    args = shell.ShellArgs(**claim.job.args)
    environment = {
        **job_environment(queue.settings),
        **args.env,
        **_marks(claim, log),
        **({"PWD": args.cwd} if args.cwd else {}),
    }
    try:
        done = subprocess.run(args.command(), cwd=args.cwd, env=environment, check=False)
    except (Cancelled, KeyboardInterrupt) as error:
        return _interrupted(error)
    except OSError as error:
        text = f"{error.filename}: {error.strerror}"
        return Exit(outcome=Outcome.FAILED, error=text, retryable=False)
    code = done.returncode
    return exit_of_process(-code if code < 0 else code << 8, None)


def _run_worker(
    queue: JobQueue, claim: Claim, log: JobLog, on_error: Callable[[Exception], None]
) -> Exit:
    worker = queue.job_type(claim.job.type).worker
    assert worker is not None
    try:
        with _context(queue, claim, log) as context:
            return Exit(outcome=Outcome.COMPLETED, result=_result(worker, claim, context))
    except (Cancelled, KeyboardInterrupt) as error:
        return _interrupted(error)
    except BaseException as error:  # noqa: BLE001 - whatever a worker raises is its outcome
        end = Exit(**report_of(error))
        if isinstance(error, Exception) and end.outcome is Outcome.FAILED:
            on_error(error)
        return end


def _result(worker: type[JobWorker], claim: Claim, context: JobContext) -> Any:
    args = args_model(worker).model_validate(claim.job.args)
    worker.setup()
    try:
        return jsonable(call(worker, args, context))
    finally:
        worker.teardown()


def _interrupted(error: BaseException) -> Exit:
    reason = "interrupted" if isinstance(error, KeyboardInterrupt) else str(error) or None
    return Exit(outcome=Outcome.CANCELLED, reason=reason)


def _marks(claim: Claim, log: JobLog) -> dict[str, str]:
    return {
        JOB_ID_VAR: str(claim.job.id),
        ATTEMPT_VAR: str(claim.attempt),
        LOG_DIR_VAR: str(log.path),
    }


@contextmanager
def _context(queue: JobQueue, claim: Claim, log: JobLog) -> Iterator[JobContext]:
    """Make the context of an attempt: its log goes to stderr, too."""
    logger = logging.Logger("jobq.job", logging.DEBUG)  # noqa: LOG001 - this run's own, no tree
    before = dict(os.environ)
    os.environ.update(_marks(claim, log))
    with os.fdopen(log.append(LOG), "a", encoding="utf-8", errors="backslashreplace") as file:
        for stream in (sys.stderr, file):
            handler = logging.StreamHandler(stream)
            handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
            logger.addHandler(handler)

        def report(made: Progress) -> None:
            queue.progress(claim, made.done, made.total, made.message)

        context = JobContext(
            job_id=claim.job.id,
            attempt=claim.attempt,
            tags=dict(claim.job.tags),
            log=logger,
            log_dir=log.path,
            report=report,
            open_queue=lambda: JobQueue.from_settings(queue.settings),
            is_cancelled=lambda: False,
        )
        try:
            yield context
        finally:
            context.close()
            os.environ.clear()
            os.environ.update(before)
