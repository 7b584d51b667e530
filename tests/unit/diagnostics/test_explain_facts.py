"""The facts gathered from a queue, and the reasons that come of them."""

from datetime import timedelta
from typing import Any

from jobq import Job, JobQueue, JobStatus
from jobq.clock import utcnow
from jobq.diagnostics.explain import explain
from jobq.diagnostics.explain_facts import gather


def codes(queue: JobQueue, job_id: int) -> set[str]:
    return {reason.code for reason in explain(gather(queue, queue.get(job_id), utcnow()))}


def add(opened: JobQueue, /, **options: Any) -> Job:
    return opened.add("shell", {"argv": ["true"]}, **options)


def test_everything_in_the_way_is_found(queue: JobQueue) -> None:
    queue.create_queue("slow", max_concurrent=1, rate="1/h")
    first, second = add(queue, queue="slow"), add(queue, queue="slow")
    add(queue, queue="slow", unique="k")
    assert codes(queue, first.id) == {"no_supervisor"}
    claim = queue.claim("slow", owner="me")
    assert claim is not None
    assert codes(queue, second.id) == {"queue_limit", "queue_rate", "no_supervisor"}
    assert codes(queue, first.id) == {"running", "held"}
    queue.pause("slow")
    assert "queue_paused" in codes(queue, second.id)


def test_jobs_ahead_are_counted_as_a_claim_would_choose(queue: JobQueue) -> None:
    queue.create_queue("first", priority=9)
    queue.create_queue("closed", priority=9)
    queue.pause("closed")
    add(queue, queue="closed")
    last = add(queue, priority=3)
    high, normal = add(queue, priority=7), add(queue, priority=5)
    other = add(queue, queue="first", priority=0)
    ahead = {j.id: gather(queue, j, utcnow()).ahead for j in (last, high, normal, other)}
    assert ahead == {other.id: 0, high.id: 1, normal.id: 2, last.id: 3}
    order = []
    while claim := queue.claim(owner="me"):
        order.append(claim.job.id)
    assert order == [other.id, high.id, normal.id, last.id]


def test_the_holder_of_a_key_is_found(queue: JobQueue) -> None:
    old = queue.cancel(add(queue, unique="k").id)
    assert "retryable" in codes(queue, old.id)
    add(queue, unique="k")
    assert "key_taken" in codes(queue, old.id)


def test_the_command_that_makes_a_scheduled_job_run_at_once_does(queue: JobQueue) -> None:
    later = add(queue, delay=timedelta(hours=1))
    child = add(queue, after=[later.id])
    queue.cancel(later.id)
    queue.retry(later.id)
    assert queue.get(later.id).status is JobStatus.PENDING
    assert queue.get(child.id).status is JobStatus.BLOCKED
    assert "parent" in codes(queue, child.id)
