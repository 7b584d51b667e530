import json
import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from freezegun import freeze_time

from jobq.cli.commands.list import KEYS
from jobq.cli.rendering.job_text import time_of
from jobq.cli.rendering.output import width_of
from jobq.clock import utcnow
from jobq.models import AttemptResult, JobStatus, Outcome
from jobq.queue import backend_of
from tests.support.cli_runner import ESCAPE, HOSTILE, Cli, on_terminal

JOB_FIELDS = [
    "id", "type", "name", "status", "queue", "priority", "args", "tags", "unique_key", "parents",
    "added_by", "attempts", "max_retries", "timeout", "created_at", "run_at", "started_at",
    "finished_at", "progress", "exit_code", "signal", "error", "signature", "reason", "result", "log_dir",
]  # fmt: skip
HISTORY_FIELDS = [
    "attempt", "supervisor", "pid", "started_at", "ended_at", "outcome", "exit_code", "signal",
    "error", "max_rss_bytes", "cpu_seconds",
]  # fmt: skip


# -- which jobs ----------------------------------------------------------------------------------


def ids(cli: Cli, *argv: str) -> list[int]:
    result = cli("list", "--plain", *argv)
    assert result.code == 0, result.err
    return [int(line.split("\t")[0]) for line in result.lines]


def test_jobs_are_listed_the_newest_last(cli: Cli) -> None:
    for number in range(3):
        cli.add("echo", str(number))
    result = cli("list")
    assert result.code == 0
    assert [line.split()[0] for line in result.lines] == ["id", "1", "2", "3"]
    assert "echo 2" in result.lines[3]


def test_people_are_shown_fifty_and_told_of_more(cli: Cli, project: Path) -> None:
    cli.queue.add_many([{"args": {"argv": ["true"]}}] * 50)
    assert "Only" not in on_terminal(project, "list").text
    cli.add()
    shown = on_terminal(project, "list").lines
    assert shown[-2] == "51 jobs: 51 pending" or shown[-3] == "51 jobs: 51 pending"
    assert "Only 50 are shown: --limit 0 shows all." in shown
    assert len(on_terminal(project, "list", "--limit", "0", stderr=False).lines) == 52


def test_how_many_can_be_said(cli: Cli) -> None:
    cli.queue.add_many([{"args": {"argv": ["true"]}}] * 5)
    shown = cli("list", "-n", "2")
    assert [line.split()[0] for line in shown.lines] == ["id", "4", "5"]
    assert "more" not in shown.err


def test_scripts_get_all(cli: Cli) -> None:
    cli.queue.add_many([{"args": {"argv": ["true"]}}] * 60)
    assert len(ids(cli)) == 60
    assert len(cli("list", "--json").json) == 60
    assert len(cli("list", "--jsonl").lines) == 60
    assert len(cli("list").lines) == 61
    assert ids(cli, "--limit", "2") == [59, 60]
    assert len(cli("list", "1-60").lines) == 61


def test_ids_in_every_form(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(9):
        cli.add()
    assert ids(cli, "2") == [2]
    assert ids(cli, "7,3-5", "last") == [3, 4, 5, 7, 9]
    assert ids(cli, "8-20") == [8, 9]
    monkeypatch.setattr(sys, "stdin", open_text("2\n4-5\n"))
    assert ids(cli, "-") == [2, 4, 5]
    monkeypatch.setattr(sys, "stdin", open_text(""))
    assert ids(cli, "-") == []


def open_text(text: str) -> object:
    import io

    return io.StringIO(text)


@pytest.mark.parametrize("word", ["x", "1-", "-1", "3..4", "1,", "9-x", "1" * 30, "½"])
def test_what_is_not_an_id_is_refused(cli: Cli, word: str) -> None:
    cli.add()
    result = cli("list", "--", word) if word.startswith("-") else cli("list", word)
    assert result.code == 2
    assert result.err.startswith("jobq: ")
    assert result.err.count("\n") == 1


def test_an_id_that_is_not_there_is_reported_and_the_others_listed(cli: Cli) -> None:
    cli.add()
    result = cli("list", "1", "99")
    assert result.code == 3
    assert result.lines[1].startswith("1 ")
    assert "no job 99" in result.err


@pytest.mark.parametrize("word", ["50-60", "9-3"])
def test_a_range_of_no_jobs_is_reported(cli: Cli, word: str) -> None:
    cli.add()
    result = cli("list", word)
    assert result.code == 3
    assert "no jobs from" in result.err


def test_selections(cli: Cli) -> None:
    cli.queue.create_queue("slow")
    cli.add(queue="slow", tags={"batch": "7"})
    cli.add(tags={"batch": "7", "kind": "x"})
    cli.failed()
    cli.completed()
    cli.queue.add("example")
    assert ids(cli, "--queue", "slow") == [1]
    assert ids(cli, "--tag", "batch=7") == [1, 2]
    assert ids(cli, "--tag", "batch=7", "--tag", "kind=x") == [2]
    assert ids(cli, "--type", "example") == [5]
    assert ids(cli, "--status", "failed") == [3]
    assert ids(cli, "--status", "failed,completed") == [3, 4]
    assert ids(cli, "-s", "failed", "-s", "completed") == [3, 4]
    assert ids(cli, "1-3", "--status", "pending") == [1, 2]
    assert ids(cli, "--since", "1h") == [1, 2, 3, 4, 5]
    assert ids(cli, "--until", "1h") == []


@pytest.mark.parametrize(
    ("argv", "code", "says"),
    [
        (["--status", "bogus"], 2, "known are blocked, scheduled"),
        (["--tag", "novalue"], 2, "KEY=VALUE"),
        (["--since", "whenever"], 2, "is not a time"),
        (["--queue", "nowhere"], 3, "jobq queue create nowhere"),
        (["--sort", "colour"], 2, "give one of id, status"),
        (["--limit", "-1"], 2, "--limit"),
        (["--json", "--plain"], 2, "one of --plain, --json and --jsonl"),
        (["--colour"], 2, "jobq list --help"),
    ],
)
def test_refusals(cli: Cli, argv: list[str], code: int, says: str) -> None:
    cli.add()
    result = cli("list", *argv)
    assert result.code == code
    assert says in result.err
    assert result.out == ""
    assert result.err.count("\n") == 1


# -- their order ---------------------------------------------------------------------------------


def test_every_key_sorts(cli: Cli) -> None:
    cli.add(priority=1, name="b")
    cli.completed(priority=9)
    cli.failed(name="a")
    for key in KEYS:
        assert sorted(ids(cli, "--sort", key)) == [1, 2, 3]
        assert ids(cli, "--sort", f"-{key}") == ids(cli, "--sort", key)[::-1]
    assert ids(cli, "--sort", "priority") == [1, 3, 2]
    assert ids(cli, "--sort", "name") == [2, 3, 1]
    assert ids(cli, "--sort", "status") == [1, 2, 3]
    assert ids(cli, "--sort", "finished") == [1, 2, 3]


def test_a_limit_keeps_the_highest(cli: Cli) -> None:
    for priority in (3, 9, 1, 7):
        cli.add(priority=priority)
    assert ids(cli, "--sort", "priority", "-n", "2") == [4, 2]
    assert ids(cli, "--sort", "-priority", "-n", "2") == [2, 4]
    assert ids(cli, "--sort", "-id", "-n", "1") == [4]


# -- what is said of them ------------------------------------------------------------------------


def cell(cli: Cli, job_id: int, column: str, *argv: str) -> str:
    """What the table says, found by where the column's title stands."""
    header, *lines = cli("list", *argv).lines
    (line,) = [line for line in lines if line.split()[0] == str(job_id)]
    start = header.index(column)
    after = [header.index(title) for title in header.split() if header.index(title) > start]
    return line[start : min(after, default=None)].strip()


def test_times(cli: Cli) -> None:
    parent = cli.running().job
    waiting = cli.add(after=[parent.id])
    later = cli.add(delay="3d")
    ready = cli.add()
    gone = cli.cancelled()
    assert cell(cli, parent.id, "time").endswith("s")
    assert cell(cli, waiting.id, "time") == "after 1"
    assert cell(cli, later.id, "time") in ("in 3d 0h", "in 2d 23h")
    assert cell(cli, ready.id, "time").endswith("s")
    assert cell(cli, gone.id, "time") == ""
    cli.queue.cancel(parent.id)
    assert cell(cli, parent.id, "time") == "stopping"


def test_many_parents_are_cut_short(cli: Cli) -> None:
    for _ in range(4):
        cli.add()
    waiting = cli.add(after=[1, 2, 3, 4])
    assert cell(cli, waiting.id, "time") == "after 1, 2, 3…"


def test_a_retry_that_is_due_says_so(cli: Cli) -> None:
    claim = cli.running()
    job = claim.job
    ending = AttemptResult(
        key=claim.key,
        outcome=Outcome.FAILED,
        status=JobStatus.RETRYING,
        failures=1,
        crashes=0,
        run_at=utcnow() - timedelta(seconds=1),
    )
    backend_of(cli.queue).end([ending], utcnow())
    assert cell(cli, job.id, "time") == "due"
    assert cell(cli, job.id, "attempts") == "1/4"


def test_attempts(cli: Cli) -> None:
    cli.running()
    cli.completed()
    cli.failed()
    cli.add()
    assert [cell(cli, n, "attempts") for n in (1, 2, 3, 4)] == ["1/4", "1", "1", "0/4"]
    cli.queue.retry(3)
    assert cell(cli, 3, "attempts") == "1/2"


def test_the_progress_column_is_there_when_there_is_progress(cli: Cli) -> None:
    claim = cli.running()
    assert "done" not in cli("list").lines[0]
    cli.queue.progress(claim, 40, 100, "encoding")
    assert cell(cli, 1, "done") == "40%"
    cli.queue.progress(claim, 12)
    assert cell(cli, 1, "done") == "12"
    cli.queue.progress(claim, 5, 0)
    assert cell(cli, 1, "done") == "5"


def test_the_queue_column_is_there_when_there_is_another_queue(cli: Cli) -> None:
    cli.add()
    assert "queue" not in cli("list").lines[0]
    cli.queue.create_queue("slow")
    cli.add(queue="slow")
    assert cell(cli, 2, "queue") == "slow"


def test_the_dead_letter_queue_shows_errors(cli: Cli) -> None:
    cli.failed("disk full")
    assert "disk full" not in cli("list").out
    assert cell(cli, 1, "error", "--status", "failed") == "disk full"


def test_what_a_job_does(cli: Cli) -> None:
    cli.add("sh", "-c", "exit 3")
    cli.queue.add("shell", {"shell": "sort a | head"})
    cli.queue.add("example", {"steps": 2})
    cli.add(name="nightly")
    assert [cell(cli, n, "job") for n in (1, 2, 3, 4)] == [
        "sh -c 'exit 3'",
        "sort a | head",
        "example steps=2",
        "nightly",
    ]


# -- what else is said ---------------------------------------------------------------------------


def test_no_jobs_at_all(cli: Cli) -> None:
    result = cli("list")
    assert (result.code, result.out) == (0, "")
    assert result.err == "No jobs yet: jobq add -- echo hello\n"


def test_no_job_that_matches(cli: Cli) -> None:
    assert "No jobs yet" in cli("list", "--status", "failed").err
    cli.add()
    result = cli("list", "--status", "failed")
    assert (result.code, result.out, result.err) == (0, "", "No job matches.\n")


def test_scripts_get_an_empty_document_and_no_advice(cli: Cli) -> None:
    assert cli("list", "--json").json == []
    for form in ("--json", "--jsonl", "--plain"):
        assert cli("list", form).err == ""


def test_jobs_that_wait_for_a_supervisor_though_they_are_not_pending(cli: Cli) -> None:
    cli.add(delay="1h")
    claim = cli.running()
    assert cli("list").err == "", "its lease has not run out"
    with freeze_time(utcnow() + timedelta(minutes=2)):
        assert "1 job waits, and no supervisor" in cli("list").err, "it was lost"
    cli.queue.complete(claim)
    with freeze_time(utcnow() + timedelta(minutes=70)):
        assert "1 job waits, and no supervisor" in cli("list").err, "its time has come"


def test_jobs_that_wait_for_a_supervisor(cli: Cli) -> None:
    cli.add(delay="1h")
    assert cli("list").err == ""
    cli.add()
    assert cli("list").err == "1 job waits, and no supervisor is running: jobq work\n"
    cli.add()
    assert cli("list").err == "2 jobs wait, and no supervisor is running: jobq work\n"
    for form in ("--json", "--jsonl", "--plain"):
        assert cli("list", form).err == ""
    cli.register_supervisor()
    assert cli("list").err == ""


# -- documents -----------------------------------------------------------------------------------


def test_list_documents(cli: Cli) -> None:
    cli.completed(result={"n": 1}, tags={"a": "b"})
    (document,) = cli("list", "--json").json
    assert list(document) == JOB_FIELDS
    assert document["created_at"].endswith("Z")
    assert document["result"] == {"n": 1}
    assert [json.loads(line) for line in cli("list", "--jsonl").lines] == [document]


def test_plain_lines_have_the_same_columns_whatever_is_in_them(cli: Cli) -> None:
    cli.add("a\tb\nc", name="tab\there")
    cli.completed()
    first, second = (line.split("\t") for line in cli("list", "--plain").lines)
    assert len(first) == len(second) == 11
    assert first[:6] == ["1", "pending", "default", "5", "shell", "0"]
    assert (first[7], first[8]) == ("", "")
    assert first[9] == "tab here"
    assert second[8].endswith("Z")


# -- no jobs -------------------------------------------------------------------------------------


def test_last_of_no_jobs(cli: Cli) -> None:
    assert cli("show", "last").code == 3


# -- hostile text --------------------------------------------------------------------------------


def test_hostile_text_is_shown_inert(cli: Cli) -> None:
    cli.failed(f"error {HOSTILE}\nsecond line", name=f"name {HOSTILE}", tags={"t": HOSTILE})
    cli.add(HOSTILE)
    for argv in (["list"], ["list", "--plain"], ["list", "-s", "failed"], ["show", "1"]):
        shown = cli(*argv).out
        assert not set("\x1b\x9b\u202e\u200b") & set(shown)
        assert "[/nope]" in shown


def test_hostile_text_is_intact_in_documents(cli: Cli) -> None:
    cli.add(name=HOSTILE, tags={"t": HOSTILE})
    shown = cli("list", "--json")
    assert not set("\x1b\x9b\u202e\u200b") & set(shown.out)
    assert shown.json[0]["name"] == HOSTILE
    assert cli("show", "1", "--json").json["tags"] == {"t": HOSTILE}


def test_hostile_text_is_inert_on_a_terminal(cli: Cli, project: Path) -> None:
    cli.failed(f"error {HOSTILE}", name=f"name {HOSTILE}")
    for argv in (["list", "-s", "failed"], ["show", "1"], ["show", "1", "--json"]):
        shown = on_terminal(project, *argv, columns=160).text
        assert not set("\x1b\x9b\u202e\u200b") & set(shown)
        assert "red[/nope]" in shown


# -- on a terminal -------------------------------------------------------------------------------


def fill(cli: Cli) -> None:
    cli.queue.create_queue("downloads")
    cli.completed(name="日本語 😀 " * 20, queue="downloads")
    cli.failed("an error that goes on " * 20)
    cli.add(*["word"] * 100)
    cli.add(delay="3d", after=[1, 2])
    claim = cli.running()
    cli.queue.progress(claim, 1, 3, "x" * 200)


@pytest.mark.parametrize("columns", [20, 40, 80, 160])
def test_no_line_is_wider_than_the_terminal(cli: Cli, project: Path, columns: int) -> None:
    fill(cli)
    for argv in (["list"], ["list", "--status", "failed"]):
        screen = on_terminal(project, *argv, columns=columns, stderr=False)
        assert screen.code == 0
        assert screen.lines[0].startswith("id")
        assert max(map(width_of, screen.lines)) <= columns
        assert "…" in screen.text


def test_columns_go_as_the_terminal_narrows(cli: Cli, project: Path) -> None:
    fill(cli)
    titles = {
        columns: on_terminal(project, "list", columns=columns, stderr=False).lines[0].split()
        for columns in (40, 160)
    }
    assert titles[160] == ["id", "status", "queue", "job", "attempts", "time", "done"]
    assert titles[40][:3] == ["id", "status", "job"]


def test_statuses_are_coloured_on_a_terminal(cli: Cli, project: Path) -> None:
    cli.completed()
    assert "\x1b[32mcompleted\x1b[0m" in on_terminal(project, "list").raw
    assert ESCAPE not in cli("list").out


@pytest.mark.parametrize(
    ("before", "env"),
    [(["--no-color"], {}), ([], {"NO_COLOR": "1"}), ([], {"TERM": "dumb"})],
)
def test_no_escape_sequences_where_none_are_wanted(
    cli: Cli, project: Path, before: list[str], env: dict[str, str]
) -> None:
    fill(cli)
    for argv in (["list"], ["show", "2"], ["queue", "list"], ["stats"]):
        screen = on_terminal(project, *before, *argv, columns=40, env=env)
        assert screen.code == 0
        assert ESCAPE not in screen.raw
    assert max(map(width_of, screen.lines[-2:])) <= 40


# -- start-up ------------------------------------------------------------------------------------


def test_hot_verbs_import_nothing_heavy(cli: Cli, project: Path) -> None:
    cli.add()
    code = (
        "import sys; from jobq.cli.main import run; run(sys.argv[1:]); "
        "print(sorted({'rich', 'sqlite_utils', 'asyncio', 'jobq.job_types.registry'} & set(sys.modules)))"
    )
    for argv in (["list"], ["show", "1"], ["list", "--json"]):
        done = subprocess.run(
            [sys.executable, "-c", code, *argv],
            cwd=project,
            env=os.environ,
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.splitlines()[-1] == "[]"


def test_the_time_of_a_cancelled_job_is_that_of_the_attempt_it_ended(cli: Cli) -> None:
    def taken(job_id: int) -> str:
        return cli.queue.get(job_id).status + time_of(cli.queue.get(job_id), utcnow())

    waiting = cli.running(max_retries=3, retry_base=3600)
    cli.queue.fail(waiting, "no route")
    cli.queue.cancel(waiting.job.id)
    assert taken(waiting.job.id) == "cancelled"  # it waited for its retry: that is no run
    stopped = cli.running()
    cli.queue.cancel(stopped.job.id)
    ending = AttemptResult(
        key=stopped.key,
        outcome=Outcome.CANCELLED,
        status=JobStatus.CANCELLED,
        failures=0,
        crashes=0,
    )
    backend_of(cli.queue).end([ending], utcnow() + timedelta(seconds=90))
    assert taken(stopped.job.id) == "cancelled1m 30s"
    assert taken(cli.cancelled().id) == "cancelled"
