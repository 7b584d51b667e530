"""`jobq triage`, and ``--signature`` of other verbs."""

from datetime import timedelta
from pathlib import Path

import pytest

from jobq import JobQueue
from jobq.clock import utcnow
from jobq.jobs.failure_group import FailureGroup
from jobq.models import JobStatus
from tests.support.cli_runner import HOSTILE, Cli, on_terminal


def fail(cli: Cli, error: str, *, retry: bool = False) -> str:
    """Add a job that fails as one of a pull worker, and return its signature."""
    claim = cli.running(max_retries=3 if retry else 0)
    assert cli.queue.fail(claim, error)
    signature = cli.queue.get(claim.job.id).signature
    assert signature is not None
    return signature


@pytest.fixture
def groups(cli: Cli) -> tuple[str, str]:
    """Jobs 1 to 3 that failed alike, and 4 that did not."""
    signatures = [fail(cli, f"exit code 1: /data/{n}.mov: Invalid data") for n in range(3)]
    assert len(set(signatures)) == 1
    return signatures[0], fail(cli, "exit code 75")


def test_failed_jobs_are_shown_in_groups(cli: Cli, groups: tuple[str, str]) -> None:
    lines = [line.split() for line in cli("triage").lines]
    assert lines[0] == ["signature", "jobs", "last", "first", "trend", "type", "error"]
    assert [line[:2] for line in lines[1:]] == [[groups[0], "3"], [groups[1], "1"]]
    assert "exit code 1: /#.mov: Invalid data" in cli("triage").out
    assert cli("triage", "--limit", "1").out.count("\n") == 2
    assert cli("triage", "--since", "1h").out.count("\n") == 3


def test_where_nothing_failed_that_is_said(cli: Cli) -> None:
    assert cli("triage").err == "No failed jobs.\n"
    fail(cli, "boom")
    assert cli("triage", "--since", "in the future").code == 2
    since = (utcnow() + timedelta(hours=1)).isoformat()
    assert cli("triage", "--since", since).err == f"No jobs failed since {since}.\n"
    assert cli("triage", "--since", since, "--json").json == {"groups": []}


def test_groups_as_a_document(cli: Cli, groups: tuple[str, str]) -> None:
    first, second = cli("triage", "--json").json["groups"]
    assert first == {
        "signature": groups[0],
        "type": "shell",
        "error": "exit code 1: /#.mov: Invalid data",
        "count": 3,
        "first_at": cli("show", "1", "--json").json["finished_at"],
        "last_at": cli("show", "3", "--json").json["finished_at"],
        "sample": [3, 2, 1],
        "by_hour": [0] * 23 + [3],
    }
    assert second["signature"] == groups[1] == cli("show", "4", "--json").json["signature"]


def test_a_group_is_shown_by_how_its_signature_begins(cli: Cli, groups: tuple[str, str]) -> None:
    out = cli("triage", "show", groups[0][:6].upper()).out
    assert "3, such as 3, 2, 1" in out
    assert "0.mov" not in out
    apart = cli("triage", "show", groups[0], "--apart")
    assert all(f"1     exit code 1: /data/{n}.mov: Invalid data" in apart.out for n in range(3))
    document = cli("triage", "show", groups[0], "--apart", "--json").json
    assert {"error": "exit code 1: /data/1.mov: Invalid data", "count": 1} in document["errors"]


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["show"], 2, "give one of show, retry, cancel, delete, and a signature"),
        (["burn", "3fa9"], 2, "give one of"),
        (["show", "no hex"], 2, "give its first characters, e.g. 3fa9"),
        (["show", "3fa9c1d2e"], 2, "give its first characters"),
        (["show", ""], 2, "give its first characters"),
        (["show", "00000000"], 3, "no failed job has signature 00000000: see `jobq triage`"),
        (["retry", "0000"], 3, "no failed job has signature 0000"),
        (["show", "3fa9", "--yes"], 2, "--yes does not apply to `jobq triage show`"),
        (["--dry-run"], 2, "--dry-run does not apply to `jobq triage`"),
        (["retry", "3fa9", "--apart"], 2, "--apart does not apply to `jobq triage retry`"),
    ],
)
def test_what_can_not_be_done_is_refused(
    cli: Cli, words: list[str], code: int, message: str
) -> None:
    result = cli("triage", *words)
    assert (result.code, result.out) == (code, "")
    assert message in result.err


def test_a_beginning_of_several_signatures_is_refused(cli: Cli) -> None:
    first: dict[str, str] = {}
    for number in range(20):
        signature = fail(cli, "kind " + "abcdefghijklmnopqrst"[number])
        if signature[0] in first:
            break
        first[signature[0]] = signature
    result = cli("triage", "show", signature[0])
    assert (result.code, "several begin so" in result.err) == (2, True)
    assert first[signature[0]] in result.err


def test_a_group_is_retried(cli: Cli, groups: tuple[str, str]) -> None:
    assert cli("triage", "retry", groups[0][:5], "--dry-run").out == "Would retry 3 jobs (1-3)\n"
    assert cli("triage", "retry", groups[0][:5], "--dry-run", "--json").json["pending"] == [1, 2, 3]
    result = cli("triage", "retry", groups[0][:5])
    assert (result.code, result.out) == (0, "1\n2\n3\n")
    assert cli.status(4) == "failed"
    assert [group.signature for group in cli.queue.failures()] == [groups[1]]


def test_a_group_that_has_grown_is_left_alone(cli: Cli, groups: tuple[str, str]) -> None:
    result = cli("triage", "retry", groups[0], "--expect", "2")
    assert (result.code, result.out) == (4, "")
    assert f"the group {groups[0]} has grown from 2 to 3 jobs: nothing was changed" in result.err
    assert cli.status(1) == "failed"
    assert cli("triage", "retry", groups[0], "--expect", "3").code == 0


def test_a_group_that_grows_while_the_question_stands_is_left_alone(
    cli: Cli, groups: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def grows_and_agrees(_: str) -> bool:
        fail(cli, "exit code 1: /data/4.mov: Invalid data")
        return True

    monkeypatch.setattr("jobq.cli.commands.triage.approved", grows_and_agrees)
    result = cli("triage", "delete", groups[0])
    assert (result.code, "has grown from 3 to 4" in result.err) == (4, True)
    assert cli.status(1) == "failed"
    assert cli("triage", "delete", groups[0], "--yes").code == 0


def test_a_person_is_asked_about_a_group(project: Path, queue: JobQueue, cli: Cli) -> None:
    signature = fail(cli, "boom")
    screen = on_terminal(project, "triage", "retry", signature, typed="n\n")
    assert f"Retry 1 job of {signature}, such as 1?" in screen.text
    assert queue.get(1).status is JobStatus.FAILED


def test_cancel_ends_what_waits_for_another_attempt(cli: Cli) -> None:
    signature = fail(cli, "boom")
    fail(cli, "boom", retry=True)
    assert cli("triage", "cancel", signature[:4]).out == "2\n"
    assert (cli.status(1), cli.status(2)) == ("failed", "cancelled")
    assert cli("triage", "cancel", signature).err == "No job matches.\n"


def test_a_group_is_deleted(cli: Cli, groups: tuple[str, str]) -> None:
    assert cli("triage", "delete", groups[0], "--dry-run").out == "Would delete 3 jobs (1-3)\n"
    assert cli("triage", "delete", groups[0]).code == 0
    assert list(cli.queue.existing([1, 2, 3, 4])) == [4]


def test_selections_take_a_signature(cli: Cli, groups: tuple[str, str]) -> None:
    select = ("--signature", groups[0][:6])
    assert [line.split("\t")[0] for line in cli("list", "--plain", *select).lines] == [
        "1",
        "2",
        "3",
    ]
    assert cli("retry", *select, "--dry-run").out == "Would retry 3 jobs (1-3)\n"
    assert cli("cancel", *select).err == "No job matches.\n"
    assert cli("prune", *select).code == 0
    assert list(cli.queue.existing([1, 2, 3, 4])) == [4]
    assert cli("list", "--signature", "0000").code == 3


def test_errors_of_others_do_no_harm_on_the_terminal(cli: Cli) -> None:
    signature = fail(cli, HOSTILE)
    for words in ((), ("show", signature), ("show", signature, "--apart")):
        assert "\x1b" not in cli("triage", *words).out


def test_no_secret_is_shown(cli: Cli) -> None:
    job = cli.queue.add("shell", {"argv": ["x"], "env": {"API_TOKEN": "correct-horse"}})
    claim = cli.queue.claim(owner="me")
    assert claim is not None
    cli.queue.fail(claim, "refused correct-horse", retry=False)
    signature = cli.queue.get(job.id).signature
    assert signature is not None
    for words in ((), ("--json",)):
        assert "horse" not in cli("triage", *words).out
        assert "horse" not in cli("triage", "show", signature, "--apart", *words).out


@pytest.mark.parametrize(
    ("by_hour", "count", "trend"),
    [
        ((0,) * 23 + (3,), 3, "new"),
        ((0,) * 23 + (3,), 4, "▁▁▁▁▁█"),
        ((1,) * 4 + (0,) * 16 + (7, 0, 0, 0), 20, "▅▁▁▁▁█"),
        ((0,) * 24, 5, "▁▁▁▁▁▁"),
    ],
)
def test_the_trend_of_a_group(by_hour: tuple[int, ...], count: int, trend: str) -> None:
    from jobq.cli.commands.triage import trend_of

    now = utcnow()
    group = FailureGroup("3fa9c1d2", "shell", "boom", count, now, now, (1,), by_hour)
    assert trend_of(group) == trend
