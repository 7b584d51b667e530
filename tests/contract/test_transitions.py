"""The contract: each verb on a job in each status, and nothing that `TRANSITIONS` does not allow."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from jobq.models import INITIAL, TRANSITIONS, Claim, JobFilter, JobStatus, Progress
from tests.contract.driver import Jobs, after, new_job

S = JobStatus
MINUTE = 60


def a_parent_ends(status: JobStatus) -> Callable[[Jobs, int], object]:
    def verb(jobs: Jobs, job_id: int) -> None:
        for parent in jobs.get(job_id).parents:
            if jobs.status(parent.id) is S.PENDING:
                jobs.finish(parent.id, status)
        jobs.settle()

    return verb


def parents_are_retried(jobs: Jobs, job_id: int) -> None:
    jobs.backend.requeue([parent.id for parent in jobs.get(job_id).parents], jobs.now)
    jobs.settle()


def attempt_at(jobs: Jobs, job_id: int) -> Claim:
    """Return its last attempt; the first, if it has had none."""
    job = jobs.get(job_id)
    claimed = replace(job, started_at=job.started_at or jobs.now)
    return Claim(claimed, max(job.attempts, 1), "one")


def an_attempt_ends(status: JobStatus) -> Callable[[Jobs, int], object]:
    def verb(jobs: Jobs, job_id: int) -> None:
        jobs.end(attempt_at(jobs, job_id), status)

    return verb


def somebody_looks_for_other_work(jobs: Jobs, _: int) -> None:
    jobs.later(MINUTE)
    jobs.claim(types=["none"])


VERBS: dict[str, Callable[[Jobs, int], object]] = {
    "cancel": lambda jobs, job_id: jobs.backend.cancel([job_id], None, jobs.now),
    "requeue": lambda jobs, job_id: jobs.backend.requeue([job_id], jobs.now),
    "claim": lambda jobs, job_id: jobs.claim(ids=[job_id]),
    "delete": lambda jobs, job_id: jobs.backend.delete([job_id]),
    "progress": lambda jobs, job_id: jobs.backend.progress(
        attempt_at(jobs, job_id).key, Progress(1, 2, None)
    ),
    "its time comes": somebody_looks_for_other_work,
    "its parent completes": a_parent_ends(S.COMPLETED),
    "its parent fails": a_parent_ends(S.FAILED),
    "its parent is retried": parents_are_retried,
    **{f"end: {status}": an_attempt_ends(status) for status in sorted(TRANSITIONS[S.RUNNING])},
}

CASES: dict[str, Callable[[Jobs], int]] = {
    **{status.value: lambda jobs, status=status: jobs.put(status) for status in JobStatus},  # type: ignore[misc]
    "blocked, and its time has not come": lambda jobs: jobs.insert_ids(
        new_job(parents=after(jobs.add()), run_at=jobs.now.replace(hour=13))
    )[0],
    "cancelled by its parent": lambda jobs: jobs.add(parents=after(jobs.put(S.FAILED))),
}

BECOMES = {
    ("blocked", "cancel"): S.CANCELLED,
    ("blocked", "its parent completes"): S.PENDING,
    ("blocked", "its parent fails"): S.CANCELLED,
    ("blocked, and its time has not come", "cancel"): S.CANCELLED,
    ("blocked, and its time has not come", "its parent completes"): S.SCHEDULED,
    ("blocked, and its time has not come", "its parent fails"): S.CANCELLED,
    ("scheduled", "cancel"): S.CANCELLED,
    ("scheduled", "its time comes"): S.PENDING,
    ("pending", "cancel"): S.CANCELLED,
    ("pending", "claim"): S.RUNNING,
    ("retrying", "cancel"): S.CANCELLED,
    ("retrying", "its time comes"): S.PENDING,
    ("retrying", "requeue"): S.PENDING,
    ("failed", "requeue"): S.PENDING,
    ("cancelled", "requeue"): S.PENDING,
    ("cancelled by its parent", "its parent is retried"): S.BLOCKED,
    **{("running", f"end: {status}"): status for status in TRANSITIONS[S.RUNNING]},
}
"""The new status by verb and old status; any pair that is not here keeps the old one."""


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("case", CASES)
def test_a_verb_does_to_a_job_what_the_table_says_and_no_more(
    jobs: Jobs, case: str, verb: str
) -> None:
    job_id = CASES[case](jobs)
    before = jobs.status(job_id)
    VERBS[verb](jobs, job_id)
    if verb == "delete" and before not in (
        S.BLOCKED,
        S.SCHEDULED,
        S.PENDING,
        S.RUNNING,
        S.RETRYING,
    ):
        assert jobs.backend.get([job_id]) == {}
    else:
        assert jobs.status(job_id) is BECOMES.get((case, verb), before)


def test_the_table_and_the_transitions_agree() -> None:
    happens = {(S(case.split(" ")[0].strip(",")), status) for (case, _), status in BECOMES.items()}
    assert happens == {(old, new) for old, targets in TRANSITIONS.items() for new in targets}


def test_jobs_start_in_the_initial_statuses(jobs: Jobs) -> None:
    jobs.insert(
        new_job(),
        new_job(run_at=jobs.now.replace(hour=13)),
        new_job(parents=after(jobs.add())),
        new_job(parents=after(jobs.put(S.FAILED))),
    )
    inserted = jobs.backend.find(JobFilter(), limit=4, newest=True)
    assert {job.status for job in inserted} == INITIAL
