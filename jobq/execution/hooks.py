"""Hooks: the commands of jobq.toml, and notifications, run when a job has ended for good.

They run in threads beside the supervisor's loop, after the end was recorded: a hook that is slow,
fails or hangs harms nothing.
"""

import itertools
import json
import os
import queue as queues
import re
import subprocess
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from jobq.clock import utcnow
from jobq.config.environment import (
    ATTEMPT_VAR,
    SIGNATURE_NEW_VAR,
    SIGNATURE_VAR,
    SUPERVISOR_VAR,
    job_environment,
)
from jobq.config.settings import Settings
from jobq.config.trust import distrust
from jobq.errors import DatabaseError
from jobq.execution import programs
from jobq.logs.directory import JobLogs, append_line, event_line
from jobq.logs.owner import Owner
from jobq.models import FINISHED, Job, JobStatus, JsonObject
from jobq.redaction import Redaction
from jobq.serializers import job_document
from jobq.system.desktop_notification import TAG, notify
from jobq.system.processes import ProcessTree, hook_mark, start_time
from jobq.system.resources import shortage_of, start_thread

HOOK_TIMEOUT_S = 30.0

MAX_CONCURRENT_HOOKS = 4
"""Hooks that run at the same time; others wait."""


_INTERPRETER = re.compile(r"(?:ba|da|k|z|fi)?sh|python[\d.]*|perl|ruby|node")
"""Programs that run the script that is their first argument."""


_RETRY_INTERVAL_S = 1.0
"""Seconds after which a hook is started again that the host had no room for."""

_SHELL = '"$@"; code=$?; [ $code -gt 128 ] && kill -$((code - 128)) $$; exit $code'
"""Run a hook, and end as it did."""


@dataclass(frozen=True, slots=True)
class Call:
    """One command or notification for one job that has ended."""

    job_id: int
    attempt: int
    argv: tuple[str, ...] | None  # None: a notification
    document: JsonObject
    job: Job
    owner: Owner  # of the job's log directory


class Hooks:
    """Runs the hooks of jobs that have ended, some at a time, in the background."""

    def __init__(
        self,
        settings: Settings,
        logs: JobLogs,
        get: Callable[[Collection[int]], Mapping[int, Job]],
        on_message: Callable[[str], None],
        *,
        is_new: Callable[[Job], bool] = lambda _: False,
        owner: str = "",
        timeout: float = HOOK_TIMEOUT_S,
    ) -> None:
        """``get`` is the backend's; ``on_message`` and ``is_new`` are called in the threads.

        ``is_new`` returns whether a job is the first that failed like this.

        The processes of hooks are marked as the ``owner``'s.
        """
        self._settings = settings
        self._get = get
        self._on_message = on_message
        self._is_new = is_new
        self._timeout = timeout
        self._logs = logs
        self._noted: dict[int, int] = {}  # attempts by job
        self._waiting: queues.SimpleQueue[Call | None] = queues.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._running: set[_Process] = set()
        self._owner = owner
        self._numbers = itertools.count()
        self._left = 0
        self._lock = threading.Lock()
        self._closed = False

    def attempts_ended(self, jobs: Iterable[Job]) -> None:
        """Note the latest attempts at these jobs, and run the hooks of those that ended for good.

        Where the database does not answer, `run_noted` makes up for it.
        """
        self._noted |= {job.id: job.attempts for job in jobs if self._wants(job)}
        with suppress(DatabaseError):
            self.run_noted()

    def run_noted(self) -> None:
        """Run the hooks of the noted jobs that ended for good.

        Raises:
            DatabaseError: there is no answer; they are still noted.
        """
        if self._noted:
            jobs = self._get(self._noted.keys())
            noted, self._noted = self._noted, {}
            # The end of another attempt is for the supervisor that ran it.
            self.run(job for job in jobs.values() if job.attempts == noted[job.id])

    @property
    def has_noted(self) -> bool:
        """True if a job is noted that was not asked for yet."""
        return bool(self._noted)

    def _wants(self, job: Job) -> bool:
        return bool(self._settings.on_finish) or job.tags.get(TAG) == "1"

    def run(self, jobs: Iterable[Job]) -> None:
        """Run the hooks of those of these jobs that have ended for good."""
        for job in jobs:
            if job.status not in FINISHED:
                continue
            document = job_document(self._settings.redactor.job(job), self._logs.path(job.id))
            owner = self._logs.owner(job)
            if job.tags.get(TAG) == "1":
                self._add(Call(job.id, job.attempts, None, document, job, owner))
            for argv in self._settings.on_finish:
                self._add(Call(job.id, job.attempts, argv, document, job, owner))

    @property
    def left(self) -> int:
        """The number of hooks that have not ended."""
        return self._left

    def close(self) -> int:
        """End the hooks that run, and return the number of those that did not end by themselves."""
        with self._lock:
            self._closed = True
            left = self._left + len(self._noted)
            for process in self._running:
                process.kill()
        for _ in self._threads:
            self._waiting.put(None)
        for thread in self._threads:
            thread.join(1.0)
        return left

    # -- the threads -----------------------------------------------------------------------

    def _add(self, call: Call) -> None:
        with self._lock:
            self._left += 1
            needed = min(self._left, MAX_CONCURRENT_HOOKS)
        self._waiting.put(call)
        if len(self._threads) < needed:
            self._start_thread()

    def start_waiting(self) -> None:
        """Start what there was no room for: without any thread, no hook runs."""
        if self._left and not self._threads:
            self._start_thread()

    def _start_thread(self) -> None:
        thread = threading.Thread(target=self._work, name="jobq-hook", daemon=True)
        if start_thread(thread):
            self._threads.append(thread)

    def _work(self) -> None:
        while (call := self._waiting.get()) is not None and not self._closed:
            try:
                self._do(call)
            finally:
                with self._lock:
                    self._left -= 1

    def _do(self, call: Call) -> None:
        if call.argv is None:
            notify(*announcement(call.document))
            return
        try:
            failure = self._execute(call.argv, call)
        except (OSError, ValueError, MemoryError) as error:
            failure = self._start_failure(call.argv[0], error)
        if failure is not None:
            self._note(call, failure)

    def _execute(self, argv: tuple[str, ...], call: Call) -> str | None:
        """Run a hook; return how it failed, or None."""
        path = self._settings.path
        if reason := _distrust(argv, path):
            return reason
        deadline = time.monotonic() + self._timeout
        process = self._start(argv, deadline, self._failure_variables(call.job))
        with self._lock:
            self._running.add(process)
            if self._closed:
                process.kill()
        text = json.dumps(call.document, ensure_ascii=False).encode("utf-8", "backslashreplace")
        try:
            code = process.wait(text + b"\n", deadline - time.monotonic())
        except subprocess.TimeoutExpired:
            return f"ended after {self._timeout:g} s"
        finally:
            with self._lock:
                self._running.discard(process)
            process.end()
        return None if code == 0 else f"exit code {code}" if code > 0 else f"signal {-code}"

    def _start(self, argv: tuple[str, ...], deadline: float, more: Mapping[str, str]) -> "_Process":
        """Start a hook; where the host is short of something, try again until the deadline."""
        mark, env = hook_mark(next(self._numbers)), self._environment()
        env |= {os.fsencode(SUPERVISOR_VAR): os.fsencode(self._owner)}
        env |= {os.fsencode(ATTEMPT_VAR): os.fsencode(mark)}
        env |= {os.fsencode(name): os.fsencode(value) for name, value in more.items()}
        programs.require(argv[0], self._directory, env)
        while True:
            try:
                return _Process(argv, self._directory, env, self._owner, mark)
            except OSError as error:
                if not shortage_of(error) or self._closed or time.monotonic() > deadline:
                    raise
            time.sleep(_RETRY_INTERVAL_S)

    def _failure_variables(self, job: Job) -> dict[str, str]:
        """Return the variables of a hook that say how its job failed."""
        if job.status is not JobStatus.FAILED or job.signature is None:
            return {}
        is_new = False
        with suppress(DatabaseError):
            is_new = self._is_new(job)
        return {SIGNATURE_VAR: job.signature} | ({SIGNATURE_NEW_VAR: "1"} if is_new else {})

    @property
    def _directory(self) -> str | None:
        path = self._settings.path
        return str(path.parent.absolute()) if path else None

    def _environment(self) -> dict[bytes, bytes]:
        variables = job_environment(self._settings)
        return {os.fsencode(name): os.fsencode(value) for name, value in variables.items()}

    def _start_failure(self, command: str, error: Exception) -> str:
        """Return why a hook could not be started."""
        if isinstance(error, FileNotFoundError):
            wrong = programs.bad_interpreter(command, self._directory, self._environment())
            if wrong is not None:
                return wrong
        return getattr(error, "strerror", None) or str(error)

    def _note(self, call: Call, failure: str) -> None:
        """Add a failure to the events of the job, and show it on the supervisor's terminal."""
        assert call.argv is not None
        argv = Redaction(self._settings.redactor).value(call.argv)
        with suppress(OSError):
            log = self._logs.open(call.owner)
            if log is not None:
                with log:
                    line = event_line(
                        "hook_failed", utcnow(), call.attempt, argv=argv, error=failure
                    )
                    events = log.append_events()
                    try:
                        append_line(events, line)
                    finally:
                        os.close(events)
        self._on_message(f"the hook {call.argv[0]} failed for job {call.job_id}: {failure}")


def announcement(document: JsonObject) -> tuple[str, str]:
    """Return the title and the text of a notification about one job."""
    what = document["name"] or document["type"]
    was = "was " if document["status"] == JobStatus.CANCELLED else ""
    why = document["error"] if document["status"] == JobStatus.FAILED else document["reason"]
    return f"jobq: {what} {was}{document['status']}", f"job {document['id']}" + (
        f": {why}" if why else ""
    )


def _distrust(argv: Sequence[str], config: Path | None) -> str | None:
    """Return why the program of a hook, or the script for it, must not be run; None if it may be.

    What is found in $PATH is trusted as it is in a shell.
    """
    words = [argv[0]] if "/" in argv[0] else []
    if _INTERPRETER.fullmatch(os.path.basename(argv[0])):
        words += [word for word in argv[1:2] if not word.startswith("-")]
    folder = config.parent if config else Path()
    for word in words:
        if reason := distrust(folder / word):
            return f"{word}: {reason}"
    return None


class _Process:
    """The process of a hook, in a session of its own.

    Between it and this process is a shell, so that a hook that ends its parent ends no supervisor.
    """

    def __init__(
        self,
        argv: Sequence[str],
        cwd: str | None,
        env: Mapping[bytes, bytes],
        owner: str,
        mark: str,
    ) -> None:
        self._shell = programs.start(
            ["/bin/sh", "-c", _SHELL, argv[0], *argv],
            cwd=cwd,
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        pid = self._shell.pid
        self._tree = ProcessTree(owner, None, mark, pid, start_time(pid))

    def wait(self, text: bytes, seconds: float) -> int:
        """Give it its input, and return its exit code; negative: the signal that ended it.

        Raises:
            TimeoutExpired: it has not ended in time.
        """
        self._shell.communicate(text, timeout=seconds)
        return self._shell.returncode

    def kill(self) -> None:
        """End it, and all that it has started."""
        with suppress(OSError):
            self._tree.kill()

    def end(self) -> None:
        """End what did not end by itself."""
        if self._shell.poll() != 0:
            self.kill()
            self._shell.wait()
        if self._shell.stdin is not None:
            with suppress(OSError):  # what it did not read
                self._shell.stdin.close()
