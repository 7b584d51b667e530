"""Supervisors that share a database: announced, woken, and known dead once they are."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import IO

from tests.contract.driver import Jobs


@contextmanager
def announced(path: Path, owner: str) -> Iterator[tuple[subprocess.Popen[str], IO[str]]]:
    """Start another process that listens, and prints each wake-up."""
    script = (
        "import select, sys\nfrom pathlib import Path\n"
        "from jobq.backends.sqlite.backend import SqliteBackend\n"
        "listener = SqliteBackend(Path(sys.argv[1])).supervisors.listen(sys.argv[2])\n"
        "print('ready', flush=True)\n"
        "while select.select([listener], [], [])[0]:\n"
        " listener.drain()\n print('woken', flush=True)\n"
    )
    command = [sys.executable, "-c", script, str(path), owner]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        try:
            yield process, process.stdout
        finally:
            process.kill()


def test_a_supervisor_is_woken_and_is_dead_once_it_is_killed(jobs: Jobs, path: Path) -> None:
    jobs.add()
    with announced(path, "one") as (process, output):
        jobs.add()
        assert output.readline() == "woken\n"
        process.send_signal(signal.SIGSTOP)
        assert jobs.backend.supervisors.dead(["one"]) == set()
        process.kill()
        process.wait(10)
        assert jobs.backend.supervisors.dead(["one", "two"]) == {"one"}
    fifo = Path(f"{path}.supervisors") / "one.wake"
    assert fifo.is_fifo()
    jobs.add()  # nobody reads it any more, and nobody waits for that
    jobs.backend.supervisors.unregister(["one"])
    assert not fifo.exists()


def test_a_listener_that_does_not_read_holds_nobody_up(jobs: Jobs, path: Path) -> None:
    with closing(jobs.backend.supervisors.listen("one")) as listener:
        poke = os.open(Path(f"{path}.supervisors") / "one.wake", os.O_WRONLY | os.O_NONBLOCK)
        with suppress(BlockingIOError):
            while os.write(poke, b"!" * 4096):
                pass
        os.close(poke)
        jobs.add()
        listener.drain()


def test_forgetting_an_owner_removes_no_file_elsewhere(jobs: Jobs, path: Path) -> None:
    jobs.backend.supervisors.listen("one").close()
    precious = path.parent / "precious.lock"
    precious.touch()
    jobs.backend.supervisors.unregister(["../precious"])
    assert precious.exists()
