"""The job types of the chaos run. Each says in the file `effects` what it has done, line by line."""

import ctypes
import os
import resource
import signal
import time
from typing import Any

from pydantic import BaseModel

from jobq import JobContext, JobWorker, Snooze


class Effects:
    """One line for each thing that an attempt does, whole whoever writes at the same time."""

    def __init__(self, job: JobContext) -> None:
        self._attempt = f"{job.id} {job.attempt}"

    def note(self, word: str) -> None:
        line = f"{word} {self._attempt} {os.getpid()}\n".encode()
        descriptor = os.open("effects", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        os.write(descriptor, line)
        os.close(descriptor)


class Chaos(JobWorker):
    """Does what it is told, for better or worse."""

    job_type = "chaos"

    class Args(BaseModel):
        do: str
        seconds: float = 0.0

    def run(self, args: Any, job: JobContext) -> Any:
        effects = Effects(job)
        effects.note("start")
        time.sleep(args.seconds)
        getattr(self, args.do)(job)
        effects.note("end")
        return job.attempt

    def succeed(self, job: JobContext) -> None:
        """Nothing more."""

    def fail(self, job: JobContext) -> None:
        raise ValueError("as it was told")

    def segfault(self, job: JobContext) -> None:
        ctypes.string_at(0)

    def leave(self, job: JobContext) -> None:
        os._exit(3)

    def kill(self, job: JobContext) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def snooze(self, job: JobContext) -> None:
        if job.attempt < 3:
            raise Snooze(0.05)

    def exhaust(self, job: JobContext) -> None:
        resource.setrlimit(resource.RLIMIT_AS, (600 << 20, resource.RLIM_INFINITY))
        bytearray(1 << 40)

    def change(self, job: JobContext) -> None:
        os.umask(0)
        os.environ["CHAOS"] = "1"

    def hang(self, job: JobContext) -> None:
        time.sleep(600)

    def escape(self, job: JobContext) -> None:
        """Fork without exec, leave the session, ignore SIGTERM; and hang until the time limit."""
        if os.fork() == 0:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            os.setsid()
            if os.fork():
                os._exit(0)
            time.sleep(600)
            os._exit(0)
        time.sleep(600)
