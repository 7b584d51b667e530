from pathlib import Path

from jobq.models import JobStatus
from tests.support.cli_runner import Cli, on_terminal


def test_retry_prints_what_is_queued_again(cli: Cli) -> None:
    cli.failed()
    cli.cancelled()
    result = cli("retry", "1-2")
    assert (result.code, result.out, result.err) == (0, "1\n2\n", "")
    assert (cli.status(1), cli.status(2)) == ("pending", "pending")
    assert cli.queue.get(1).attempts == 1


def test_retry_reports_what_it_could_not_retry_and_retries_the_rest(cli: Cli) -> None:
    cli.completed()
    cli.failed()
    refused = cli("retry", "1", "2")
    assert (refused.code, refused.out) == (4, "2\n")
    assert "only failed, cancelled and retrying jobs are retried" in refused.err
    cli.failed()
    missing = cli("retry", "1", "3", "99")
    assert (missing.code, missing.out) == (3, "3\n")
    assert "jobq: no job 99" in missing.err


def test_retry_says_who_holds_the_key(cli: Cli) -> None:
    cli.failed(unique="key")
    cli.add(unique="key")
    result = cli("retry", "1")
    assert result.code == 4
    assert "job 2 holds the unique key of job 1" in result.err


def test_retry_names_the_parent_to_retry(cli: Cli) -> None:
    cli.failed()
    child = cli.add(after=[1])
    assert child.status is JobStatus.CANCELLED
    result = cli("retry", "2")
    assert result.code == 4
    assert "retry 1, and this one comes back with it" in result.err


def test_retry_of_a_selection_takes_failed_and_cancelled_jobs(cli: Cli) -> None:
    cli.completed()
    cli.failed()
    cli.cancelled()
    cli.add()
    assert cli("retry", "--status", "failed").out == "2\n"
    assert cli("retry", "--queue", "default").out == "3\n"


def test_retry_as_a_document(cli: Cli) -> None:
    cli.failed()
    cli.completed()
    result = cli("retry", "1-2", "99", "--json", "--dry-run")
    assert result.json == {
        "pending": [1],
        "blocked": [],
        "refused": [
            {
                "id": 2,
                "reason": "job 2 is completed: only failed, cancelled and retrying jobs are retried",
            }
        ],
        "missing": [99],
        "dry_run": True,
    }
    assert cli.status(1) == "failed"
    assert cli("retry", "1", "--dry-run").out == "Would retry job 1\n"
    assert cli("retry", "1", "--json").json["pending"] == [1]


def test_retry_tells_which_wait_for_parents_again(cli: Cli, project: Path) -> None:
    cli.add()
    cli.add(after=[1])
    cli.queue.cancel(2)
    assert cli("retry", "2", "--dry-run").out == "Would wait for parents again: job 2\n"
    assert on_terminal(project, "retry", "2").text == "Waiting for parents again: job 2\n"


def test_retry_asks_on_a_terminal(cli: Cli, project: Path) -> None:
    cli.failed()
    screen = on_terminal(project, "retry", "--status", "failed", typed="n\n")
    assert "Retry 1 job? [y/N]" in screen.text
    assert (screen.code, cli.status(1)) == (1, "failed")
    screen = on_terminal(project, "retry", "--status", "failed", typed="y\n")
    assert screen.lines[-1] == "Queued again: job 1"
    assert (screen.code, cli.status(1)) == (0, "pending")


def test_a_job_that_comes_back_into_a_paused_queue_is_told(cli: Cli) -> None:
    job = cli.add()
    cli.queue.cancel(job.id)
    cli.queue.pause("default")
    result = cli("retry", str(job.id))
    assert (result.code, result.out) == (0, f"{job.id}\n")
    assert result.err == "1 job waits, and queue default is paused: jobq queue resume default\n"
