"""Pull workers, a server and a supervisor, killed at random; then a check that all adds up.

``python -m tools.soak.pull_workers --seconds 600 --seed 1``. The workers are those of
docs/pull-workers.md. Every job prints the same lines, whoever runs it: so each attempt's part of the
log must be the beginning of them, and that of a completed attempt all of them.
"""

import argparse
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from jobq import Attempt, Job, JobStatus
from jobq.diagnostics.verify import verify
from jobq.errors import DatabaseUnavailableError
from jobq.logs.directory import EVENTS, STDOUT, JobLog
from jobq.models import UNFINISHED, Outcome
from jobq.queue import backend_of
from tests.support.paths import ROOT
from tests.support.redis_server import AOF_ALWAYS, RedisServer, free_port
from tests.support.web_server import WebServer
from tools.soak.chaos import positive

LEASE_S = 2
SETTINGS = """
[serve]
port = {port}
rate = "100000/s"
[lease]
seconds = {lease}
grace = 0.5
[retry]
base = 0.05
max_crashes = 100000  # what must complete is killed more often than three times
"""
WORKER = '''
import time
from typing import Any
from pydantic import BaseModel
from jobq import JobContext, JobWorker

class Count(JobWorker):
    """Count, as pull workers do."""

    job_type = "count"

    class Args(BaseModel):
        pass

    def run(self, args: Any, job: JobContext) -> None:
        for start in range(0, {lines}, {burst}):
            print(*range(start, start + {burst}), sep="\\n", flush=True)
            time.sleep({pause})
'''
PROGRAM = """
for start in {starts}; do seq $start $((start + {burst} - 1)); sleep {pause}; done
"""
PYTHON_WORKER = """
import sys
import jobq.pulled_job as pulled
from jobq.client import Client

pulled.LEASE_S, pulled.HEARTBEAT_INTERVAL_S, pulled.UPLOAD_INTERVAL_S = {lease}, 0.4, 0.1
with Client.open() as client:
    client.work(["count"], lambda job: job.command(["sh", "count.sh"]))
"""
LINES, BURST, PAUSE_S = 400, 100, 0.05
EXPECTED = "".join(f"{number}\n" for number in range(LINES)).encode()
MAX_UNFINISHED = 12
SETTLE_TIMEOUT_S = 120.0
STEP_S = 0.1

SH, PYTHON, SUPERVISOR, SERVER = "sh worker", "python worker", "supervisor", "server"


def sh_worker() -> str:
    """Return the worker in sh of docs/pull-workers.md."""
    text = (ROOT / "docs/pull-workers.md").read_text("utf-8")
    found = re.search(r"^```sh\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert found is not None
    return found[1]


class PullSoak:
    """One run in a directory of its own."""

    def __init__(self, root: Path, seed: int, places: Sequence[str], backend: str = "") -> None:
        self.root = root
        self.did: Counter[str] = Counter()
        self.ids: list[int] = []
        self._rng = random.Random(seed)
        self._places = list(places)
        self._running: dict[int, subprocess.Popen[bytes]] = {}
        self._all: list[subprocess.Popen[bytes]] = []
        self._log = (root / "output.log").open("wb")
        self._write_files()
        self.server = WebServer(
            root, settings=SETTINGS.format(port=free_port(), lease=LEASE_S), top=backend
        )
        self.queue = self.server.queue
        self._env = {
            **{name: value for name, value in os.environ.items() if not name.startswith("JOBQ_")},
            "JOBQ_URL": self.server.url,
            "JOBQ_TOKEN": self.server.token("worker", name="pull"),
            "LEASE": str(LEASE_S),
            "BEAT": "0.4",
        }

    def _write_files(self) -> None:
        (self.root / "workers").mkdir()
        sizes = {"lines": LINES, "burst": BURST, "pause": PAUSE_S}
        (self.root / "workers" / "count.py").write_text(WORKER.format(**sizes))
        starts = " ".join(map(str, range(0, LINES, BURST)))
        program = PROGRAM.format(starts=starts, burst=BURST, pause=PAUSE_S)
        (self.root / "count.sh").write_text(program)
        (self.root / "worker.sh").write_text(sh_worker())
        (self.root / "worker.py").write_text(PYTHON_WORKER.format(lease=LEASE_S))

    # -- the run ---------------------------------------------------------------------------

    def run(self, seconds: float, jobs: int, kills: int | None = None) -> None:
        """Add jobs and kill, for a time and up to a number of kills; then wait until all have ended.

        With ``kills``, it goes on until there have been so many: where jobs end before, more are added.
        """
        end = time.monotonic() + seconds
        while len(self.ids) < jobs and time.monotonic() < end:
            self._start_missing()
            self._add()
            if self._may_kill(kills):
                self._kill()
            time.sleep(STEP_S)
        deadline = time.monotonic() + SETTLE_TIMEOUT_S
        while time.monotonic() < deadline:
            self._start_missing()
            if kills is not None and self._may_kill(kills):
                if not self._unfinished():
                    self._add()
                self._kill()
            elif not self._unfinished():
                return
            self._recover()
            time.sleep(STEP_S)

    def _may_kill(self, kills: int | None) -> bool:
        return kills is None or self.did.total() < kills

    def _recover(self) -> None:
        """Give back what was lost, as every process that claims does; the server takes its time."""
        with suppress(DatabaseUnavailableError):
            self.queue.claim(owner="recovery", types=["none"])

    def _unfinished(self) -> int:
        counts = self.queue.counts()
        return sum(counts[status] for status in UNFINISHED)

    def _add(self) -> None:
        with suppress(DatabaseUnavailableError):
            if self._unfinished() < MAX_UNFINISHED:
                self.ids.append(self.queue.add("count").id)

    def _kill(self) -> None:
        if self._rng.random() < 0.7:
            return
        place = self._rng.randrange(len(self._places) + 1)
        if place == len(self._places):
            self.server.stop(signal.SIGKILL)
            self.server.start()
            self.did[SERVER] += 1
        elif place in self._running:
            self._running.pop(place).kill()
            self.did[self._places[place]] += 1

    def _start_missing(self) -> None:
        for place, kind in enumerate(self._places):
            process = self._running.get(place)
            if process is None or process.poll() is not None:
                self._running[place] = self._start(kind)

    def _start(self, kind: str) -> "subprocess.Popen[bytes]":
        argv = {
            SH: ["sh", "worker.sh", "count", "sh", "count.sh"],
            PYTHON: [sys.executable, "worker.py"],
            SUPERVISOR: [sys.executable, "-m", "jobq", "work", "-j", "2"],
        }[kind]
        self._all.append(
            subprocess.Popen(
                argv,
                cwd=self.root,
                env=self._env,
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=self._log,
                start_new_session=True,
            )
        )
        return self._all[-1]

    def close(self) -> None:
        """End what is left, whatever went wrong."""
        for process in self._all:
            if process.poll() is None:
                process.terminate()
        for process in self._all:
            with suppress(subprocess.TimeoutExpired):
                process.wait(5)
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        self.server.close()
        self._log.close()

    # -- the account -----------------------------------------------------------------------

    def account(self) -> tuple[str, list[str]]:
        """Return the totals, and what does not add up."""
        verified = verify(backend_of(self.queue))
        wrong = [f"{each.rule}: {each.message}" for each in verified.violations]
        jobs = self.queue.existing(self.ids)
        wrong += [f"job {job_id} is lost" for job_id in self.ids if job_id not in jobs]
        outcomes: Counter[str] = Counter()
        for job in jobs.values():
            attempts = self.queue.attempts(job.id)
            outcomes.update(str(each.outcome) for each in attempts)
            wrong += self._flaws(job, attempts)
        by_http = sum(
            each.supervisor.startswith("http:")
            for job_id in jobs
            for each in self.queue.attempts(job_id)
        )
        killed = ", ".join(f"{name} {number}" for name, number in sorted(self.did.items()))
        listed = ", ".join(f"{name} {number}" for name, number in sorted(outcomes.items()))
        lines = [f"jobs {len(jobs)}, attempts {outcomes.total()} ({listed}), by HTTP {by_http}"]
        return "\n".join([*lines, f"killed: {killed}"]), wrong

    def _flaws(self, job: Job, attempts: Sequence[Attempt]) -> list[str]:
        completed = [each.attempt for each in attempts if each.outcome is Outcome.COMPLETED]
        wrong = []
        if job.status is not JobStatus.COMPLETED or completed != [attempts[-1].attempt]:
            wrong.append(f"job {job.id} is {job.status}, completed by attempts {completed}")
        log = self.queue.logs.open(job)
        if log is None:
            return [*wrong, f"job {job.id} has no log"]
        with log:
            wrong += [f"job {job.id}: {flaw}" for flaw in _log_flaws(log, attempts)]
        return wrong


def _log_flaws(log: JobLog, attempts: Sequence[Attempt]) -> list[str]:
    """Return what is wrong with the output of each attempt, and how often it has ended."""
    wrong = []
    with log.read(STDOUT) as file:
        text = b"" if file is None else file.read_all()
    stops = [*(each.offsets.stdout for each in attempts[1:]), len(text)]
    for each, stop in zip(attempts, stops, strict=True):
        own = text[each.offsets.stdout : stop] if each.has_offsets or each.attempt == 1 else b""
        whole = each.outcome is Outcome.COMPLETED
        if own != EXPECTED if whole else not EXPECTED.startswith(own):
            wrong.append(
                f"attempt {each.attempt} ({each.outcome}) wrote {len(own)} bytes: {own[-40:]!r}"
            )
    with log.read(EVENTS) as file:
        events = [] if file is None else [json.loads(line) for line in file.read_all().splitlines()]
    ends = Counter(each["attempt"] for each in events if each["event"] == "finished")
    return [*wrong, *(f"attempt {number} ended {n} times" for number, n in ends.items() if n > 1)]


def main() -> None:
    """Run it and print the account; exit with 1 if it does not add up."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=positive, default=600)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--redis", action="store_true", help="on a Redis server")
    options = parser.parse_args()
    print(f"seed {options.seed}, {options.seconds:g} s", flush=True)
    with (
        tempfile.TemporaryDirectory(prefix="jobq-pull-") as folder,
        RedisServer(*AOF_ALWAYS) as store,
    ):
        backend = f'backend = "{store.url}"\n' if options.redis else ""
        soak = PullSoak(Path(folder), options.seed, [SH, SH, SH, SUPERVISOR], backend)
        try:
            soak.run(options.seconds, jobs=1_000_000)
            totals, wrong = soak.account()
        finally:
            soak.close()
    print(totals, *wrong, sep="\n")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
