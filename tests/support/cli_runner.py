"""Runs the command in this process, or in one of its own on a terminal of any width."""

import fcntl
import json
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest

from jobq import JobQueue
from jobq.backends.messages import ClaimRequest
from jobq.cli.main import run
from jobq.clock import utcnow
from jobq.models import AttemptResult, Claim, Job, JobStatus, Outcome, SupervisorInfo
from jobq.queue import backend_of

ESCAPE = "\x1b"
_ON_ITS_TERMINAL = (
    "import fcntl, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); "  # so that ^C is a signal
    "from jobq.__main__ import main; main()"
)
_SILENCE_TIMEOUT_S = 20.0
HOSTILE = "a\x1b[31mred[/nope] \u202eevil\x9b2J\u200b"


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()


class Cli:
    """The command in a project of its own, and shortcuts to jobs in every state."""

    def __init__(self, queue: JobQueue, capsys: pytest.CaptureFixture[str]) -> None:
        self.queue = queue
        self._capsys = capsys

    def __call__(self, *argv: str) -> Result:
        self._capsys.readouterr()
        code = run(list(argv))
        out, err = self._capsys.readouterr()
        return Result(code, out, err)

    def add(self, *argv: str, **options: Any) -> Job:
        return self.queue.add("shell", {"argv": list(argv) or ["true"]}, **options)

    def running(self, **options: Any) -> Claim:
        job = self.add(**options)
        request = ClaimRequest(
            owner="test:1:00000000", limit=1, lease=timedelta(minutes=1), ids=[job.id]
        )
        (claim,) = backend_of(self.queue).claim(request, utcnow())
        return claim

    def completed(self, result: Any = None, **options: Any) -> Job:
        claim = self.running(**options)
        assert self.queue.complete(claim, result)
        return self.queue.get(claim.job.id)

    def failed(self, error: str = "exit code 3", **options: Any) -> Job:
        """Add a failed job, with its exit code or signal."""
        exit_code, signal = options.pop("exit_code", None), options.pop("signal", None)
        claim = self.running(**{"max_retries": 0, **options})
        ending = AttemptResult(
            key=claim.key,
            outcome=Outcome.FAILED,
            status=JobStatus.FAILED,
            failures=1,
            crashes=0,
            exit_code=exit_code,
            signal=signal,
            error=error,
        )
        assert backend_of(self.queue).end([ending], utcnow()) == [True]
        return self.queue.get(claim.job.id)

    def cancelled(self, **options: Any) -> Job:
        return self.queue.cancel(self.add(**options).id, "no need")

    def status(self, job_id: int) -> str:
        return self.queue.get(job_id).status.value

    def register_supervisor(self) -> str:
        """Register a supervisor that seems to be alive."""
        owner = "somewhere:1:abc"
        now = utcnow()
        backend_of(self.queue).supervisors.register(
            SupervisorInfo(
                id=owner,
                host="somewhere",
                boot_id="boot",
                pid=os.getpid(),
                slots=2,
                queues=None,
                types=("shell",),
                started_at=now,
                heartbeat_at=now,
            )
        )
        return owner


@dataclass(frozen=True)
class Screen:
    """The output of a command on a terminal."""

    code: int
    raw: str

    @property
    def text(self) -> str:
        return re.sub(r"\x1b\[[0-9;]*m", "", self.raw.replace("\r\n", "\n"))

    @property
    def lines(self) -> list[str]:
        return self.text.splitlines()


def on_terminal(
    cwd: Path,
    *argv: str,
    columns: int = 80,
    typed: str = "",
    stderr: bool = True,
    env: Mapping[str, str] | None = None,
) -> Screen:
    """Run a command on a pseudo-terminal: stdin, stdout and, unless told otherwise, stderr.

    ``typed`` is the answer to its question.
    """
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    unset = {"NO_COLOR", "COLUMNS", "LINES", "FORCE_COLOR", "JOBQ_CONFIG"}
    inherited = {name: value for name, value in os.environ.items() if name not in unset}
    process = subprocess.Popen(
        [sys.executable, "-c", _ON_ITS_TERMINAL, *argv],
        cwd=cwd,
        env={**inherited, "TERM": "xterm-256color", **(env or {})},
        stdin=slave,
        stdout=slave,
        stderr=slave if stderr else subprocess.DEVNULL,
        start_new_session=True,
    )
    os.close(slave)
    output = b""
    while block := _read(master, process):
        output += block
        if typed and b"[y/N] " in output:
            _wait_until_it_waits(process)
            os.write(master, typed.encode())
            typed = ""
    os.close(master)
    return Screen(process.wait(timeout=20), output.decode())


def _wait_until_it_waits(process: subprocess.Popen[bytes]) -> None:
    """Wait until it reads: a Ctrl-C just before, which no person manages, would be noticed late."""
    deadline = time.monotonic() + _SILENCE_TIMEOUT_S
    while psutil.Process(process.pid).status() != psutil.STATUS_SLEEPING:
        assert time.monotonic() < deadline
        time.sleep(0.001)


def _read(master: int, process: subprocess.Popen[bytes]) -> bytes:
    if not select.select([master], [], [], _SILENCE_TIMEOUT_S)[0]:
        process.kill()  # it asks something that nobody answers
    try:
        return os.read(master, 65536)
    except OSError:  # EIO: nobody has the other side open any more
        return b""
