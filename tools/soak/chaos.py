"""Chaos: supervisors, jobs and clients under random signals, and a check that all adds up.

``python -m tools.soak.chaos --seconds 600 --seed 1``. The mix of jobs and the schedule of
disturbances come from the seed; which process is hit when is up to the host.
"""

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import psutil

from jobq import Attempt, Job, JobQueue, JobSpec, JobStatus
from jobq.backends.outage import Outage
from jobq.config.environment import ATTEMPT_VAR, CONFIG_VAR, JOB_ID_VAR, LOG_DIR_VAR
from jobq.diagnostics.verify import verify
from jobq.errors import DatabaseUnavailableError
from jobq.logs import descendants
from jobq.logs.directory import JobLogs
from jobq.logs.owner import MARK
from jobq.models import FINISHED, UNFINISHED, Outcome
from jobq.queue import backend_of
from tests.support.redis_server import AOF_ALWAYS, RedisServer
from tests.support.tcp_proxy import TcpProxy
from tools.soak.chaos_jobs import CANCELLED, COMPLETED, FAILED, KINDS, SUCCEED

SETTINGS = """
[lease]
seconds = 3
grace = 0.5
[retry]
base = 0.05
max_crashes = 100000  # what must complete is disturbed more often than three times
[logs]
max_bytes = 500000  # less than some print
"""
SUPERVISORS = 3
SLOTS = 4
MAX_STOP_S = 5.0  # longer than the lease
SETTLE_TIMEOUT_S = 120.0  # for all jobs to end once nothing is disturbed any more
EXIT_TIMEOUT_S = 3.0  # for the last children of a supervisor that has exited
UNIQUE_KEYS = 5
STEP_S = 0.05


class Chaos:
    """One run, in a directory of its own."""

    def __init__(self, root: Path, seed: int, bytes_: int) -> None:
        self.root = root
        self.hosts = self._make_hosts()  # directories, each as if on a machine of its own
        # Streams of their own: what is picked by the way must not shift the rest.
        self._rng, self._mix, self._pick = (random.Random(f"{seed} {n}") for n in range(3))
        self._bytes = bytes_
        self.queue = JobQueue.open(self.hosts[0] / "jobq.toml")
        self.outage = Outage()
        self._log = (root / "supervisors.log").open("ab")
        self._places: list[tuple[int, subprocess.Popen[bytes]]] = []  # each in its place
        self._clients: list[subprocess.Popen[bytes]] = []
        self._wakers: list[threading.Timer] = []
        self._keys = count(1)
        self.ends: dict[int, frozenset[JobStatus]] = {}
        self.deleted: set[int] = set()  # and their logs
        self.pruned: dict[int, tuple[Job, list[Attempt]]] = {}
        self.did: Counter[str] = Counter()

    def _make_hosts(self) -> list[Path]:
        _make_project(self.root, SETTINGS)
        return [self.root]

    # -- the run ---------------------------------------------------------------------------

    def run(self, seconds: float, most_jobs: int, least_jobs: int = 0) -> None:
        """Disturb, then wait until every job has ended, and all supervisors have exited.

        It takes longer on a host that is too slow for the least number of jobs.
        """
        begin = time.monotonic()
        actions = [self._add] * 4 + [self._disturb] * 6 + [self._cancel, self._retry, self._prune]
        while time.monotonic() < begin + seconds or len(self.ends) < least_jobs:
            self._start_missing()
            action = self._rng.choice(actions)
            if action != self._add or (len(self.ends) < most_jobs and self._unfinished() < 300):
                with suppress(DatabaseUnavailableError):  # it may have been done, or half of it
                    action()
            time.sleep(STEP_S)
        self._calm_down()
        for client in self._clients:  # one may be about to retry a job
            client.wait(SETTLE_TIMEOUT_S)
        deadline = time.monotonic() + SETTLE_TIMEOUT_S
        while self._unfinished():
            self._start_missing()
            if time.monotonic() > deadline:
                break
            time.sleep(STEP_S)
        for waker in self._wakers:
            waker.join()
        for supervisor in self._supervisors:
            supervisor.terminate()
        for supervisor in self._supervisors:
            supervisor.wait(60)

    def _unfinished(self) -> int:
        counts = self.outage.until_answered(self.queue.counts)
        return sum(counts[status] for status in UNFINISHED)

    def _calm_down(self) -> None:
        """Put right what is still disturbed."""

    def close(self) -> None:
        """End what is left, whatever went wrong."""
        for waker in self._wakers:
            waker.join()
        for popen in [*self._supervisors, *self._clients]:
            popen.kill()
            popen.wait()
        for process in self.strays():
            with suppress(psutil.Error):
                process.kill()
        self.queue.close()
        self._log.close()

    def _start_missing(self) -> None:
        alive = {host for host, each in self._places if each.poll() is None}
        self._places = [(host, each) for host, each in self._places if host in alive]
        for place in range(SUPERVISORS):
            if place not in alive:
                host = self.hosts[place % len(self.hosts)]
                self._places.append((place, self._jobq("work", "-j", str(SLOTS), host=host)))
                self.did["started supervisors"] += 1

    @property
    def _supervisors(self) -> "list[subprocess.Popen[bytes]]":
        return [each for _, each in self._places]

    def _jobq(self, *words: str, host: Path | None = None) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(
            [sys.executable, "-m", "jobq", *words],
            cwd=host or self.hosts[0],
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
        )

    # -- clients ---------------------------------------------------------------------------

    def _add(self) -> None:
        names = self._mix.choices(
            list(KINDS), [kind.weight for kind in KINDS.values()], k=self._mix.randint(1, 12)
        )
        specs = [KINDS[name].spec(self._mix, self._bytes) for name in names]
        for name, job in zip(names, self._added(specs), strict=True):
            self.ends[job.id] = KINDS[name].ends
        if self._mix.random() < 0.3:
            self._add_family()
        if self._mix.random() < 0.3:
            key = f"key {self._mix.randrange(UNIQUE_KEYS)}"
            spec = JobSpec(type="chaos", args=SUCCEED, unique=key, max_retries=100000)
            self.ends.setdefault(self._added([spec])[0].id, COMPLETED)

    def _added(self, specs: Sequence[JobSpec]) -> list[Job]:
        """Add jobs for certain: under keys, so that asking again after an outage is harmless."""
        keyed = [replace(spec, key=f"add {next(self._keys)}") for spec in specs]
        self.did["added"] += len(keyed)
        return self.outage.until_answered(lambda: self.queue.add_many(keyed))

    def _add_family(self) -> None:
        """Add jobs that wait for one that completes and one that fails."""
        good = KINDS["worker"].spec(self._mix, 0)
        bad = KINDS["worker_fail"].spec(self._mix, 0)
        parents = self._added([good, bad])
        self.ends[parents[0].id] = COMPLETED
        self.ends[parents[1].id] = FAILED
        child: dict[str, Any] = {"max_retries": 100000, "retry_base": 0.02}
        children: Sequence[tuple[dict[str, Any], frozenset[JobStatus]]] = (
            ({"after": [parents[0].id]}, COMPLETED),
            ({"after_fail": [parents[1].id]}, COMPLETED),
            ({"after_any": [parents[1].id]}, COMPLETED),
            ({"after": [parents[1].id]}, CANCELLED),
        )
        for options, ends in children:
            (job,) = self._added([JobSpec(type="chaos", args=SUCCEED, **child, **options)])
            self.ends[job.id] = ends

    def _cancel(self) -> None:
        """Cancel, by the command, jobs that no other waits for."""
        found = self.queue.find(status=[JobStatus.RUNNING, JobStatus.PENDING])
        alone = [job for job in found if not job.parents and not self._is_parent(job)]
        for job in self._pick.sample(alone, min(2, len(alone))):
            self.ends[job.id] = self.ends.get(job.id, FINISHED) | CANCELLED
            self._clients.append(self._jobq("cancel", str(job.id)))
            self.did["cancelled"] += 1

    def _is_parent(self, job: Job) -> bool:
        return bool(backend_of(self.queue).descendants([job.id]))

    def _retry(self) -> None:
        """Retry, by the command, jobs that have failed, and will fail again."""
        failed = [job for job in self.queue.find(status="failed") if not self._is_parent(job)]
        for job in self._pick.sample(failed, min(2, len(failed))):
            self._clients.append(self._jobq("retry", str(job.id)))
            self.did["retried"] += 1

    def _prune(self) -> None:
        ended = self.queue.find(status="completed")
        chosen = [job for job in ended if not job.parents and not self._is_parent(job)]
        pruned = self._pick.sample(chosen, min(5, len(chosen)))
        for job in pruned:
            self.pruned[job.id] = (job, self.queue.attempts(job.id))
        ids = [job.id for job in pruned]
        self.queue.delete(ids)
        self.deleted.update(ids)
        self.did["pruned"] = len(self.deleted)

    # -- disturbances ----------------------------------------------------------------------

    def _disturb(self) -> None:
        what = self._rng.choice(["supervisor", "fork server", "child", "command", "child"])
        how = self._rng.choice(
            [signal.SIGKILL, signal.SIGKILL, signal.SIGSTOP, signal.SIGSTOP, signal.SIGTERM]
        )
        spared = self._rng.random() < (0.7 if what in ("supervisor", "fork server") else 0.2)
        pick, pause = self._rng.random(), self._rng.uniform(0.1, MAX_STOP_S)
        there = self._processes(what)
        if spared or not there:
            return
        process = there[int(pick * len(there))]
        with suppress(psutil.Error):
            process.send_signal(how)
            self.did[f"{how.name} to a {what}"] += 1
            if how == signal.SIGSTOP:
                # In a thread: this one may wait for what the stopped process holds.
                waker = threading.Timer(pause, _resume, [process])
                waker.start()
                self._wakers.append(waker)

    def _processes(self, what: str) -> list[psutil.Process]:
        supervisors = [psutil.Process(each.pid) for each in self._supervisors]
        if what == "supervisor":
            return supervisors
        found = []
        for supervisor in supervisors:
            with suppress(psutil.Error, OSError):
                for process in supervisor.children():
                    is_server = "jobq.execution.children.fork_server" in process.cmdline()
                    if is_server and what == "child":
                        found += process.children()
                    elif is_server == (what == "fork server") and not self._hides(process):
                        found.append(process)
        return found

    def _hides(self, process: psutil.Process) -> bool:
        """Return whether a command has a runaway that jobq has not seen, and could not find."""
        if not any("setsid" in word for word in process.cmdline()):
            return False
        marks = process.environ()
        log_dir = Path(marks[LOG_DIR_VAR])
        logs = JobLogs(log_dir.parent.parent, backend_of(self.queue).identity)
        log = logs.open(self.queue.get(int(marks[JOB_ID_VAR])))
        assert log is not None
        with log:
            seen = descendants.read(log, int(marks[ATTEMPT_VAR]))
        runaways = [child for child in process.children() if os.getsid(child.pid) == child.pid]
        return not any(child.pid in seen for child in runaways)

    # -- the account -----------------------------------------------------------------------

    def strays(self) -> list[psutil.Process]:
        """Return processes that work in this run's directory, or carry its marks."""
        return [
            process
            for process in psutil.process_iter()
            if process.pid != os.getpid() and self._is_ours(process)
        ]

    def _is_ours(self, process: psutil.Process) -> bool:
        with suppress(psutil.Error, OSError):
            if process.status() == psutil.STATUS_ZOMBIE:
                return False
            here = str(self.root)
            marked = process.environ().get(CONFIG_VAR, "").startswith(here)
            return marked or process.cwd().startswith(here)
        return False

    def _lasting_strays(self) -> list[psutil.Process]:
        """Return strays that stay: a child may be about to exit, as its supervisor just has."""
        deadline = time.monotonic() + EXIT_TIMEOUT_S
        while (found := self.strays()) and time.monotonic() < deadline:
            time.sleep(0.05)
        return found

    def account(self) -> tuple[str, list[str]]:
        """Return the totals, and what does not add up."""
        verified = self.outage.until_answered(lambda: verify(backend_of(self.queue)))
        wrong = [f"{each.rule}: {each.message}" for each in verified.violations]
        strays = self._lasting_strays()
        wrong += [f"stray process {each.pid}: {each.cmdline()}" for each in strays]
        left = sorted(path.name for host in self.hosts for path in host.glob(".jobq/*.sup*/*"))
        here = self.hosts[0] / "logs" / "jobs"
        if len(self.hosts) == 1:  # where others took over, what a dead one noted stays
            noted = (path for path in here.glob("*/.*") if path.name != MARK)
            left += [str(path.relative_to(here)) for path in noted]
        left += [path.name for path in here.iterdir() if int(path.name) in self.deleted]
        wrong += [f"left over: {name}" for name in left]
        histories = self.outage.until_answered(self._histories)
        lost = [job_id for job_id in self.ends if job_id not in histories]
        wrong += [f"job {job_id} is lost" for job_id in lost]
        wrong += _odd_effects(self.root / "effects", histories)
        outcomes: Counter[str] = Counter()
        twice = 0
        for job, attempts in histories.values():
            outcomes.update(str(each.outcome) for each in attempts)
            completed = sum(each.outcome is Outcome.COMPLETED for each in attempts)
            twice += completed > 1
            if job.status not in self.ends.get(job.id, FINISHED):
                wrong.append(f"job {job.id} {job.args} ended {job.status}: {job.error}")
        lines = [f"jobs {len(histories)}, attempts {outcomes.total()} ({_listed(outcomes)})"]
        lines += [f"disturbed: {_listed(self.did)}"]
        lines += [f"lost {len(lost)}, completed twice {twice}, strays {len(strays)}"]
        return "\n".join(lines), wrong

    def _histories(self) -> dict[int, tuple[Job, list[Attempt]]]:
        there = {job.id: (job, self.queue.attempts(job.id)) for job in self.queue.find()}
        return self.pruned | there


class RedisChaos(Chaos):
    """A run on several hosts: their server is killed, and their cables are pulled."""

    def _make_hosts(self) -> list[Path]:
        # One thread that stays: a server ends with the thread that has started it.
        self._mender = ThreadPoolExecutor(1)
        self._mending: Future[None] | None = None
        self.server = RedisServer(*AOF_ALWAYS)
        self.server.start()
        self.cables = [TcpProxy(self.server.port) for _ in range(SUPERVISORS)]
        (self.root / "effects").touch()
        hosts = []
        for place, cable in enumerate(self.cables):
            hosts.append(self.root / f"host{place}")
            url = self.server.url_as(None, None, cable.port if place else None)
            _make_project(hosts[-1], f'backend = "{url}"\n{SETTINGS}')
            (hosts[-1] / "effects").symlink_to(self.root / "effects")
        return hosts

    def _disturb(self) -> None:
        if self._rng.random() > 0.1:
            super()._disturb()
        elif self._mending is None or self._mending.done():
            pause = self._rng.uniform(0.0, MAX_STOP_S)
            what = self._rng.choice(["server", "cut", "refuse", "black_hole", "lose_answer"])
            self.did[f"network: {what}"] += 1
            self._break(what, self._rng.choice(self.cables), pause)

    def _break(self, what: str, cable: TcpProxy, pause: float) -> None:
        if what == "server":
            self.server.kill()
            self._mend_later(pause, self.server.start)
        elif what == "lose_answer":
            cable.lose_answer_to(b'"exchange"')
        else:
            getattr(cable, what)()
            self._mend_later(pause, cable.heal)

    def _mend_later(self, pause: float, mend: Callable[[], None]) -> None:
        def work() -> None:
            time.sleep(pause)
            mend()

        self._mending = self._mender.submit(work)

    def _calm_down(self) -> None:
        if self._mending is not None:
            self._mending.result()

    def close(self) -> None:
        self._calm_down()
        super().close()
        for cable in self.cables:
            cable.close()
        self.server.close()
        self._mender.shutdown()


def _make_project(folder: Path, settings: str) -> None:
    (folder / "workers").mkdir(parents=True)
    (folder / "jobq.toml").write_text(settings)
    shutil.copy(Path(__file__).with_name("chaos_workers.py"), folder / "workers")


def _resume(process: psutil.Process) -> None:
    with suppress(psutil.Error):
        process.resume()


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))


def _odd_effects(path: Path, histories: Mapping[int, tuple[Job, Sequence[Attempt]]]) -> list[str]:
    """Return effects that no attempt accounts for, and attempts without their effects."""
    wrong: list[str] = []
    seen: Counter[tuple[str, int, int]] = Counter()
    latest: dict[int, int] = {}
    for line in path.read_text().splitlines():
        word, *numbers = line.split()
        job_id, attempt, _ = map(int, numbers)
        seen[word, job_id, attempt] += 1
        if attempt < latest.get(job_id, 0):
            wrong.append(f"job {job_id}: attempt {attempt} goes on beside {latest[job_id]}: {word}")
        latest[job_id] = max(attempt, latest.get(job_id, 0))
    for (word, job_id, attempt), times in seen.items():
        if word != "tick" and times > 1:
            wrong.append(f"job {job_id}: attempt {attempt} did {word} {times} times")
        if job_id not in histories or attempt > len(histories[job_id][1]):
            wrong.append(f"job {job_id}: attempt {attempt} did {word}, and is not known")
    for job, attempts in histories.values():
        for each in attempts:
            ended = seen["end", job.id, each.attempt]
            if each.outcome is Outcome.COMPLETED and not ended:
                wrong.append(f"job {job.id}: attempt {each.attempt} completed, and did not end")
    return wrong


def positive(text: str) -> float:
    """Parse seconds of an option."""
    seconds = float(text)
    if not 0 < seconds < float("inf"):
        raise ValueError(text)
    return seconds


def main() -> None:
    """Run it and print the account; exit with 1 if it does not add up."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=positive, default=600)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--jobs", type=int, default=100_000, help="the most to add")
    parser.add_argument(
        "--bytes", type=int, default=100_000_000, help="the most that one job prints"
    )
    parser.add_argument("--redis", action="store_true", help="several hosts, on a Redis server")
    options = parser.parse_args()
    print(f"seed {options.seed}, {options.seconds:g} s", flush=True)
    with tempfile.TemporaryDirectory(prefix="jobq-chaos-") as folder:
        kind = RedisChaos if options.redis else Chaos
        chaos = kind(Path(folder), options.seed, options.bytes)
        try:
            chaos.run(options.seconds, options.jobs)
            totals, wrong = chaos.account()
        finally:
            chaos.close()
    print(totals, *wrong, sep="\n")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
