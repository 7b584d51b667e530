"""Uses of a queue on Redis, each from one end to the other."""

import asyncio
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any, Unpack

import pytest

from jobq import Job, JobQueue, JobStatus
from jobq.backends.messages import ClaimRequest
from jobq.clock import utcnow
from jobq.execution.options import WorkOptions
from jobq.execution.supervisor import Supervisor
from jobq.models import Outcome
from jobq.options import JobOptions
from jobq.queue import backend_of
from tests.support.project import alive, wait_until

SETTINGS = """
backend = "{url}"
[lease]
seconds = 12
grace = 0.1
[retry]
base = 0.01
jitter = 0
"""


class Scenario:
    """A queue on a server on which nothing else is, and a supervisor in this process."""

    def __init__(self, folder: Path, url: str) -> None:
        (folder / "jobq.toml").write_text(SETTINGS.format(url=url))
        self.folder = folder
        self.queue = JobQueue.open(folder / "jobq.toml")

    def shorten_lease(self) -> None:
        """For what waits for one to end. Answers have to come in a small part of it."""
        path = self.folder / "jobq.toml"
        path.write_text(path.read_text().replace("seconds = 12", "seconds = 0.3"))
        self.queue.close()
        self.queue = JobQueue.open(path)

    def shell(self, script: str, **options: Unpack[JobOptions]) -> Job:
        return self.queue.add("shell", {"shell": f"cd {self.folder}; {script}"}, **options)

    def run(self, slots: int = 4, waits_for: int | None = None) -> None:
        """Run all there is to run, and what is left to try again; or until so many were started."""
        drain = waits_for is None
        options = WorkOptions(slots=slots, drain=drain, wait_retries=drain, max_jobs=waits_for)
        asyncio.run(Supervisor(self.queue, options).run())

    def start(self, *words: str) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(
            [sys.executable, "-m", "jobq", *words], cwd=self.folder, stdout=subprocess.DEVNULL
        )

    def lines(self, name: str) -> list[str]:
        path = self.folder / name
        return path.read_text().splitlines() if path.exists() else []

    def outcomes(self, job: Job) -> list[str]:
        return [str(each.outcome) for each in self.queue.attempts(job.id)]


@pytest.fixture
def scenario(tmp_path: Path, redis_url: str) -> Iterator[Scenario]:
    opened = Scenario(tmp_path, redis_url)
    yield opened
    opened.queue.close()


def test_basic_add_and_consume(scenario: Scenario) -> None:
    job = scenario.shell("echo hello")
    assert job.status is JobStatus.PENDING
    scenario.run()
    done = scenario.queue.get(job.id)
    assert (done.status, done.exit_code, done.attempts) == (JobStatus.COMPLETED, 0, 1)
    assert (scenario.queue.logs.path(job.id) / "stdout.log").read_text() == "hello\n"


def test_priority_order(scenario: Scenario) -> None:
    for band in ("low", "normal", "critical", "high"):
        scenario.shell(f"echo {band} >> order", priority=band)
    scenario.run(slots=1)
    assert scenario.lines("order") == ["critical", "high", "normal", "low"]


def test_several_consumers_share_the_jobs_and_none_runs_twice(scenario: Scenario) -> None:
    jobs = [
        scenario.shell(
            'echo "$JOBQ_SUPERVISOR $JOBQ_JOB_ID" >> ran; '
            "until [ $(cut -d' ' -f1 ran | sort -u | wc -l) = 2 ]; do sleep 0.01; done"
        )
        for _ in range(10)
    ]
    consumers = [scenario.start("work", "--drain", "-j", "5") for _ in range(2)]
    assert [consumer.wait(30) for consumer in consumers] == [0, 0]
    ran = [line.split() for line in scenario.lines("ran")]
    assert sorted(int(job_id) for _, job_id in ran) == [job.id for job in jobs]
    assert len({supervisor for supervisor, _ in ran}) == 2
    assert {job.status for job in scenario.queue.find()} == {JobStatus.COMPLETED}


def test_failure_and_retry_keep_the_job_and_count(scenario: Scenario) -> None:
    job = scenario.shell('echo "$JOBQ_JOB_ID $JOBQ_ATTEMPT" >> tries; [ $JOBQ_ATTEMPT = 3 ]')
    scenario.run()
    assert scenario.lines("tries") == [f"{job.id} {number}" for number in (1, 2, 3)]
    assert scenario.outcomes(job) == ["failed", "failed", "completed"]
    assert scenario.queue.get(job.id).failures == 2


def test_dead_letter(scenario: Scenario) -> None:
    job = scenario.shell("[ -e mended ]", max_retries=1)
    scenario.run()
    assert [each.id for each in scenario.queue.find(status="failed")] == [job.id]
    assert scenario.outcomes(job) == ["failed", "failed"]
    (scenario.folder / "mended").touch()
    scenario.queue.retry(job.id)
    scenario.run()
    assert scenario.queue.get(job.id).status is JobStatus.COMPLETED
    assert scenario.queue.find(status="failed") == []


def test_recovery_of_what_a_dead_consumer_held(scenario: Scenario) -> None:
    scenario.shorten_lease()
    here = scenario.shell("echo $$ >> pids; [ $JOBQ_ATTEMPT = 2 ] || exec sleep 600")
    consumer = scenario.start("work", "-j", "1")
    wait_until(lambda: scenario.lines("pids"))
    elsewhere = scenario.shell("true")
    request = ClaimRequest(
        owner="elsewhere:1:x", limit=1, lease=timedelta(seconds=0.1), ids=[elsewhere.id]
    )
    assert len(backend_of(scenario.queue).claim(request, utcnow())) == 1
    consumer.kill()
    consumer.wait()
    scenario.run(waits_for=2)
    for job in (here, elsewhere):
        assert scenario.outcomes(job) == ["lost", "completed"]
    assert not alive(int(scenario.lines("pids")[0]))


def test_statistics_of_what_is_not_there_yet_and_of_what_is(scenario: Scenario) -> None:
    assert scenario.queue.counts()[JobStatus.FAILED] == 0
    assert scenario.queue.find(status="failed") == []
    scenario.shell("true")
    scenario.shell("false", max_retries=0)
    scenario.run()
    scenario.shell("true")
    counts = {status.value: number for status, number in scenario.queue.counts().items() if number}
    assert counts == {"completed": 1, "failed": 1, "pending": 1}
    since = utcnow() - timedelta(hours=1)
    assert backend_of(scenario.queue).stats.ended_counts(since) == {("shell", "default"): (1, 1)}


def test_timeout(scenario: Scenario) -> None:
    job = scenario.shell("exec sleep 600", timeout=0.1, max_retries=0)
    scenario.run()
    assert scenario.outcomes(job) == [Outcome.TIMED_OUT]
    assert "timed out after" in (scenario.queue.get(job.id).error or "")


def test_concurrent_producers(scenario: Scenario) -> None:
    def produce(number: int) -> list[int]:
        specs: list[dict[str, Any]] = [
            {"args": {"argv": ["true"]}, "tags": {"by": str(number)}} for _ in range(20)
        ]
        return [job.id for job in scenario.queue.add_many(specs[:10])] + [
            scenario.queue.add("shell", **spec).id for spec in specs[10:]
        ]

    with ThreadPoolExecutor(5) as producers:
        ids = [job_id for made in producers.map(produce, range(5)) for job_id in made]
    assert sorted(ids) == list(range(1, 101))
    by = Counter(job.tags["by"] for job in scenario.queue.find())
    assert by == {str(number): 20 for number in range(5)}


def test_batch_consumption(scenario: Scenario) -> None:
    jobs = scenario.queue.add_many([{"args": {"argv": ["true"]}}] * 25)
    claimed = []
    for expected in (10, 10, 5, 0):
        request = ClaimRequest(owner="batch:1:x", limit=10, lease=timedelta(seconds=60))
        claims = backend_of(scenario.queue).claim(request, utcnow())
        assert len(claims) == expected
        claimed += claims
    assert [claim.job.id for claim in claimed] == [job.id for job in jobs]
    assert all(scenario.queue.complete(claim) for claim in claimed)
    assert scenario.queue.counts()[JobStatus.COMPLETED] == 25


def test_full_workflow(scenario: Scenario) -> None:
    fetch = scenario.shell("[ $JOBQ_ATTEMPT = 2 ] && echo data > fetched", priority="high")
    convert = scenario.shell("tr a-z A-Z < fetched > converted", after=[fetch.id])
    broken = scenario.shell("exit 3", max_retries=0)
    never = scenario.shell("touch never", after=[broken.id])
    clean = scenario.shell("rm fetched", after_any=[convert.id, broken.id], unique="clean")
    assert scenario.queue.add("shell", {"argv": ["true"]}, unique="clean").id == clean.id
    scenario.run()
    statuses = {job.id: job.status.value for job in scenario.queue.find()}
    assert statuses == {
        fetch.id: "completed",
        convert.id: "completed",
        broken.id: "failed",
        never.id: "cancelled",
        clean.id: "completed",
    }
    assert scenario.lines("converted") == ["DATA"]
    assert not (scenario.folder / "fetched").exists()
    assert scenario.queue.prune(older_than="0s") == 5
    assert scenario.queue.find() == []
