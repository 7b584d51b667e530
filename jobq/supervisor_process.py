"""Supervisors as processes of their own: started by a command, or by a program for a while."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from jobq.backends.base import Backend
from jobq.config.environment import BACKEND_VAR, STOP_PIPE_VAR, job_environment
from jobq.config.settings import Settings
from jobq.errors import JobqError
from jobq.models import SupervisorInfo
from jobq.system.permissions import make_directory, open_file

START_TIMEOUT_S = 30.0
POLL_INTERVAL_S = 0.02

_MAX_LOG_BYTES = 1 << 20
_MAX_ERROR_CHARS = 1000


def log_file(settings: Settings) -> Path:
    """Return the file that takes what a supervisor without a terminal prints."""
    return Path(f"{settings.database}.work.log")


def spawn(
    settings: Settings, options: Collection[str], environment: Mapping[str, str], descriptor: int
) -> "subprocess.Popen[bytes]":
    """Start `jobq work` in a session of its own, with these variables, and a descriptor of ours."""
    config = ["--config", str(settings.path.absolute())] if settings.path else []
    log = log_file(settings)
    with suppress(FileNotFoundError):
        if log.stat().st_size > _MAX_LOG_BYTES:
            log.replace(f"{log}.1")
    output = open_file(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW)
    try:
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "jobq", *config, "work", *options],
            cwd=settings.path.absolute().parent if settings.path else settings.database.parent,
            env={**job_environment(settings), **environment},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            pass_fds=(descriptor,),
        )
    finally:
        os.close(output)


def start_error(settings: Settings) -> JobqError:
    """Return the error of a supervisor that did not start, with its last words."""
    log = log_file(settings)
    return JobqError(f"the supervisor did not start: {_last_line(log) or 'see'} ({log})")


def _last_line(file: Path) -> str:
    with suppress(OSError):
        lines = file.read_text("utf-8", errors="replace").splitlines()
        return lines[-1][:_MAX_ERROR_CHARS].removeprefix("jobq: ") if lines else ""
    return ""


@contextmanager
def running(
    settings: Settings, backend: Backend, options: Collection[str]
) -> Iterator[SupervisorInfo]:
    """Run a supervisor while a block lasts, and yield it once it takes jobs.

    At the end of the block, it finishes what it runs; if that was left by an exception, it gives
    that back. It ends, too, once this process has: it sees the end of a pipe.

    Raises:
        JobqError: it ended, or did not take jobs in time; the message has its last words.
    """
    make_directory(settings.database.parent)
    other_end, pipe = os.pipe()
    try:
        environment = {STOP_PIPE_VAR: str(other_end)}
        if settings.path is None:  # there is no file that says so
            environment[BACKEND_VAR] = settings.backend
        process = spawn(settings, options, environment, other_end)
    except BaseException:
        os.close(pipe)
        raise
    finally:
        os.close(other_end)
    try:
        try:
            yield _wait_for_start(settings, backend, process)
        finally:
            process.send_signal(signal.SIGTERM)
        process.wait()
    finally:
        os.close(pipe)  # asks it to go one step further, if it still runs
        process.wait()


def _wait_for_start(
    settings: Settings, backend: Backend, process: "subprocess.Popen[bytes]"
) -> SupervisorInfo:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline and process.poll() is None:
        for each in backend.supervisors.all():
            if each.pid == process.pid and each.takes_jobs:
                return each
        time.sleep(POLL_INTERVAL_S)
    raise start_error(settings)
