"""Small things that people met in their first hour."""

import signal
from pathlib import Path

import pytest

from jobq.models import JobStatus
from tests.support.cli_runner import Cli, on_terminal
from tests.support.terminal import OnTerminal

OWN = """from jobq import JobWorker

class Own(JobWorker):
    job_type = "own"
{}    def run(self, args, job): pass
"""


def own_type(project: Path, name: str = "own", line: str = "") -> None:
    (project / "workers").mkdir(exist_ok=True)
    (project / "workers" / f"{name}.py").write_text(OWN.format(line))


def test_deleting_a_job_by_its_id(cli: Cli) -> None:
    done, waits = cli.completed(), cli.add()
    refused = cli("delete", str(done.id), str(waits.id), "99")
    assert (refused.code, refused.out) == (3, f"{done.id}\n")
    assert f"job {waits.id} is pending: cancel it first: jobq cancel {waits.id}" in refused.err
    assert "no job 99" in refused.err
    assert [job.id for job in cli.queue.find()] == [waits.id]
    cli.queue.cancel(waits.id)
    assert cli("rm", str(waits.id), "--dry-run").out == f"Would delete job {waits.id}\n"
    assert cli("rm", "--status", "cancelled").out == f"{waits.id}\n"
    assert not cli.queue.find()


def test_all_queues_are_paused_and_resumed(cli: Cli) -> None:
    cli.queue.create_queue("downloads")
    assert cli("queue", "pause", "--all").lines == [
        "Paused queue default", "Paused queue downloads",
    ]  # fmt: skip
    assert all(each.paused for each in cli.queue.queues())
    assert cli("queue", "resume", "--all").code == 0
    assert not any(each.paused for each in cli.queue.queues())
    for words in ([], ["default", "--all"]):
        assert cli("queue", "pause", *words).code == 2


@pytest.mark.parametrize(
    ("sort", "expected"), [("priority", [5, 7, 9]), ("-priority", [9, 7, 5]), ("-id", [9, 1, 7])]
)
def test_a_limit_keeps_the_highest_in_either_order(
    cli: Cli, sort: str, expected: list[int]
) -> None:
    for priority in (2, 5, 7, 1, 9):
        cli.add(priority=priority)
    listed = cli("list", "--json", "--sort", sort, "-n", "3").json
    assert [job["priority"] for job in listed] == expected


def test_a_job_that_waits_for_its_retry_is_retried_now(cli: Cli) -> None:
    claim = cli.running(max_retries=3, retry_base=3600)
    cli.queue.fail(claim, "no route")
    assert cli.status(claim.job.id) == "retrying"
    assert cli("retry", "1", "--dry-run").out == "Would retry job 1\n"
    assert cli("retry", "1").code == 0
    job = cli.queue.get(1)
    assert (job.status, job.failures, job.run_at) == (JobStatus.PENDING, 1, None)


def test_where_a_time_limit_comes_from(cli: Cli, project: Path) -> None:
    own_type(project)
    cli.queue.add("own")
    cli.queue.add("own", timeout="7m")
    assert "timeout   5m 00s, by its priority: [timeouts] normal" in cli("show", "1").out
    assert "timeout   7m 00s\n" in cli("show", "2").out
    assert "5m 00s at normal priority ([timeouts])" in cli("types", "own").out
    assert "none, unless --timeout gives one" in cli("types", "shell").out


def test_a_type_in_two_files_can_not_be_added(cli: Cli, project: Path) -> None:
    own_type(project)
    own_type(project, "other")
    refused = cli("add", "own")
    assert refused.code == 2
    assert "job type 'own' is in two places" in refused.err
    assert "other.py" in refused.err


def test_an_unknown_column_gets_a_suggestion(cli: Cli, project: Path) -> None:
    (project / "rows.csv").write_text("command,prioritty\ntrue,5\n")
    refused = cli("import", "rows.csv").err
    assert "did you mean shell?" in refused
    assert "did you mean priority?" in refused
    (project / "rows.csv").write_text("type,width\nexample,5\n")
    refused = cli("import", "rows.csv").err
    assert "width: no such column: name it args.width if it is an argument" in refused
    assert "stdin" in cli("import", "--help").out


def test_an_option_of_other_tools_gets_a_suggestion(cli: Cli) -> None:
    refused = cli("queue", "create", "slow", "--limit", "1").err
    assert "--limit: did you mean --max-concurrent?: see `jobq queue create --help`" in refused
    assert "--timeout" in cli("queue", "create", "slow", "--timeot", "1").err
    assert "did you mean" not in cli("list", "--qqqq").err


def test_internal_tags_are_not_shown(cli: Cli) -> None:
    cli("add", "--notify", "--tag", "batch=7", "--", "true")
    assert "jobq:" not in cli("show", "1").out
    assert "batch=7" in cli("show", "1").out


def test_a_silent_job_says_so_on_a_terminal(cli: Cli, project: Path) -> None:
    job = cli.completed()
    cli.queue.logs.create(job).close()
    assert "Job 1 is completed: it has printed nothing." in on_terminal(project, "tail", "1").text
    assert cli("tail", "1").err == ""


def test_ctrl_c_of_a_followed_job_says_that_it_goes_on(cli: Cli, project: Path) -> None:
    with OnTerminal(project, "add", "-f", "--", "true") as shown:
        shown.until(lambda screen: "no supervisor" in screen.text)
        shown.signal(signal.SIGINT)
        assert shown.end() == 130
        assert "Job 1 goes on (pending): jobq tail -f 1" in shown.screen.text
        assert "jobq cancel 1" in shown.screen.text.replace("\n", "")


def test_a_followed_job_says_when_its_next_attempt_comes(cli: Cli, project: Path) -> None:
    claim = cli.running(max_retries=1, retry_base=300)
    cli.queue.fail(claim, "no route to host")
    with OnTerminal(project, "tail", "-f", "1") as shown:
        shown.until(lambda screen: "retry in" in screen.text)
        shown.signal(signal.SIGINT)
        shown.end()
    text = shown.screen.text.replace("\n", "")
    assert "attempt 1 of job 1 failed (no route to host): retry in " in text


def test_a_hint_counts_all_jobs_that_wait(cli: Cli) -> None:
    cli.queue.add_many([{"args": {"argv": ["true"]}}] * 60)
    assert cli("list", "-n", "3").err.startswith("60 jobs wait, and no supervisor")


def test_an_empty_list_says_which_queue_it_is(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cli("list").err == "No jobs yet: jobq add -- echo hello\n"
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert "(no jobq.toml found here or above)" in cli("list").err


def test_explain_says_the_place_among_those_that_wait(cli: Cli) -> None:
    cli.queue.add_many([{"args": {"argv": ["true"]}}] * 5)
    assert (
        "3 jobs are ahead of it: it is number 4 of 5 (its priority is 5)" in cli("explain", "4").out
    )


@pytest.mark.parametrize("text", ["yesterday", "yesterday noon", "today midnight"])
def test_days_as_people_say_them(cli: Cli, text: str) -> None:
    cli.add()
    assert len(cli("list", "--since", text, "--plain").lines) == 1
    assert cli("list", "--until", "yesterday", "--plain").lines == []
