from pathlib import Path

import pytest

from jobq.models import JobStatus
from tests.support.cli_runner import Cli, on_terminal


def test_cancel_prints_the_ids_in_a_pipe(cli: Cli) -> None:
    cli.add()
    cli.add(delay="1h")
    result = cli("cancel", "1-2", "--reason", "no need")
    assert (result.code, result.out, result.err) == (0, "1\n2\n", "")
    assert cli.queue.get(1).status is JobStatus.CANCELLED
    assert cli.queue.get(2).reason == "no need"


def test_cancel_asks_a_running_job_to_stop(cli: Cli) -> None:
    cli.running()
    result = cli("cancel", "1")
    assert (result.code, result.out, result.err) == (0, "1\n", "asked job 1 to stop\n")
    assert cli.queue.get(1).cancel_requested


def test_cancel_reports_what_it_could_not_cancel_and_cancels_the_rest(cli: Cli) -> None:
    cli.completed()
    cli.add()
    refused = cli("cancel", "1", "2")
    assert (refused.code, refused.out) == (4, "2\n")
    assert refused.err == "jobq: job 1 is completed: there is nothing to cancel\n"
    cli.add()
    missing = cli("cancel", "1", "3", "99")
    assert (missing.code, missing.out) == (3, "3\n")
    assert missing.err.splitlines()[0] == "jobq: no job 99"


def test_cancel_as_a_document(cli: Cli) -> None:
    cli.completed()
    cli.running()
    cli.add()
    expected = {
        "cancelled": [3],
        "requested": [2],
        "refused": [{"id": 1, "reason": "job 1 is completed: there is nothing to cancel"}],
        "missing": [99],
        "dry_run": True,
    }
    assert cli("cancel", "1-3", "99", "--dry-run", "--json").json == expected
    assert cli.status(3) == "pending"
    assert cli("cancel", "1-3", "99", "--json").json == {**expected, "dry_run": False}


def test_cancel_says_what_it_would_do(cli: Cli) -> None:
    cli.running()
    for _ in range(3):
        cli.add()
    result = cli("cancel", "1-4", "--dry-run")
    assert result.lines == ["Would cancel 3 jobs (2-4)", "Would ask job 1 to stop"]
    assert [cli.status(n) for n in (1, 2, 3, 4)] == ["running", "pending", "pending", "pending"]


@pytest.mark.parametrize("dry", [True, False])
def test_cancel_cascades(cli: Cli, *, dry: bool) -> None:
    cli.add()
    cli.add(after_any=[1])
    cli.add(after_any=[2])
    plain = cli("cancel", "1", "--json", "--dry-run").json
    assert plain["cancelled"] == [1]
    result = cli("cancel", "1", "--cascade", "--json", *(["--dry-run"] if dry else []))
    assert result.json["cancelled"] == [1, 2, 3]
    assert cli.status(3) == ("blocked" if dry else "cancelled")


def test_cancel_of_a_selection_takes_unfinished_jobs(cli: Cli) -> None:
    cli.completed(tags={"a": "1"})
    cli.add(tags={"a": "1"})
    cli.add(tags={"a": "2"})
    result = cli("cancel", "--tag", "a=1")
    assert (result.code, result.out, result.err) == (0, "2\n", "")
    assert cli.status(3) == "pending"


def test_cancel_speaks_in_sentences_on_a_terminal(cli: Cli, project: Path) -> None:
    cli.running()
    for _ in range(4):
        cli.add()
    assert on_terminal(project, "cancel", "1-2,4-5").lines == [
        "Cancelled 3 jobs (2, 4-5)",
        "Asked job 1 to stop",
    ]


def test_a_signal_that_stops_nothing_is_refused(cli: Cli) -> None:
    claim = cli.running()
    refused = cli("cancel", "1", "--signal", "WINCH")
    assert (refused.code, refused.err) == (
        2, "jobq: signal 'WINCH': give one of INT, TERM, HUP, QUIT, USR1, USR2, KILL\n",
    )  # fmt: skip
    assert not cli.queue.get(claim.job.id).cancel_requested


def test_a_signal_can_not_be_sent_to_another_host(cli: Cli) -> None:
    cli.running()
    cancelled = cli("cancel", "1", "--signal", "INT")
    assert cancelled.code == 0
    assert "job 1: no command on this host: it gets SIGTERM, not INT" in cancelled.err
