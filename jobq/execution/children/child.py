"""A child: runs one job after another, as the supervisor hands them over.

A job's descriptors 1 and 2 are its own log files, so that whatever is printed is captured: by
Python, by a C library, or by a program that the job starts.
"""

import ctypes
import faulthandler
import json
import logging
import os
import re
import resource
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from functools import cache
from typing import Any, NoReturn

from jobq.clock import steady_time, utcnow
from jobq.config.environment import ATTEMPT_VAR, JOB_ID_VAR, LOG_DIR_VAR, SUPERVISOR_VAR
from jobq.config.settings import Settings
from jobq.execution.children.call import Interrupt, call, jsonable, report_of, was_awaited
from jobq.execution.children.output import Output
from jobq.execution.children.process_state import STDERR_DESCRIPTOR, ProcessState
from jobq.execution.hold import reason_to_wait
from jobq.execution.stack_signal import STACK_SIGNAL
from jobq.job_types.arguments import args_model, require_known
from jobq.job_types.registry import Registry
from jobq.job_types.worker import BUNDLED, Cancelled, JobContext, JobWorker
from jobq.job_types.worker_files import PROJECT
from jobq.jobs.retry import timed_out
from jobq.logs.directory import (
    EVENTS,
    LOG,
    STDERR,
    STDOUT,
    JobLogs,
    append_line,
    event_line,
)
from jobq.logs.events import start_lines
from jobq.logs.owner import Owner
from jobq.logs.progress import ProgressFile
from jobq.models import JobStatus, Outcome
from jobq.queue import JobQueue
from jobq.redaction import Redaction

_LIBC = ctypes.CDLL(None)

JOB_LOGGER = "jobq.job"

_PACKAGE = re.compile(rf"^({BUNDLED}|{PROJECT}\d+)\.")

_LATE_SHARE = 0.9
"""The share of its timeout after which a run that is stopped has most likely exceeded that: the
supervisor's clock for it runs a little ahead."""


class Child:
    """A process that runs jobs of Python workers."""

    def __init__(
        self,
        tasks: socket.socket,
        tokens: socket.socket,
        settings: Settings,
        registry: Registry,
        output: Output,
        *,
        digests: Mapping[str, str],
    ) -> None:
        """``tokens`` is read a byte at a time: a task runs here if its token was read here.

        ``digests`` are those of the code of each job type.
        """
        self._tasks = tasks
        self._lines = tasks.makefile("rb")
        self._tokens = tokens
        self._settings = settings
        self._registry = registry
        self._output = output
        self._digests = digests
        self._set_up: list[type[JobWorker]] = []  # to be torn down
        self._library_log = _LogHandler(logging.INFO)
        self._logs = JobLogs(settings.log_dir)
        self._owner = os.environ[SUPERVISOR_VAR]
        self._cancelled = False
        self._interrupt = Interrupt()
        self._running: type[JobWorker] | None = None
        self._is_used = False  # a job was run here before

    def serve(self) -> NoReturn:
        """Run jobs until the supervisor closes the connection."""
        signal.signal(signal.SIGTERM, self._on_terminate)
        if STACK_SIGNAL is not None:
            faulthandler.register(STACK_SIGNAL, STDERR_DESCRIPTOR)
        logging.root.setLevel(min(logging.root.level, logging.INFO))
        self._baseline = ProcessState()
        self._meter = Meter()
        self._pid = os.getpid()
        while task := self._next():
            report = self._run(task)
            report["id"], report["attempt"] = task["id"], task["attempt"]
            with suppress(BrokenPipeError):
                self._tasks.sendall(json.dumps(report).encode() + b"\n")
            if report["leftovers"]:
                break
        while self._lines.readline():  # what is left behind is ended once this process is gone
            pass
        for worker in reversed(self._set_up):
            with suppress(Exception):  # nothing is left that it could fail
                worker.teardown()
        os._exit(0)

    def _next(self) -> dict[str, Any] | None:
        """Return the next task that this process is to run; None if none will come."""
        token = self._tokens.recv(1)
        while token and (line := self._lines.readline()):
            task: dict[str, Any] = json.loads(line)
            if task["token"] == token[0]:
                return task
        return None

    def _on_terminate(self, *_: object) -> None:
        if self._running is None:
            os._exit(0)
        first, self._cancelled = not self._cancelled, True
        if first and not self._running.cooperative:
            self._interrupt.deliver()

    def _run(self, task: dict[str, Any]) -> dict[str, Any]:
        if task["start_by"] is not None and steady_time() > task["start_by"]:
            return {"begun": False, "leftovers": False}
        self._cancelled = False
        self._meter.start()
        self._output.begin()
        run = _Run(self._logs, task, self._owner, self._output, self._digests.get(task["type"]))
        try:
            with run:
                report = self._call(task, run)
                self._exit_if_forked()
                if task["timeout"] is not None and self._meter.seconds > task["timeout"]:
                    # The supervisor may have been too slow to stop it.
                    report = {"outcome": Outcome.TIMED_OUT, "error": timed_out(task["timeout"])}
                run.note_end(report, self._meter.seconds, cancelled=self._cancelled)
        except Cancelled:  # between two steps of jobq's own
            report = {"outcome": Outcome.CANCELLED}
        except OSError as error:  # its files can't be made
            if self._is_used:  # an earlier job may be at fault: a new child will show
                return {"begun": False, "leftovers": True}
            if reason := reason_to_wait(error, self._logs):
                return {"begun": False, "leftovers": True, "shortage": reason}
            report = {"outcome": Outcome.FAILED, "error": f"{error.filename}: {error.strerror}"}
            run.is_clean = False
        self._is_used = True
        report |= self._meter.read()
        report["begun"] = True
        report["end_noted"], report["progress"] = run.end_noted, run.progress.is_written
        report["written"] = run.written
        report |= self._output.lost()
        report["terminated"] = self._cancelled
        usable = self._baseline.restore() and run.is_clean
        report["leftovers"] = not usable or _has_children()
        return report

    def _exit_if_forked(self) -> None:
        """Exit if this is a process that the job forked: its result is not the job's."""
        if os.getpid() != self._pid:
            _flush()
            os._exit(0)

    def _call(self, task: dict[str, Any], run: "_Run") -> dict[str, Any]:
        try:
            worker = self._registry.get(task["type"]).worker
            assert worker is not None
            model = args_model(worker)
            require_known(task["type"], model, task["args"])  # it may be for newer code
            args = model.model_validate(task["args"])
            hide = cache(lambda: self._settings.redactor.of(task["args"], task["tags"]))
            self._library_log.run, self._library_log.hide = run, hide
            logging.lastResort = self._library_log
            context = JobContext(
                job_id=task["id"],
                attempt=task["attempt"],
                tags=task["tags"],
                log=_logger(run, hide),
                log_dir=run.log.path,
                report=run.progress.write,
                open_queue=lambda: JobQueue.from_settings(self._settings),
                is_cancelled=lambda: self._cancelled,
            )
            try:
                return {
                    "outcome": Outcome.COMPLETED,
                    "result": self._result(worker, args, context),
                }
            finally:
                context.close()
                context.log.handlers.clear()  # what it would write to is closed
        except BaseException as error:  # noqa: BLE001 - whatever a worker raises is its outcome
            self._running = None
            if self._cancelled and self._is_late(task) and was_awaited(error):
                traceback.print_exception(error)  # the stack is that of the event loop
            return report_of(error)
        finally:
            self._running = None
            logging.lastResort = None

    def _is_late(self, task: dict[str, Any]) -> bool:
        return task["timeout"] is not None and self._meter.seconds > task["timeout"] * _LATE_SHARE

    def _result(self, worker: type[JobWorker], args: Any, context: JobContext) -> Any:
        self._running = worker
        if self._cancelled:
            raise Cancelled
        if worker not in self._set_up:
            worker.setup()
            self._set_up.append(worker)
            self._baseline.allow_threads()
        result = call(worker, args, context, self._interrupt)
        self._running = None
        return jsonable(result)


# -- the files of a run ------------------------------------------------------------------------


class _Run:
    """The files of one attempt: descriptors 1 and 2 are on them, and its marks in the environment."""

    def __init__(
        self,
        logs: JobLogs,
        task: dict[str, Any],
        owner: str,
        output: Output,
        digest: str | None,
    ) -> None:
        self._logs = logs
        self._owner = owner
        self._output = output
        self._digest = digest
        self._id = task["id"]
        self._of = Owner(*task["owner"])
        self.attempt = task["attempt"]
        added = task["added"]
        self._added = None if added is None else datetime.fromtimestamp(added, UTC)
        self.end_noted = False
        self.written: int | None = None
        self.is_clean = True  # what it used of this process is as it was before
        self.progress = ProgressFile(logs.path(self._id))
        self._files: dict[str, int] = {}  # those that are written to here, by name

    def __enter__(self) -> None:
        self.log = self._logs.create(self._of)
        try:
            self._open()
        except BaseException:
            self.__exit__()
            raise
        self._append(
            start_lines(
                self._added,
                utcnow(),
                self.attempt,
                pid=os.getpid(),
                supervisor=self._owner,
                code=self._digest,
            )
        )

    def _open(self) -> None:
        self._marks = {
            JOB_ID_VAR: str(self._id),
            ATTEMPT_VAR: str(self.attempt),
            LOG_DIR_VAR: str(self.log.path),
        }
        os.environ.update(self._marks)
        _point(self.log.append(STDOUT), 1)
        _point(self.log.append(STDERR), 2)
        self._files[EVENTS] = self.log.append_events()

    def __exit__(self, *_: object) -> None:
        flushed = _flush()
        with suppress(OSError):
            self.written = sum(os.fstat(each).st_size for each in (1, 2, *self._files.values()))
        try:
            _point(os.open(os.devnull, os.O_RDWR), 0, 1, 2)
            if not flushed:
                _flush()  # what a full disk did not take is not the next job's
            for mark in self._marks:
                os.environ.pop(mark, None)
            self.progress.close()
            for descriptor in self._files.values():
                os.close(descriptor)
            self.log.close()
        except OSError:  # the job has closed, or limited, too much
            self.is_clean = False

    def note(self, name: str, at: datetime, **details: Any) -> None:
        """Append to the events. A full disk loses the event, not the job."""
        self._append(event_line(name, at, self.attempt, **details))

    def _append(self, lines: bytes) -> None:
        with suppress(OSError):
            append_line(self._files[EVENTS], lines)

    def note_end(self, report: dict[str, Any], took: float, *, cancelled: bool) -> None:
        """Append the end of a run that completed. The ends of others depend on the supervisor."""
        if report["outcome"] is Outcome.COMPLETED and not cancelled:
            details = {"outcome": report["outcome"].value, "status": JobStatus.COMPLETED.value}
            self.note("finished", utcnow(), **details, duration=round(took, 3))
            self.end_noted = True

    def write_log(self, line: str) -> None:
        """Append to the log for people, which is made with its first line."""
        if LOG not in self._files:
            self._files[LOG] = self.log.append(LOG)
        self._output.append(self._files[LOG], line.encode("utf-8", "backslashreplace"))


# -- capture -----------------------------------------------------------------------------------


def _point(source: int, *targets: int) -> None:
    for target in targets:
        if source == target:  # a job has closed it, so that its number was free
            os.set_inheritable(target, True)
        else:
            os.dup2(source, target)
    if source not in targets:
        os.close(source)


def _flush() -> bool:
    """Write out what Python and C still hold, before the descriptors are the next job's.

    Returns:
        Whether all of it was written.
    """
    flushed = True
    for name in ("stdout", "stderr", "__stdout__", "__stderr__"):
        try:
            getattr(sys, name).flush()
        except Exception:  # noqa: BLE001 - the job may have put anything in their places
            flushed = False
    return _LIBC.fflush(None) == 0 and flushed


def _logger(run: _Run, hide: Callable[[], Redaction]) -> logging.Logger:
    """Return the job's own logger: to job.log for people, and to events.jsonl for programs."""
    logger = logging.getLogger(JOB_LOGGER)
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    logger.disabled = False  # `logging.config` disables all loggers that it is not given
    logger.filters.clear()
    handler = _LogHandler()
    handler.run, handler.hide = run, hide
    logger.handlers[:] = [handler]
    return logger


class _LogHandler(logging.Handler):
    """Writes what a job, or a library that it uses, logs to both of its logs."""

    run: _Run  # the one that it writes for, and what hides its secrets
    hide: Callable[[], Redaction]

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = self.format(record)
            if record.name != JOB_LOGGER:
                text = f"{_PACKAGE.sub('', record.name)}: {text}"
            now = utcnow()
            self.run.write_log(
                f"{now.isoformat(timespec='milliseconds')} {record.levelname} {text}\n"
            )
            shown = self.hide().text(text)
            self.run.note("log", now, level=record.levelname, message=shown)
        except Exception:  # noqa: BLE001 - logging must not fail the job; this prints what went wrong
            self.handleError(record)


# -- resources ---------------------------------------------------------------------------------


class Meter:
    """A meter of the time and the memory that each run takes."""

    def __init__(self) -> None:
        self._peak = 0

    def start(self) -> None:
        """Begin with a run."""
        own = resource.getrusage(resource.RUSAGE_SELF)
        if _peak_memory(own) != self._peak:
            _reset_peak_memory()  # this process has run other jobs, or was another, before
            self._peak = _peak_memory(resource.getrusage(resource.RUSAGE_SELF))
        self._begun, self._cpu = time.perf_counter(), _cpu_seconds(own)

    @property
    def seconds(self) -> float:
        """Seconds that the run has taken so far."""
        return time.perf_counter() - self._begun

    def read(self) -> dict[str, Any]:
        """Return what the run took, as it is reported to the supervisor.

        The kernel keeps the peak of a whole process: where a run has not raised it, that is what
        the process had at the run's beginning.
        """
        own = resource.getrusage(resource.RUSAGE_SELF)
        return {
            "took": self.seconds,
            "cpu_seconds": _cpu_seconds(own) - self._cpu,
            "max_rss_bytes": _peak_memory(own),
        }


def _peak_memory(own: resource.struct_rusage) -> int:
    return own.ru_maxrss if sys.platform == "darwin" else own.ru_maxrss * 1024


def _cpu_seconds(own: resource.struct_rusage) -> float:
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + ended.ru_utime + ended.ru_stime


def _reset_peak_memory() -> None:
    """Make the kernel measure the peak from here on."""
    with suppress(OSError):
        descriptor = os.open("/proc/self/clear_refs", os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(descriptor, b"5")
        finally:
            os.close(descriptor)


def _has_children() -> bool:
    """Return whether processes that the job started are still there."""
    while True:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return False
        if pid == 0:
            return True
