"""Inside a child: run one job after another, as the supervisor hands them over.

A job's descriptors 1 and 2 are its own log files, so that whatever is printed is captured: by
Python, by a C library, or by a program that the job starts.
"""

import ctypes
import json
import logging
import os
import resource
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BufferedRWPair
from pathlib import Path
from typing import Any, NoReturn

from jobq.baseline import Baseline
from jobq.clock import utcnow
from jobq.config import Settings
from jobq.logs import LOG, STDERR, STDOUT, JobLog, JobLogs, append_line, event_line
from jobq.models import Outcome
from jobq.outcome import call, jsonable, report_of
from jobq.processes import ATTEMPT_MARK, JOB_MARK
from jobq.progress import FILE, ProgressFile
from jobq.queue import JobQueue
from jobq.redaction import Redaction
from jobq.registry import Registry, args_model
from jobq.worker import Cancelled, JobContext, JobWorker

_LIBC = ctypes.CDLL(None)


class Child:
    """A process that runs jobs of Python workers."""

    def __init__(self, stream: BufferedRWPair, settings: Settings, registry: Registry) -> None:
        self._stream = stream
        self._settings = settings
        self._registry = registry
        self._logs = JobLogs(settings.log_dir)
        self._cancelled = False
        self._running: type[JobWorker] | None = None

    def serve(self) -> NoReturn:
        """Run jobs until the supervisor closes the connection."""
        signal.signal(signal.SIGTERM, self._on_terminate)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        self._baseline = Baseline()
        own = os.getpid()
        for line in self._stream:
            task = json.loads(line)
            report = self._run(task)
            if os.getpid() != own:
                os._exit(0)  # a process that the job forked, and that came back here
            report["id"], report["attempt"] = task["id"], task["attempt"]
            with suppress(BrokenPipeError):
                self._stream.write(json.dumps(report).encode() + b"\n")
                self._stream.flush()
        os._exit(0)

    def _on_terminate(self, *_: object) -> None:
        if self._running is None:
            os._exit(0)
        first, self._cancelled = not self._cancelled, True
        if first and not self._running.cooperative:
            raise Cancelled

    def _run(self, task: dict[str, Any]) -> dict[str, Any]:
        before = _cpu_seconds()
        _reset_peak_memory()
        self._cancelled = False
        try:
            with self._logs.create(task["id"]) as log, _captured(log, task):
                report = self._call(task, log)
        except Cancelled:  # between two steps of ours
            report = {"outcome": Outcome.CANCELLED}
        except OSError as error:
            report = {"outcome": Outcome.FAILED, "error": f"{error.filename}: {error.strerror}"}
        report["max_rss_bytes"] = _peak_memory()
        report["cpu_seconds"] = _cpu_seconds() - before
        report["terminated"] = self._cancelled
        report["leftovers"] = not self._baseline.restore() or _has_children()
        return report

    def _call(self, task: dict[str, Any], log: JobLog) -> dict[str, Any]:
        progress = ProgressFile(log.path / FILE)
        try:
            worker = self._registry.get(task["type"]).worker
            assert worker is not None
            args = args_model(worker).model_validate(task["args"])
            hide = self._settings.redactor.of(task["args"], task["tags"])
            with _logger(log, task["attempt"], hide) as logger:
                context = JobContext(
                    job_id=task["id"],
                    attempt=task["attempt"],
                    tags=task["tags"],
                    log=logger,
                    log_dir=log.path,
                    report=progress.write,
                    open_queue=lambda: JobQueue.from_settings(self._settings),
                    is_cancelled=lambda: self._cancelled,
                )
                try:
                    result = self._result(worker, args, context)
                finally:
                    context.close()
                return {"outcome": Outcome.COMPLETED, "result": result}
        except BaseException as error:  # noqa: BLE001 - whatever a worker raises is its outcome
            self._running = None
            return report_of(error)
        finally:
            self._running = None
            progress.close()

    def _result(self, worker: type[JobWorker], args: Any, context: JobContext) -> Any:
        self._running = worker
        if self._cancelled:
            raise Cancelled
        result = call(worker, args, context)
        self._running = None
        return jsonable(result)


# -- capture -----------------------------------------------------------------------------------


@contextmanager
def _captured(log: JobLog, task: dict[str, Any]) -> Iterator[None]:
    """Descriptors 1 and 2 on the job's files, and its marks in the environment."""
    marks = {
        JOB_MARK: str(task["id"]),
        ATTEMPT_MARK: str(task["attempt"]),
        "JOBQ_LOG_DIR": str(log.path),
    }
    os.environ.update(marks)
    for name, descriptor in ((STDOUT, 1), (STDERR, 2)):
        _point(log.append(name), descriptor)
    try:
        yield
    finally:
        _flush()
        for descriptor in (1, 2):
            _point(os.open(os.devnull, os.O_WRONLY), descriptor)
        _flush()  # what a full disk did not take is not the next job's
        for mark in marks:
            os.environ.pop(mark, None)


def _point(source: int, target: int) -> None:
    if source == target:  # a job has closed it, so that it was given again
        os.set_inheritable(target, True)
        return
    os.dup2(source, target)
    os.close(source)


def _flush() -> None:
    """Write out what Python and C still hold, before the descriptors are the next job's."""
    # The job may have put others in their places, or None.
    for stream in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__):
        with suppress(OSError, ValueError, AttributeError):
            stream.flush()  # type: ignore[union-attr]
    _LIBC.fflush(None)


@contextmanager
def _logger(log: JobLog, attempt: int, hide: Redaction) -> Iterator[logging.Logger]:
    """The job's own logger: to job.log for people, and to events.jsonl for programs."""
    logger = logging.getLogger("jobq.job")
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    handler = _LogHandler(log, attempt, hide)
    logger.handlers[:] = [handler]
    try:
        yield logger
    finally:
        logger.removeHandler(handler)
        handler.close()


class _LogHandler(logging.Handler):
    def __init__(self, log: JobLog, attempt: int, hide: Redaction) -> None:
        super().__init__()
        self._hide = hide
        self._attempt = attempt
        self._log = log.append(LOG)
        self._events = log.append_events()

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = self.format(record)
            now = utcnow()
            line = f"{now.isoformat(timespec='milliseconds')} {record.levelname} {text}\n"
            os.write(self._log, line.encode("utf-8", "backslashreplace"))
            shown = self._hide.text(text)
            event = event_line("log", now, self._attempt, level=record.levelname, message=shown)
            append_line(self._events, event)
        except Exception:  # noqa: BLE001 - logging must not fail the job; this prints what went wrong
            self.handleError(record)

    def close(self) -> None:
        for descriptor in (self._log, self._events):
            os.close(descriptor)
        super().close()


# -- resources ---------------------------------------------------------------------------------


def _cpu_seconds() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(item.ru_utime + item.ru_stime for item in used)


def _reset_peak_memory() -> None:
    """Let the kernel measure the peak afresh: this process has run other jobs before."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_bytes(b"5")


def _peak_memory() -> int:
    with suppress(OSError):
        for line in Path("/proc/self/status").read_bytes().splitlines():
            if line.startswith(b"VmHWM:"):
                return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _has_children() -> bool:
    """Whether processes that the job started are still there."""
    while True:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return False
        if pid == 0:
            return True
