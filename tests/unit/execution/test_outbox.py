"""The outbox: what it reports, and when it is empty."""

from jobq import JobQueue
from jobq.execution.outbox import Outbox
from jobq.execution.run import Run
from jobq.models import AttemptResult, JobStatus, Outcome, Progress
from tests.support.runs import claim


def result_of(run: Run) -> AttemptResult:
    return AttemptResult(
        key=run.key, outcome=Outcome.COMPLETED, status=JobStatus.COMPLETED, failures=0, crashes=0
    )


def started(queue: JobQueue, count: int) -> list[Run]:
    queue.add_many([{"type": "shell", "args": {"argv": ["true"]}}] * count)
    runs = list(claim(queue, count))
    for pid, run in enumerate(runs, 1):
        run.pid = pid
    return runs


def test_everything_is_reported_until_it_is_taken(queue: JobQueue) -> None:
    begun, ended, unstarted = started(queue, 3)
    outbox = Outbox()
    assert not outbox
    outbox.add_start(begun)
    outbox.add_progress(begun, Progress(1, None, None))
    outbox.add_progress(begun, Progress(2, None, None))
    outbox.add_result(ended, result_of(ended))
    outbox.give_back([unstarted.claim])
    for _ in range(2):  # as when the first transaction has failed
        report = outbox.report()
        assert [each.pid for each in report.starts] == [begun.pid]
        assert report.progress == {begun.key: Progress(2, None, None)}
        assert report.endings == outbox.results == [result_of(ended)]
        assert report.unstarted == [unstarted.claim]
    assert outbox.keys == {ended.key, unstarted.key}  # those that are over
    assert outbox.take() == [(ended, result_of(ended))]
    assert not outbox
    assert not outbox.keys
    assert report.endings == [result_of(ended)]  # what was reported stays what it was


def test_a_start_is_dropped_with_a_run_that_was_not_under_way(queue: JobQueue) -> None:
    (run,) = started(queue, 1)
    outbox = Outbox()
    outbox.add_start(run)
    outbox.drop_start(run)
    outbox.drop_start(run)
    assert not outbox
