import sys
from io import StringIO
from pathlib import Path

import pytest

from jobq import JobQueue
from jobq.models import JobStatus
from jobq.queue import backend_of
from tests.support.cli_runner import Cli, on_terminal


@pytest.fixture
def cli(
    queue: JobQueue,
    project: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Cli:
    monkeypatch.chdir(project)
    return Cli(queue, capsys)


# -- cancel --------------------------------------------------------------------------------------


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


def test_a_limit_takes_the_oldest(cli: Cli) -> None:
    for _ in range(3):
        cli.add()
    assert cli("cancel", "--status", "pending", "--limit", "2").out == "1\n2\n"


def test_ids_can_be_narrowed(cli: Cli) -> None:
    cli.completed()
    cli.add()
    cli.add()
    assert cli("cancel", "1-2", "--queue", "default").out == "2\n"
    unknown = cli("cancel", "3", "99", "--queue", "default")
    assert (unknown.code, unknown.out) == (3, "")
    assert cli.status(3) == "pending"


@pytest.mark.parametrize("verb", ["cancel", "retry", "wait"])
def test_nothing_named_never_means_all(cli: Cli, verb: str) -> None:
    cli.add()
    for argv in ([], ["--limit", "5"]):
        result = cli(verb, *argv)
        assert result.code == 2
        assert "Give ids, or a selection" in result.err
    assert cli.status(1) == "pending"


@pytest.mark.parametrize("verb", ["cancel", "retry", "wait"])
def test_a_selection_that_matches_nothing(
    cli: Cli, verb: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cli.add()
    result = cli(verb, "--type", "example")
    assert (result.code, result.out, result.err) == (0, "", "No job matches.\n")
    monkeypatch.setattr(sys, "stdin", StringIO(""))
    assert cli(verb, "-").code == 0


@pytest.mark.parametrize("verb", ["cancel", "retry", "wait", "prune"])
@pytest.mark.parametrize(
    ("argv", "code"),
    [
        (["--status", "bogus"], 2),
        (["--queue", "nowhere"], 3),
        (["--tag", "=x"], 2),
        (["--until", "never"], 2),
        (["--bogus"], 2),
    ],
)
def test_refused_selections(cli: Cli, verb: str, argv: list[str], code: int) -> None:
    cli.add()
    result = cli(verb, *argv)
    assert (result.code, result.out) == (code, "")
    assert result.err.startswith("jobq: ")
    assert result.err.count("\n") == 1


def test_cancel_speaks_in_sentences_on_a_terminal(cli: Cli, project: Path) -> None:
    cli.running()
    for _ in range(4):
        cli.add()
    assert on_terminal(project, "cancel", "1-2,4-5").lines == [
        "Cancelled 3 jobs (2, 4-5)",
        "Asked job 1 to stop",
    ]


@pytest.mark.parametrize(
    ("typed", "code", "status"),
    [("y\n", 0, "cancelled"), ("n\n", 1, "pending"), ("\n", 1, "pending"), ("\x04", 1, "pending")],
)
def test_a_bulk_change_asks_on_a_terminal(
    cli: Cli, project: Path, typed: str, code: int, status: str
) -> None:
    for _ in range(3):
        cli.add()
    screen = on_terminal(project, "cancel", "--status", "pending", typed=typed)
    assert "Cancel 3 jobs? [y/N]" in screen.text
    assert screen.code == code
    assert {cli.status(n) for n in (1, 2, 3)} == {status}


def test_ctrl_c_at_the_question_changes_nothing(cli: Cli, project: Path) -> None:
    cli.add()
    screen = on_terminal(project, "cancel", "--status", "pending", typed="\x03")
    assert screen.code == 130
    assert cli.status(1) == "pending"


@pytest.mark.parametrize("flag", ["--yes", "--dry-run"])
def test_a_bulk_change_does_not_ask_when_told(cli: Cli, project: Path, flag: str) -> None:
    cli.add()
    screen = on_terminal(project, "cancel", "--status", "pending", flag)
    assert screen.code == 0
    assert "?" not in screen.text


def test_named_jobs_are_not_asked_about(cli: Cli, project: Path) -> None:
    cli.add()
    assert on_terminal(project, "cancel", "1").text == "Cancelled job 1\n"


# -- retry ---------------------------------------------------------------------------------------


def test_retry_prints_what_is_back_in_line(cli: Cli) -> None:
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
    assert "only failed and cancelled jobs are retried" in refused.err
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
                "reason": "job 2 is completed: only failed and cancelled jobs are retried",
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
    assert on_terminal(project, "retry", "2").text == "Waits for parents again: job 2\n"


def test_retry_asks_on_a_terminal(cli: Cli, project: Path) -> None:
    cli.failed()
    screen = on_terminal(project, "retry", "--status", "failed", typed="n\n")
    assert "Retry 1 job? [y/N]" in screen.text
    assert (screen.code, cli.status(1)) == (1, "failed")
    screen = on_terminal(project, "retry", "--status", "failed", typed="y\n")
    assert screen.lines[-1] == "Back in line: job 1"
    assert (screen.code, cli.status(1)) == (0, "pending")


# -- wait ----------------------------------------------------------------------------------------


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
    assert "no worker is running" in result.err
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


# -- prune ---------------------------------------------------------------------------------------


def test_prune_goes_by_the_configured_retention(cli: Cli, project: Path) -> None:
    for _ in range(3):
        cli.completed()
    cli.add()
    assert cli("prune").err == "No job to delete.\n"
    (project / "jobq.toml").write_text("[retention]\nolder_than = 0.000001\nkeep_last = 1\n")
    result = cli("prune")
    assert (result.code, result.out) == (0, "Deleted 2 jobs (1-2)\n")
    assert [job.id for job in cli.queue.find()] == [3, 4]


def test_prune_takes_the_logs_along(cli: Cli) -> None:
    cli.completed()
    cli.queue.logs.create(1).close()
    assert cli("prune", "--older-than", "0").code == 0
    assert not cli.queue.logs.path(1).exists()


def test_prune_of_a_selection(cli: Cli) -> None:
    cli.completed(tags={"a": "1"})
    cli.failed(tags={"a": "1"})
    cli.failed()
    cli.add()
    assert cli("prune", "--status", "failed", "--tag", "a=1", "--json").json == {
        "deleted": [2],
        "dry_run": False,
    }
    assert cli("prune", "--keep-last", "1").out == "Deleted job 1\n"
    assert cli("prune", "--older-than", "1h").err == "No job to delete.\n"
    assert cli("prune", "--queue", "default").out == "Deleted job 3\n"


def test_prune_only_says_what_it_would_delete(cli: Cli) -> None:
    for _ in range(3):
        cli.completed()
    assert cli("prune", "--older-than", "0", "--dry-run").out == "Would delete 3 jobs (1-3)\n"
    assert cli("prune", "--older-than", "0", "-n", "2", "--dry-run", "--json").json == {
        "deleted": [1, 2],
        "dry_run": True,
    }
    assert len(cli.queue.find()) == 3


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["--status", "pending"], "cancel them first"),
        (["--older-than", "old"], "--older-than: 'old' is not"),
        (["--keep-last", "-1"], "--keep-last"),
    ],
)
def test_prune_refuses(cli: Cli, argv: list[str], says: str) -> None:
    cli.completed()
    result = cli("prune", *argv)
    assert result.code == 2
    assert says in result.err
    assert cli.queue.get(1)


def test_prune_asks_on_a_terminal(cli: Cli, project: Path) -> None:
    cli.completed()
    screen = on_terminal(project, "prune", "--older-than", "0", typed="n\n")
    assert "Delete 1 job and their logs? [y/N]" in screen.text
    assert screen.code == 1
    assert on_terminal(project, "prune", "--older-than", "0", "--yes").text == "Deleted job 1\n"


def test_many_jobs_are_deleted_in_portions(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(backend_of(cli.queue)), "batch_size", 2)
    for _ in range(5):
        cli.completed()
    assert cli("prune", "--older-than", "0", "--json").json["deleted"] == [1, 2, 3, 4, 5]
