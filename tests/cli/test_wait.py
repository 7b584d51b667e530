import pytest

from tests.support.cli_runner import Cli


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


def test_wait_for_a_cancelled_command(cli: Cli) -> None:
    cli.cancelled()
    assert cli("wait", "1").code == 1


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
