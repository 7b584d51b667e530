"""Supervisors on several machines, one Redis server, and what may happen to the network between."""

import signal
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from jobq import Job, JobStatus
from jobq.clock import utcnow
from jobq.models import SupervisorInfo
from jobq.queue import backend_of
from jobq.scheduling.schedules import Schedules
from jobq.system.processes import host_name
from tests.support.hosts import Host, hosts
from tests.support.project import alive, wait_until
from tests.support.redis_server import AOF_ALWAYS, RedisServer

WORKER = """
import os, time
from jobq import JobWorker


class Adds(JobWorker):
    job_type = "adds"

    def run(self, args, job):
        open("up", "w").close()
        while not os.path.exists("go"):
            time.sleep(0.01)
        return job.add("shell", {"argv": ["true"]}).id
"""


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with RedisServer(*AOF_ALWAYS) as started:
        yield started


@pytest.fixture
def two(tmp_path: Path, server: RedisServer) -> Iterator[list[Host]]:
    with hosts(tmp_path, server) as made:
        yield made


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def outcomes(host: Host, job: Job) -> list[str]:
    return [str(each.outcome) for each in host.queue.attempts(job.id)]


def is_over(host: Host) -> bool:
    counts = host.queue.counts()
    return not any(counts[status] for status in JobStatus if status.value not in ENDED)


ENDED = ("completed", "failed", "cancelled")


def test_what_holds_for_all_holds_across_hosts(two: list[Host], tmp_path: Path) -> None:
    """Limits, rates, schedules and parents."""
    one, other = two
    one.queue.create_queue("single", max_concurrent=1)
    one.queue.create_queue("rated", rate="3/10h")
    shared = tmp_path / "shared"
    alone = f"echo begin >> {shared}; sleep 0.05; echo end >> {shared}"
    for _ in range(6):
        one.shell(alone, queue="single")
        one.shell("true", queue="rated")
    parent = one.shell("touch ran")
    child = one.shell("[ -e ran ]", after=[parent.id])
    added = Schedules(other.queue).add("s", "* * * * *", {"args": {"argv": ["true"]}})
    missed = replace(added, next_at=utcnow() - timedelta(seconds=120))
    assert backend_of(other.queue).schedules.replace(added, missed)
    together = (
        "echo $JOBQ_SUPERVISOR >> both; until [ $(sort -u both | wc -l) = 2 ]; do sleep 0.01; done"
    )
    for _ in range(3):  # more than one has slots
        one.shell(together)
    for host in two:
        host.work(said="said")
    one.wait_for(child, JobStatus.COMPLETED)
    wait_until(lambda: lines(shared).count("end") == 6)
    assert lines(shared) == ["begin", "end"] * 6
    wait_until(lambda: backend_of(one.queue).schedules.firings("s", 9))
    rated = [job for job in one.queue.find(queue="rated") if job.status is not JobStatus.PENDING]
    assert len(rated) == 3
    fired = backend_of(one.queue).schedules.firings("s", 9)  # a full minute may have come meanwhile
    assert {each.job_id for each in fired} == {job.id for job in one.queue.find() if job.name}
    assert len({each.at for each in fired}) == len(fired)
    wait_until(lambda: len(set(lines(one.root / "both"))) == 2)


def test_a_request_reaches_another_host(two: list[Host]) -> None:
    one, other = two
    one.work(said="said")
    job = one.shell("echo up; exec sleep 600")
    wait_until(lambda: one.output(job))
    other.queue.pause("default")
    waits = one.shell("true")
    assert other.jobq("cancel", str(job.id)).returncode == 0
    other.wait_for(job, JobStatus.CANCELLED)
    assert one.queue.get(waits.id).status is JobStatus.PENDING
    other.queue.resume("default")
    other.wait_for(waits, JobStatus.COMPLETED)


def test_a_host_that_is_cut_off_ends_its_job_before_another_takes_over(two: list[Host]) -> None:
    one, other = two
    job = one.shell("echo $$ >> pids; [ $JOBQ_ATTEMPT = 2 ] || exec sleep 600")
    one.work(said="said")
    wait_until(lambda: lines(one.root / "pids"))
    other.work(said="said")
    one.cable.black_hole()
    other.wait_for(job, JobStatus.COMPLETED)
    assert outcomes(other, job) == ["lost", "completed"]
    first, second = other.queue.attempts(job.id)
    (ended,) = one.events(job, "stopping")
    assert ended["reason"] == "cut off"
    assert datetime.fromisoformat(ended["time"]) < first.lease_until <= second.started_at
    assert not alive(int(lines(one.root / "pids")[0]))
    one.cable.heal()
    other.queue.pause("default")  # the next one is for a host that is back
    again = one.queue.create_queue("again")
    later = one.shell("true", queue=again.name)
    one.wait_for(later, JobStatus.COMPLETED)
    wait_until(lambda: one.said("reached again"))
    assert outcomes(one, job) == ["lost", "completed"]


def test_a_server_that_lost_the_last_takes_no_result_for_the_job_that_has_its_id(
    tmp_path: Path,
) -> None:
    with RedisServer() as server, hosts(tmp_path, server) as (one, other):
        one.queue.create_queue("kept")
        server.client.save()
        lost = one.shell("echo $$ > up; until [ -e go ]; do sleep 0.01; done")
        one.work(said="said")
        wait_until(lambda: lines(one.root / "up"))
        one.cable.refuse()
        server.kill()
        server.start()
        job = other.shell("touch up; until [ -e go ]; do sleep 0.01; done")
        assert job.id == lost.id
        other.work(said="said")
        wait_until((other.root / "up").exists)
        (one.root / "go").touch()
        wait_until(lambda: not alive(int(lines(one.root / "up")[0])))
        one.cable.heal()
        wait_until(lambda: one.said("was taken over"))
        wait_until(lambda: len(other.queue.supervisors()) == 2)  # it has announced itself again
        assert other.queue.get(job.id).status is JobStatus.RUNNING
        (other.root / "go").touch()
        other.wait_for(job, JobStatus.COMPLETED)
        (attempt,) = other.queue.attempts(job.id)
        assert attempt.supervisor in {each.id for each in other.queue.supervisors()}


@pytest.mark.parametrize("where", [0, 1], ids=["where_it_runs", "elsewhere"])
def test_each_try_is_followed_once(two: list[Host], where: int) -> None:
    runs = two[0]
    script = "echo try $JOBQ_ATTEMPT; sleep 0.3; [ $JOBQ_ATTEMPT = 4 ]"
    job = runs.queue.add("shell", {"argv": ["sh", "-c", script]}, max_retries=3, retry_base=0.05)
    runs.work(said="said")
    wait_until(runs.queue.supervisors)
    following = two[where].start("tail", "-f", str(job.id), said="followed")
    assert following.wait(30) == 0
    assert lines(two[where].root / "followed") == [f"try {number}" for number in range(1, 5)]


def test_a_late_result_does_not_count(two: list[Host]) -> None:
    """Of a supervisor that was stopped, with its job running on, for longer than the lease."""
    one, other = two
    script = "echo $JOBQ_ATTEMPT >> tries; [ $JOBQ_ATTEMPT = 2 ] || sleep 600; exit 0"
    job = one.shell(script)
    supervisor = one.work(said="said")
    wait_until(lambda: lines(one.root / "tries"))
    supervisor.send_signal(signal.SIGSTOP)
    other.work(said="said")
    other.wait_for(job, JobStatus.COMPLETED)
    supervisor.send_signal(signal.SIGCONT)
    wait_until(lambda: one.said("was taken over") or supervisor.poll() is not None)
    assert outcomes(one, job) == ["lost", "completed"]


def test_jobs_outlast_a_server_that_is_started_again(two: list[Host], server: RedisServer) -> None:
    one, other = two
    one.worker("adds", WORKER)
    long = one.shell("echo $$; until [ -e go ]; do sleep 0.01; done; exit 3", max_retries=0)
    adds = one.queue.add("adds")
    waiting = other.start("wait", str(long.id), said="waited")
    wait_until(lambda: any(each["cmd"] == "hmget" for each in server.client.client_list()))
    one.work(said="said")
    wait_until(lambda: one.output(long) and (one.root / "up").exists())
    following = one.start("tail", "-f", str(long.id), said="followed")
    watching = other.start("list", "--watch", said="watched")
    wait_until(lambda: lines(one.root / "followed"))
    wait_until(lambda: "Watching" in (other.root / "watched").read_text())
    for host in two:  # as its machine does without it
        host.cable.refuse()
    server.kill()
    late = other.start("work", "-t", "shell", said="said")
    wait_until(lambda: "trying again" in (other.root / "watched").read_text())
    wait_until(lambda: one.said("trying again") and other.said("trying again"))
    (one.root / "go").touch()
    wait_until(lambda: not alive(int(one.output(long))))
    wait_until(lambda: "trying again" in one.output(adds, "job.log"))
    server.start()
    for host in two:
        host.cable.heal()
    assert waiting.wait(30) == 3
    assert following.wait(30) == 0
    one.wait_for(adds, JobStatus.COMPLETED)
    wait_until(lambda: is_over(one))
    assert outcomes(one, long) == ["failed"]
    assert outcomes(one, adds) == ["completed"]
    assert len(one.queue.find()) == 3
    assert one.said("trying again") == one.said("reached again") == 1
    wait_until(lambda: f"{long.id} failed" in (other.root / "watched").read_text())
    assert late.poll() is None
    assert watching.poll() is None


@pytest.mark.parametrize(
    ("shut", "named", "open_again"),
    [
        (
            "CONFIG SET requirepass new",
            "Authentication required",
            ["CONFIG", "SET", "requirepass", ""],
        ),
        ("ACL SETUSER default -evalsha", "'evalsha'", ["ACL", "SETUSER", "default", "+evalsha"]),
        ("ACL SETUSER default -zadd", "may not use zadd", ["ACL", "SETUSER", "default", "+zadd"]),
    ],
    ids=["password", "a_right", "a_right_within_a_script"],
)
def test_a_supervisor_that_is_not_let_in_any_more_waits_until_it_is(
    two: list[Host], server: RedisServer, shut: str, named: str, open_again: list[str]
) -> None:
    one, _ = two
    job = one.shell("echo up; until [ -e go ]; do sleep 0.01; done")
    supervisor = one.work(said="said")
    wait_until(lambda: one.output(job))
    server.client.execute_command(*shut.split())
    server.client.execute_command("CLIENT", "KILL", "TYPE", "normal")
    wait_until(lambda: one.said(named) or supervisor.poll() is not None)
    server.client.execute_command(*open_again)
    (one.root / "go").touch()
    one.wait_for(job, JobStatus.COMPLETED)
    wait_until(lambda: one.said("reached again"))
    assert supervisor.poll() is None
    assert outcomes(one, job) == ["completed"]


def test_a_supervisor_whose_server_has_lost_everything_takes_no_new_job_for_an_old_one(
    two: list[Host], server: RedisServer
) -> None:
    one, other = two
    old = one.shell("echo $$ > pid; exec sleep 600")
    supervisor = one.work(said="said")
    wait_until(lambda: lines(one.root / "pid"))
    server.client.flushall()
    new = other.shell("touch ran")
    assert new.id == old.id
    assert supervisor.wait(20) == 5
    assert one.said("the data is gone") == 1
    assert not alive(int(lines(one.root / "pid")[0]))
    other.drain()
    assert outcomes(other, new) == ["completed"]
    assert (other.root / "ran").exists()


def test_a_supervisor_that_is_killed_while_nobody_answers_leaves_nothing_running(
    two: list[Host],
) -> None:
    one, _ = two
    one.shell("echo $$ > pid; exec sleep 600")
    supervisor = one.work(said="said")
    wait_until(lambda: lines(one.root / "pid"))
    one.cable.refuse()
    supervisor.kill()
    wait_until(lambda: not alive(int(lines(one.root / "pid")[0])))


def test_what_a_dead_host_left_is_ended_when_it_is_back(two: list[Host]) -> None:
    """Though another one has its job by then: here, the guard was killed with the supervisor."""
    one, other = two
    process = subprocess.Popen(
        ["sleep", "600"],
        env={"JOBQ_SUPERVISOR": "gone:1:x", "JOBQ_JOB_ID": "1", "JOBQ_ATTEMPT": "1"},
    )
    presence = backend_of(one.queue).supervisors.listen(
        "gone:1:x"
    )  # a lock that nobody holds any more
    backend_of(one.queue).supervisors.register(info_of("gone:1:x"))
    presence.close()
    other.drain()
    assert process.poll() is None
    one.drain()
    assert process.wait(20) == -signal.SIGKILL
    assert one.queue.supervisors() == []


def info_of(owner: str) -> SupervisorInfo:
    """A supervisor as a machine of the same name, or this one before it was started anew, has it."""
    now = utcnow()
    return SupervisorInfo(
        id=owner,
        host=host_name(),
        boot_id="before",
        pid=1,
        slots=1,
        queues=None,
        types=("shell",),
        started_at=now,
        heartbeat_at=now,
    )


def test_an_answer_that_is_lost_leaves_one_job(two: list[Host], server: RedisServer) -> None:
    one, other = two
    one.cable.lose_answer_to(b'"insert"')
    done = one.jobq("add", "--", "true")
    assert (done.returncode, done.stdout) == (0, "1\n"), done.stderr
    assert [job.id for job in other.queue.find()] == [1]
