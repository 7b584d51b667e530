"""The bounds in figures, on real files and processes: ``python -m tools.soak.limits [SHARE] [NAME…]``.

SHARE scales the sizes: 1 is a million jobs of history, 100,000 children, a chain of 10,000.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from jobq import JobQueue, JobStatus
from jobq.backends.messages import ClaimRequest
from jobq.clock import utcnow
from jobq.diagnostics.stats import collect
from jobq.models import AttemptResult, Claim, Outcome
from jobq.queue import backend_of

WRITERS = 64
ADDER = """
import json, sys, time
from jobq import JobQueue
from jobq.backends.sqlite.write_lock import WriteLock
waits, acquire = [], WriteLock.acquire
def timed(*words):
    start = time.perf_counter()
    acquire(*words)
    waits.append(time.perf_counter() - start)
WriteLock.acquire = timed
adds = []
with JobQueue.open(sys.argv[1]) as queue:
    queue.counts()
    print(flush=True)
    sys.stdin.readline()
    for _ in range(int(sys.argv[2])):
        start = time.perf_counter()
        queue.add("shell", {"argv": ["true"]})
        adds.append(time.perf_counter() - start)
print(json.dumps([adds, waits]))
"""

PROBE = """
import json, select, sys, time
from jobq import JobQueue
adds = []
with JobQueue.open(sys.argv[1]) as queue:
    queue.create_queue("probe")
    queue.pause("probe")
    print(flush=True)
    while not select.select([sys.stdin], [], [], 0.005)[0]:
        start = time.perf_counter()
        queue.add("shell", {"argv": ["true"]}, queue="probe")
        adds.append(time.perf_counter() - start)
print(json.dumps(adds))
"""


@dataclass(slots=True)
class Probe:
    """Run another writer in a process of its own; return how long its adds take, in seconds."""

    adds: list[float] = field(default_factory=list)


@contextmanager
def probing(root: Path) -> Iterator[Probe]:
    """Add a job every few milliseconds until the block ends."""
    words = [sys.executable, "-c", PROBE, str(root / "jobq.toml")]
    process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    probe = Probe()
    try:
        yield probe
    finally:
        probe.adds += json.loads(process.communicate()[0])


def timed(call: Callable[[], object]) -> float:
    """Return the seconds that a call takes."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def take(queue: JobQueue, limit: int) -> int:
    """Claim and complete at the backend; return how many jobs there were."""
    request = ClaimRequest(owner="me", limit=limit, lease=timedelta(minutes=5), queues=["default"])
    claims = backend_of(queue).claim(request, utcnow())
    done = [completed(claim) for claim in claims]
    if done:
        backend_of(queue).end(done, utcnow())
    return len(done)


def completed(claim: Claim) -> AttemptResult:
    return AttemptResult(
        key=claim.key,
        outcome=Outcome.COMPLETED,
        status=JobStatus.COMPLETED,
        failures=0,
        crashes=0,
    )


def finish(queue: JobQueue, end: Callable[[], object]) -> None:
    """End an attempt, and settle everything that waits for it."""
    end()
    while backend_of(queue).settle_dependents(utcnow()):
        pass


# -- what is measured ----------------------------------------------------------------------------


def writers(root: Path, queue: JobQueue, share: float) -> str:
    """64 processes add at once."""
    each = max(5, round(50 * share))
    words = [sys.executable, "-c", ADDER, str(root / "jobq.toml"), str(each)]
    pipe = subprocess.PIPE
    processes = [subprocess.Popen(words, stdin=pipe, stdout=pipe) for _ in range(WRITERS)]
    for process in processes:
        assert process.stdout is not None
        process.stdout.readline()
    start = time.perf_counter()
    for process in processes:
        assert process.stdin is not None
        process.stdin.write(b"\n")
        process.stdin.flush()
    answers = [process.communicate()[0] for process in processes]
    took = time.perf_counter() - start
    errors = sum(process.returncode != 0 for process in processes)
    told = [json.loads(answer) for answer in answers if answer]
    adds = sorted(seconds for each, _ in told for seconds in each)
    waits = sorted(seconds for _, each in told for seconds in each)
    return (
        f"{WRITERS} processes adding {each} jobs each: {queue.counts()[JobStatus.PENDING]:,} jobs, "
        f"{errors} errors, {took:.1f} s; for its turn a writer waited {ms(waits[len(waits) // 2])} "
        f"(median), {ms(waits[-1])} at most; an add took {ms(adds[len(adds) // 2])} (median), "
        f"{ms(adds[-1])} at most"
    )


def children(root: Path, queue: JobQueue, share: float) -> str:
    """Measure one parent of 100,000: it fails, is retried, completes; another is cancelled."""
    number = round(100_000 * share)
    parent = queue.add("shell", {"argv": ["true"]}, max_retries=0)
    spec = {"args": {"argv": ["true"]}, "after": [parent.id]}
    told = []
    with probing(root) as probe:
        told.append(("add", timed(lambda: queue.add_many([spec] * number))))
        claim = queue.claim("default", owner="me")
        assert claim is not None
        told.append(("fail", timed(lambda: finish(queue, lambda: queue.fail(claim, "no")))))
        assert queue.counts()[JobStatus.CANCELLED] == number
        told.append(("retry", timed(lambda: queue.retry(parent.id))))
        assert queue.counts()[JobStatus.BLOCKED] == number
        told.append(("cancel --cascade", timed(lambda: queue.cancel(parent.id, cascade=True))))
        assert queue.counts()[JobStatus.CANCELLED] == number + 1
        ids = [job.id for job in queue.find(queue="default", status="cancelled")]
        told.append(("retry of all", timed(lambda: queue.retry_many(ids))))
        assert queue.counts()[JobStatus.BLOCKED] == number
        again = queue.claim("default", owner="me")
        assert again is not None
        told.append(("complete", timed(lambda: finish(queue, lambda: queue.complete(again)))))
        assert queue.counts()[JobStatus.PENDING] >= number
    return f"{number:,} children of one parent: {spans(told)}; {waited(probe)}"


def chain(root: Path, queue: JobQueue, share: float) -> str:
    """Measure a chain of 10,000: cancelled at its root, retried, and worked off."""
    length = round(10_000 * share)
    specs = [
        {"args": {"argv": ["true"]}, "key": str(n), "after": [str(n - 1)] if n else []}
        for n in range(length)
    ]
    told = []
    with probing(root) as probe:
        told.append(("add", timed(lambda: queue.add_many(specs))))
        root_id = queue.find(limit=1, queue="default")[0].id
        told.append(("cancel at the root", timed(lambda: queue.cancel(root_id))))
        assert queue.counts()[JobStatus.CANCELLED] == length
        told.append(("retry", timed(lambda: queue.retry(root_id))))
        assert queue.counts()[JobStatus.BLOCKED] == length - 1

        def work() -> None:
            while take(queue, 10):
                pass

        told.append(("work off", timed(work)))
        assert queue.counts()[JobStatus.COMPLETED] == length
    return f"a chain of {length:,}: {spans(told)}; {waited(probe)}"


def history(root: Path, queue: JobQueue, share: float) -> str:
    """Measure a million jobs that have ended, everyday commands among them, and their pruning."""
    number = round(1_000_000 * share)
    spec = {"args": {"argv": ["true", "x" * 40]}}
    filled = timed(lambda: fill(queue, spec, number))
    queue.add_many([spec] * 100)
    now = utcnow()
    told = [
        ("claim and end 10", timed(lambda: take(queue, 10))),
        ("add", timed(lambda: queue.add("shell", {"argv": ["true"]}))),
        ("list", timed(lambda: queue.find(limit=50, newest=True))),
        ("list --status failed", timed(lambda: queue.find(status="failed", limit=50, newest=True))),
        ("counts", timed(queue.counts)),
        ("stats", timed(lambda: collect(queue, now))),
    ]
    with probing(root) as probe:
        told.append(("prune", timed(lambda: queue.prune(status="completed"))))
    assert queue.counts()[JobStatus.COMPLETED] == 0
    return f"{number:,} jobs of history (made in {filled:.0f} s): {spans(told)}; {waited(probe)}"


def fill(queue: JobQueue, spec: Mapping[str, object], number: int) -> None:
    """Add jobs that have ended, through the same calls as any."""
    for _ in range(0, number, 1000):
        with backend_of(queue).group():
            queue.add_many([spec] * 1000)
            take(queue, 1000)


def large(root: Path, queue: JobQueue, share: float) -> str:
    """Measure ten megabytes of everything."""
    del root
    much = "x" * round(10_000_000 * max(share, 0.3))
    claim = claim_of(queue)
    queue.progress(claim, 1, 2, much)
    queue.fail(claim, much, retry=False)
    failed = queue.get(claim.job.id)
    claim = claim_of(queue)
    queue.complete(claim, {"much": much})
    result = json.dumps(queue.get(claim.job.id).result)
    assert failed.error is not None
    assert failed.progress is not None
    return f"{len(much):,} characters: error {failed.error[-40:]!r}, result {result}"


def claim_of(queue: JobQueue) -> Claim:
    queue.add("shell", {"argv": ["true"]})
    claim = queue.claim("default", owner="me")
    assert claim is not None
    return claim


# -- saying it -----------------------------------------------------------------------------------


def ms(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms"


def spans(told: Sequence[tuple[str, float]]) -> str:
    return ", ".join(f"{what} {f'{took:.1f} s' if took > 1 else ms(took)}" for what, took in told)


def waited(probe: Probe) -> str:
    return f"an add of another process took {ms(max(probe.adds))} at most (of {len(probe.adds):,})"


MEASURES = {m.__name__: m for m in (writers, children, chain, history, large)}


def measure(name: str, share: float) -> str:
    """Measure one figure in a project of its own."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "jobq.toml").write_text("")
        with JobQueue.open(root / "jobq.toml") as queue:
            return MEASURES[name](root, queue, share)


def main(words: Sequence[str]) -> None:
    share = float(words[0]) if words else 1.0
    for name in words[1:] or MEASURES:
        print(measure(name, share), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
