from collections.abc import Callable
from pathlib import Path

import pytest

from jobq.clock import utcnow
from jobq.models import AttemptResult, Claim, JobStatus, Outcome
from jobq.queue import backend_of
from tests.support.cli_runner import Cli, on_terminal


def test_wait_for_jobs_that_completed(cli: Cli) -> None:
    cli.completed()
    cli.completed()
    result = cli("wait", "1-2")
    assert (result.code, result.out, result.err) == (0, "", "")


@pytest.mark.parametrize(
    ("ended", "code"),
    [({"exit_code": 7}, 7), ({"signal": 9}, 137), ({}, 1), ({"exit_code": 0}, 1)],
)
def test_wait_for_one_command_leaves_with_its_exit_code(
    cli: Cli, ended: dict[str, int], code: int
) -> None:
    cli.failed("it broke", **ended)
    result = cli("wait", "1")
    assert (result.code, result.err) == (code, "jobq: job 1 failed: it broke\n")


def test_wait_for_several_jobs_leaves_with_1_if_one_did_not_complete(cli: Cli) -> None:
    cli.completed()
    cli.failed(exit_code=7)
    cli.cancelled()
    result = cli("wait", "1-3")
    assert result.code == 1
    assert result.err.splitlines() == [
        "jobq: job 2 failed: exit code 3",
        "jobq: job 3 was cancelled: no need",
    ]


def test_a_cancelled_job_has_an_exit_code_of_its_own(cli: Cli) -> None:
    cli.cancelled()
    assert cli("wait", "1").code == 130
    cancelled = cli.running()
    cli.queue.cancel(cancelled.job.id)
    end(cli, cancelled, Outcome.CANCELLED, JobStatus.CANCELLED)
    assert cli("wait", "2").code == 130
    too_slow = cli.running()
    end(cli, too_slow, Outcome.TIMED_OUT, JobStatus.FAILED)
    assert cli("wait", "3").code == 143


def end(cli: Cli, claim: Claim, outcome: Outcome, status: JobStatus) -> None:
    """End an attempt by SIGTERM."""
    ending = AttemptResult(
        key=claim.key, outcome=outcome, status=status, failures=1, crashes=0, signal=15
    )
    assert backend_of(cli.queue).end([ending], utcnow()) == [True]


def test_wait_for_nothing_is_an_error(cli: Cli, piped: Callable[[bytes], None]) -> None:
    cli.completed(tags={"batch": "7"})
    piped(b"")
    for words in (["--tag", "batch=8"], ["--status", "failed"], ["1", "--tag", "batch=8"], ["-"]):
        result = cli("wait", *words)
        assert (result.code, result.out) == (3, ""), words
        assert result.err == "jobq: no job matches: there is nothing to wait for\n"


def test_wait_says_what_keeps_jobs_from_ending(cli: Cli) -> None:
    cli.add(delay="1h")
    result = cli("wait", "1", "--timeout", "0")
    assert "1 job waits, and no supervisor is running: jobq work\n" in result.err
    cli.queue.pause("default")
    cli.register_supervisor()
    result = cli("wait", "1", "--timeout", "0")
    assert "1 job waits, and queue default is paused: jobq queue resume default\n" in result.err
    assert "no supervisor" not in result.err


def test_wait_for_a_selection_counts_what_has_ended(cli: Cli) -> None:
    cli.failed(tags={"batch": "7"})
    cli.completed(tags={"batch": "7"})
    cli.completed()
    assert cli("wait", "--tag", "batch=7").code == 1
    assert cli("wait", "--status", "completed").code == 0


def test_wait_gives_up_in_time(cli: Cli) -> None:
    cli.completed()
    cli.add()
    result = cli("wait", "1-2", "--timeout", "0")
    assert result.code == 124
    assert "job 2 is pending" in result.err
    assert "no supervisor is running" in result.err
    document = cli("wait", "2", "--timeout", "0", "--json")
    assert (document.code, document.json[0]["status"]) == (124, "pending")


def test_wait_ends_when_the_job_does(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    claim = cli.running()
    naps = []

    def nap(_: float) -> None:
        naps.append(1)
        if len(naps) == 2:
            cli.queue.complete(claim, {"n": 1})

    monkeypatch.setattr("jobq.job_reader.time.sleep", nap)
    result = cli("wait", "1", "--json")
    assert (result.code, len(naps)) == (0, 2)
    assert result.json[0]["result"] == {"n": 1}


def test_ctrl_c_while_waiting(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    cli.running()

    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("jobq.job_reader.time.sleep", interrupt)
    result = cli("wait", "1")
    assert (result.code, result.err) == (130, "")


@pytest.mark.parametrize(
    ("argv", "code", "says"),
    [(["99"], 3, "no job 99"), (["1", "--timeout", "soon"], 2, "--timeout: 'soon' is not")],
)
def test_wait_refuses(cli: Cli, argv: list[str], code: int, says: str) -> None:
    cli.completed()
    result = cli("wait", *argv)
    assert result.code == code
    assert says in result.err


def test_a_batch_has_an_estimate_on_a_terminal(cli: Cli, project: Path) -> None:
    for _ in range(2):
        cli.completed(tags={"batch": "1"})
    cli.running(tags={"batch": "1"})
    text = "2 of 3 have ended; about 1 s left"
    assert text in on_terminal(project, "list", "--tag", "batch=1").lines
    assert text not in on_terminal(project, "list").lines
    assert text in on_terminal(project, "wait", "--tag", "batch=1", "--timeout", "0.1").lines
    assert "left" not in cli("wait", "--tag", "batch=1", "--timeout", "0").err
