"""The operations that are killed: each on a queue that has jobs in every state."""

import asyncio
import io
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from jobq import JobQueue, job_reader
from jobq.backends.messages import ClaimRequest
from jobq.backends.sqlite.backend import SqliteBackend
from jobq.backends.sqlite.migrations import migrations
from jobq.backends.sqlite.schema import APPLICATION_ID
from jobq.clock import utcnow
from jobq.execution.options import WorkOptions
from jobq.execution.supervisor import Supervisor
from jobq.jobs.spec import to_spec
from jobq.models import (
    FINISHED,
    AttemptResult,
    Claim,
    JobStatus,
    LogOffsets,
    Outcome,
    Progress,
    Started,
    SupervisorInfo,
)
from jobq.queue import backend_of, recovery_of
from jobq.recovery import owner_id
from jobq.scheduling.schedules import Schedules
from jobq.transfer import formats, importer, staging

S = JobStatus
BATCH_SIZE = 3
"""Jobs in one transaction, so that a few jobs take several."""

DEAD = "dead"  # a tag of jobs that a dead supervisor ran
Acknowledge = Callable[[Any], None]
ROWS = b"".join(
    b'{"key": "k%d", "argv": ["true"]%b}\n' % (n, b', "after": ["k%d"]' % (n - 1) if n % 3 else b"")
    for n in range(8)
)


def open_queue(folder: Path) -> JobQueue:
    """Open the queue of a project folder, with small transactions."""
    vars(job_reader)["READ_BATCH_SIZE"] = BATCH_SIZE
    vars(staging)["BATCH_SIZE"] = vars(importer)["BATCH_SIZE"] = BATCH_SIZE
    SqliteBackend.batch_size = BATCH_SIZE
    return JobQueue.open(folder / "jobq.toml")


# -- what there is before ------------------------------------------------------------------------


def furnish(folder: Path) -> None:
    """Add jobs in every state, some held by a supervisor that dies with this process."""
    queue = open_queue(folder)
    owner = _announce(queue)
    root = _add(queue, name="root", key="root")
    child = _add(queue, name="child", after=[root], key="child")
    _add(queue, name="grandchild", after=[child])
    _add(queue, name="if it fails", after_fail=[root])
    _add(queue, name="holder", unique="k")
    _add(queue, delay="1h")
    for status in (S.COMPLETED, S.FAILED, S.RETRYING):
        job_id = _add(queue, name=status.value, max_retries=1)
        waiting = _add(queue, name=f"after {status}", after_any=[job_id])
        _end(queue, _claim(queue, [job_id], owner), status)
        with queue.logs.create(queue.get(job_id)) as log:
            os.close(log.append("stdout.log"))
        assert queue.get(waiting)
    _add(queue, name="after cancelled", after=[cancelled := _add(queue, name="cancelled")])
    queue.cancel(cancelled)
    for number in range(2):
        job_id = _add(queue, tags={DEAD: str(number)})
        _add(queue, after=[job_id])
        _claim(queue, [job_id], owner)
    Schedules(queue).add("often", "* * * * *", {"type": "shell", "args": {"argv": ["true"]}})
    # It leaves as if it had been killed: with its log not yet moved into the database.


def work_to_do(folder: Path) -> None:
    """Add jobs that write a line when they begin and when they end; one fails at first."""
    queue = open_queue(folder)
    effect = 'echo $JOBQ_JOB_ID $JOBQ_ATTEMPT %s >> "$JOBQ_LOG_DIR/../../../effects"'
    script = f"{effect % 'begins'}; [ $JOBQ_ATTEMPT -ge %d ] && {effect % 'ends'}"
    first = queue.add("shell", {"shell": script % 1}).id
    second = queue.add("shell", {"shell": script % 2}, after=[first]).id
    queue.add("example", {"steps": 2}, after_any=[second])


def empty(folder: Path) -> None:
    """Add nothing."""
    assert (folder / "jobq.toml").exists()


def old_schema(folder: Path) -> None:
    """Make a database as the first version left it."""
    import sqlite_utils

    settings = JobQueue.open(folder / "jobq.toml").settings
    settings.database.parent.mkdir(mode=0o700, exist_ok=True)
    db = sqlite_utils.Database(settings.database)
    db.conn.isolation_level = None
    db.execute("PRAGMA journal_mode = WAL")
    migrations.apply(db, stop_before="m002_rates")
    assert db.execute("PRAGMA application_id").fetchone() == (APPLICATION_ID,)
    for number in range(4):
        db.execute(
            "INSERT INTO job_queue (type, status, queue, priority, args, max_retries, retry_base, "
            "created_at) VALUES ('shell', 'pending', 'default', 5, ?, 3, 10.0, ?)",
            ('{"argv":["true"]}', float(number)),
        )


def _add(queue: JobQueue, **options: Any) -> int:
    return queue.add("shell", {"argv": ["true"]}, **options).id


def _announce(queue: JobQueue) -> str:
    owner, now = owner_id("here"), utcnow()
    backend_of(queue).supervisors.listen(owner)
    backend_of(queue).supervisors.register(
        SupervisorInfo(
            id=owner, host="here", boot_id="", pid=os.getpid(), slots=1, queues=None,
            types=("shell",), started_at=now, heartbeat_at=now,
        )
    )  # fmt: skip
    return owner


def _claim(queue: JobQueue, ids: list[int] | None, owner: str, limit: int = 1) -> Claim:
    request = ClaimRequest(owner=owner, limit=limit, lease=timedelta(seconds=30), ids=ids)
    return backend_of(queue).claim(request, utcnow())[0]


def _ending(claim: Claim, status: JobStatus) -> AttemptResult:
    return AttemptResult(
        key=claim.key,
        outcome=Outcome.COMPLETED if status is S.COMPLETED else Outcome.FAILED,
        status=status,
        failures=claim.job.failures,
        crashes=claim.job.crashes,
        run_at=utcnow() + timedelta(seconds=60) if status is S.RETRYING else None,
    )


def _end(queue: JobQueue, claim: Claim, status: JobStatus) -> None:
    assert backend_of(queue).end([_ending(claim, status)], utcnow()) == [True]


# -- the operations ------------------------------------------------------------------------------


def _named(queue: JobQueue, name: str) -> int:
    return next(job.id for job in queue.find() if job.name == name)


def add(queue: JobQueue, acknowledge: Acknowledge) -> None:
    spool = queue.logs.spool(io.BytesIO(b"what it reads"))
    spec = to_spec(
        {
            "type": "shell", "args": {"argv": ["cat"], "stdin": "-"}, "unique": "new",
            "after": [_named(queue, "root")],
        }
    )  # fmt: skip
    (inserted,) = queue.insert([spec], stdin=spool)
    acknowledge(inserted.id)


def added(queue: JobQueue, acknowledged: list[Any]) -> None:
    there = [job.id for job in queue.find() if job.args.get("stdin")]
    assert set(acknowledged) <= set(there)
    for job_id in there:
        assert (queue.logs.path(job_id) / "stdin").read_bytes() == b"what it reads"


def add_many(queue: JobQueue, acknowledge: Acknowledge) -> None:
    plain = {"type": "shell", "args": {"argv": ["true"]}, "tags": {"many": "yes"}}
    specs = [{**plain, "key": str(n), "after": [str(n - 1)] if n else []} for n in range(7)]
    for job in queue.add_many(specs):
        acknowledge(job.id)


def added_many(queue: JobQueue, acknowledged: list[Any]) -> None:
    there = len(queue.find(tags={"many": "yes"}))
    assert there in (0, 3, 6, 7), "a transaction was torn"
    assert there == 7 or not acknowledged


def import_rows(queue: JobQueue, acknowledge: Acknowledge) -> None:
    with importer.Importer(queue, Path("/")) as batch:
        batch.check(formats.read(io.BytesIO(ROWS), "jsonl"))
        assert not batch.problems
        for portion in batch.add():
            for inserted in portion:
                acknowledge(inserted.id)


def imported(queue: JobQueue, acknowledged: list[Any]) -> None:
    """Check that importing the file again adds what is missing, and nothing twice."""
    assert all(queue.get(job_id) for job_id in acknowledged)
    before = len(queue.find())
    known = backend_of(queue).transfer.known_keys([f"k{n}" for n in range(8)])
    import_rows(queue, lambda _: None)
    assert len(queue.find()) == before + 8 - len(known)


def claim(queue: JobQueue, acknowledge: Acknowledge) -> None:
    owner = _announce(queue)
    request = ClaimRequest(owner=owner, limit=3, lease=timedelta(seconds=30))
    for claimed in backend_of(queue).claim(request, utcnow()):
        acknowledge(claimed.job.id)


def claimed_or_started(queue: JobQueue, acknowledged: list[Any]) -> None:
    assert all(queue.get(job_id).status is S.RUNNING for job_id in acknowledged)


def start(queue: JobQueue, acknowledge: Acknowledge) -> None:
    owner = _announce(queue)
    claimed = _claim(queue, None, owner)
    started = Started(
        key=claimed.key, pid=2**22 + 1, pid_started=1,
        offsets=LogOffsets(),
    )  # fmt: skip
    with backend_of(queue).group():
        backend_of(queue).started([started])
        backend_of(queue).progress(claimed.key, Progress(1, 2, "half"))
    backend_of(queue).heartbeat(owner, timedelta(seconds=30), utcnow())
    acknowledge(claimed.job.id)


def finish(queue: JobQueue, acknowledge: Acknowledge) -> None:
    owner = _announce(queue)
    for name, status in (("root", S.COMPLETED), ("holder", S.FAILED), ("child", S.RETRYING)):
        claimed = _claim(queue, [_named(queue, name)], owner)
        _end(queue, claimed, status)
        acknowledge([claimed.job.id, status.value])


def finished(queue: JobQueue, acknowledged: list[Any]) -> None:
    for job_id, status in acknowledged:
        assert queue.get(job_id).status == status


def retry(queue: JobQueue, acknowledge: Acknowledge) -> None:
    ids = [_named(queue, name) for name in ("failed", "cancelled")]
    for retried in queue.retry_many(ids):
        acknowledge(retried.id)


def retried(queue: JobQueue, acknowledged: list[Any]) -> None:
    assert all(queue.get(job_id).status is S.PENDING for job_id in acknowledged)


def cancel(queue: JobQueue, acknowledge: Acknowledge) -> None:
    running = [job.id for job in queue.find(status="running")]
    for job_id in queue.cancel_many([_named(queue, "root"), *running], "enough", cascade=True):
        acknowledge(job_id)


def cancelled(queue: JobQueue, acknowledged: list[Any]) -> None:
    for job_id in acknowledged:
        job = queue.get(job_id)
        assert job.status is S.CANCELLED or job.cancel_requested


def rescue(queue: JobQueue, acknowledge: Acknowledge) -> None:
    assert recovery_of(queue).rescue_dead() == 2
    acknowledge("rescued")


def rescued(queue: JobQueue, acknowledged: list[Any]) -> None:
    assert not acknowledged or not queue.find(status="running")


def prune(queue: JobQueue, acknowledge: Acknowledge) -> None:
    acknowledge(queue.prune())


def pruned(queue: JobQueue, acknowledged: list[Any]) -> None:
    left = queue.find(status=list(FINISHED))
    assert not acknowledged or not left
    for job in left:
        if job.name in ("completed", "failed"):
            assert (queue.logs.path(job.id) / "stdout.log").exists(), "a job without its log"


def fire(queue: JobQueue, acknowledge: Acknowledge) -> None:
    for firing in Schedules(queue).fire_due(utcnow() + timedelta(seconds=90)):
        acknowledge([fired.job_id for fired in firing.fired])


def fired(queue: JobQueue, acknowledged: list[Any]) -> None:
    """Check that the time that was due fires once in all, however often that is tried."""
    assert all(queue.get(job_id) for ids in acknowledged for job_id in ids)
    for _ in range(2):
        Schedules(queue).fire_due(utcnow() + timedelta(seconds=90))
    times = [each.at for each in backend_of(queue).schedules.firings("often", 10)]
    assert times
    assert len(times) == len(set(times)) == len(queue.find(tags={"schedule": "often"}))


def checkpoint(queue: JobQueue, acknowledge: Acknowledge) -> None:
    backend_of(queue).maintain()
    acknowledge("done")


def close(queue: JobQueue, acknowledge: Acknowledge) -> None:
    queue.close()
    acknowledge("done")


def open_only(queue: JobQueue, acknowledge: Acknowledge) -> None:
    acknowledge(len(queue.find()))


def migrated(queue: JobQueue, acknowledged: list[Any]) -> None:
    del acknowledged
    assert len(queue.find()) == 4


def work(queue: JobQueue, acknowledge: Acknowledge) -> None:
    """Do what `jobq work --drain --wait-retries` does."""
    options = WorkOptions(slots=2, drain=True, wait_retries=True)
    asyncio.run(Supervisor(queue, options).run())
    acknowledge("done")


def effects_are_in_the_history(queue: JobQueue, folder: Path) -> None:
    lines = (folder / "effects").read_text().split("\n")[:-1]
    assert len(lines) == len(set(lines)), f"an attempt ran twice: {lines}"
    jobs = {job.id: job for job in queue.find()}
    for line in lines:
        job_id, attempt, _ = line.split()
        assert int(attempt) <= jobs[int(job_id)].attempts, f"{line}: not in the history"
    assert [job.status for job in jobs.values()] == [S.COMPLETED] * 3
    for job in list(jobs.values())[:2]:
        assert f"{job.id} {job.attempts} ends" in lines


def nothing(queue: JobQueue, acknowledged: list[Any]) -> None:
    """Check nothing but what is true of every queue."""


# -- what comes after ----------------------------------------------------------------------------


def ids_of(folder: Path) -> set[int]:
    """Return all jobs."""
    with open_queue(folder) as queue:
        return {job.id for job in queue.find()}


def run_all_that_is_left(queue: JobQueue) -> None:
    """Do what supervisors would do, until nothing is left."""
    later = utcnow() + timedelta(hours=2)
    recovery_of(queue).rescue_dead()
    recovery_of(queue).release(backend_of(queue).open_attempts(), lease_before=later)
    request = ClaimRequest(owner="after", limit=100, lease=timedelta(seconds=30))
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        claims = backend_of(queue).claim(request, later)
        if not claims and not backend_of(queue).settle_dependents(later):
            return
        endings = [_ending(each, S.COMPLETED) for each in claims]
        assert all(backend_of(queue).end(endings, later))
    raise AssertionError("there was always more to do")


def unfinished(queue: JobQueue) -> Iterator[str]:
    """Return the jobs that could not be brought to an end."""
    for job in queue.find():
        if job.status not in FINISHED:
            yield f"job {job.id} ({job.name}) is {job.status} for ever"


@dataclass(frozen=True)
class Operation:
    """An operation to be killed, the queue before it, and what must be true after it."""

    run: Callable[[JobQueue, Acknowledge], None]
    check: Callable[[JobQueue, list[Any]], None] = nothing
    before: Callable[[Path], None] = furnish
    forgets: bool = False  # it may delete jobs
    steps_vary: bool = False  # it may have come to its end where it took one more before
    settle: Callable[[JobQueue], None] = run_all_that_is_left
    after: Callable[[JobQueue, Path], None] = lambda _, __: None  # once all has been run


OPERATIONS = {
    "create": Operation(open_only, before=empty),
    "migrate": Operation(open_only, migrated, before=old_schema),
    "add": Operation(add, added),
    "add_many": Operation(add_many, added_many),
    "import": Operation(import_rows, imported),
    "claim": Operation(claim, claimed_or_started),
    "start": Operation(start, claimed_or_started),
    "finish": Operation(finish, finished),
    "retry": Operation(retry, retried),
    "cancel": Operation(cancel, cancelled),
    "rescue": Operation(rescue, rescued),
    "prune": Operation(prune, pruned, forgets=True),
    "fire": Operation(fire, fired),
    "checkpoint": Operation(checkpoint),
    "close": Operation(close),
    "work": Operation(
        work,
        before=work_to_do,
        steps_vary=True,
        settle=lambda queue: work(queue, lambda _: None),
        after=effects_are_in_the_history,
    ),
}
