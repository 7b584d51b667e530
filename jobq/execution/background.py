"""Supervisors in the background: started where none takes jobs, one at a time, and ended."""

import asyncio
import fcntl
import os
import signal
import subprocess
import time
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from datetime import timedelta

import psutil

from jobq.config.environment import JOB_ID_VAR, START_LOCK_VAR, STOP_PIPE_VAR, SUPERVISOR_VAR
from jobq.config.settings import Settings
from jobq.models import SupervisorInfo
from jobq.queue import JobQueue, backend_of
from jobq.supervisor_process import POLL_INTERVAL_S, START_TIMEOUT_S, spawn, start_error
from jobq.system.permissions import make_directory, open_file
from jobq.system.processes import boot_id, host_name

AUTOSTART_IDLE_TIMEOUT_S = 600.0
"""Seconds without a job after which a supervisor that was started by an `add` exits."""


def taking_jobs(queue: JobQueue) -> list[SupervisorInfo]:
    """Return the supervisors that take jobs, as far as is known."""
    backend = backend_of(queue)
    silent_since = queue.now() - timedelta(seconds=2 * queue.settings.lease)
    there = [
        each
        for each in backend.supervisors.all()
        if each.takes_jobs and each.heartbeat_at > silent_since
    ]
    dead = backend.supervisors.dead([each.id for each in there])
    return [each for each in there if each.id not in dead]


def is_inside_a_job() -> bool:
    """Return whether this process belongs to a job: what it starts would end with that."""
    return SUPERVISOR_VAR in os.environ or JOB_ID_VAR in os.environ


def start_if_needed(queue: JobQueue) -> bool:
    """Start a supervisor that exits once idle, unless one takes jobs, or is being started.

    Return whether one is being started. Nobody waits for it: it takes what was added before.
    """
    if is_inside_a_job() or taking_jobs(queue):
        return False
    lock = _start_lock(queue.settings)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        if taking_jobs(queue):  # it has registered meanwhile
            return False
        _spawn(queue.settings, lock, ["--idle-timeout", f"{AUTOSTART_IDLE_TIMEOUT_S:.0f}"])
        return True
    finally:
        os.close(lock)


def start(queue: JobQueue, slots: int | None) -> SupervisorInfo | None:
    """Start a supervisor, and return it once it takes jobs; None if one did already.

    Raises:
        JobqError: it ended, or did not take jobs in time; the message has its last words.
    """
    lock = _start_lock(queue.settings)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if taking_jobs(queue):
            return None
        process = _spawn(queue.settings, lock, ["--jobs", str(slots)] if slots else [])
    finally:
        os.close(lock)
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline and process.poll() is None:
        if found := [each for each in taking_jobs(queue) if each.pid == process.pid]:
            return found[0]
        time.sleep(POLL_INTERVAL_S)
    raise start_error(queue.settings)


def stop_with_program(request_stop: Callable[[], object]) -> None:
    """Have this supervisor stop once the program that started it for a while has ended."""
    if not (number := os.environ.pop(STOP_PIPE_VAR, "")).isdigit():
        return
    descriptor, loop = int(number), asyncio.get_running_loop()

    def on_end() -> None:
        loop.remove_reader(descriptor)
        os.close(descriptor)
        request_stop()

    with suppress(OSError):
        os.set_inheritable(descriptor, False)
        loop.add_reader(descriptor, on_end)


def release_start_lock() -> None:
    """Let others start supervisors again: this one, which was being started, takes jobs now."""
    if (descriptor := os.environ.pop(START_LOCK_VAR, "")).isdigit():
        with suppress(OSError):
            os.close(int(descriptor))


def _start_lock(settings: Settings) -> int:
    make_directory(settings.database.parent)
    file = f"{settings.database}.start.lock"
    return open_file(file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW)


def _spawn(settings: Settings, lock: int, options: list[str]) -> "subprocess.Popen[bytes]":
    """Start `jobq work`; it holds the lock until it takes jobs."""
    return spawn(settings, options, {START_LOCK_VAR: str(lock)}, lock)


# -- ending ----------------------------------------------------------------------------------


def working_here(queue: JobQueue) -> list[SupervisorInfo]:
    """Return the supervisors of `jobq work` on this host, those that drain included."""
    host, boot = host_name(), boot_id()
    there = [
        each
        for each in backend_of(queue).supervisors.all()
        if (each.host, each.boot_id) == (host, boot)
        and (each.takes_jobs or is_process_of_work(each.pid))
    ]
    return still_there(queue, there)


def is_process_of_work(pid: int) -> bool:
    """Return whether a live process is one of `jobq work`: one of `jobq run` registers, too."""
    with suppress(psutil.Error):
        words = psutil.Process(pid).cmdline()
        return next((word for word in words if word in ("work", "run")), "") == "work"
    return False


def ask_to_stop(supervisors: Collection[SupervisorInfo]) -> None:
    """Ask supervisors of this host to stop, one step further at each call."""
    terminate(each.pid for each in supervisors)


def terminate(pids: Iterable[int]) -> None:
    """Send SIGTERM to these processes, where they have not ended."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)


def still_there(queue: JobQueue, supervisors: Collection[SupervisorInfo]) -> list[SupervisorInfo]:
    """Return those of these supervisors that have not ended, as they are registered now."""
    backend = backend_of(queue)
    ids = {each.id for each in supervisors}
    there = [each for each in backend.supervisors.all() if each.id in ids]
    dead = backend.supervisors.dead([each.id for each in there])
    return [each for each in there if each.id not in dead]
