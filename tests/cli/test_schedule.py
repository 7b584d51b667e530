import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from jobq import JobQueue
from jobq.clock import utcnow
from jobq.queue import backend_of
from jobq.scheduling.schedules import Schedules
from tests.support.cli_runner import Cli, on_terminal


@pytest.fixture
def cli(
    queue: JobQueue,
    project: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Cli:
    monkeypatch.chdir(project)
    monkeypatch.setenv("TZ", "Europe/Berlin")
    return Cli(queue, capsys)


def test_add_as_in_the_docs(cli: Cli) -> None:
    added = cli(
        "schedule", "add", "0 3 * * *", "cleanup", "older_than=30d",
        "--tz", "Europe/Berlin", "--name", "nightly",
    )  # fmt: skip
    assert (added.code, added.out, added.err) == (0, "nightly\n", "")
    (document,) = cli("schedule", "list", "--json").json
    fields = ("name", "cron", "tz", "type", "args", "paused")
    assert [document[field] for field in fields] == [
        "nightly", "0 3 * * *", "Europe/Berlin", "cleanup", {"older_than": "30d"}, False,
    ]  # fmt: skip
    assert len(document["next_runs"]) == 3
    assert all(run.endswith("Z") for run in document["next_runs"])
    assert document["in_words"] == "At 03:00 every day"


def test_add_takes_the_options_of_a_job(cli: Cli, project: Path) -> None:
    cli("queue", "create", "night")
    added = cli(
        "schedule", "add", "@daily", "--name", "n", "--queue", "night", "--priority", "high",
        "--tag", "a=b", "--timeout", "5m", "--retries", "2", "--retry-base", "1m", "--cwd", "/",
        "--env", "X=y z", "--missed", "all", "--overlap", "skip", "--json", "--", "echo", "$HOME",
    )  # fmt: skip
    document = added.json
    for field, value in {
        "queue": "night", "priority": 7, "tags": {"a": "b"}, "timeout": 300.0, "max_retries": 2,
        "retry_base": 60.0, "missed": "all", "overlap": "skip", "tz": "Europe/Berlin",
    }.items():  # fmt: skip
        assert document[field] == value, field
    args = document["args"]
    assert (args["argv"], args["cwd"], args["env"]["X"]) == (["echo", "$HOME"], "/", "y z")
    job_id = int(cli("schedule", "run-now", "n").out)
    job = cli("show", str(job_id), "--json").json
    assert (job["args"], job["queue"], job["max_retries"]) == (args, "night", 2)
    assert job["tags"] == {"a": "b", "schedule": "n"}


def test_a_name_is_made_up_where_none_is_given(cli: Cli) -> None:
    names = [
        cli("schedule", "add", "@daily", *job).out.strip()
        for job in (
            ["cleanup", "older_than=1d"],
            ["cleanup", "older_than=2d"],
            ["--", "/usr/bin/rsync", "a"],
            ["--shell", "sort a | head"],
        )
    ]
    assert names == ["cleanup", "cleanup-2", "rsync", "sort"]


@pytest.mark.parametrize(
    ("words", "code", "what"),
    [
        (["61 * * * *", "--", "true"], 2, "the minute (1st field) must be 0-59"),
        (["0", "3", "*", "*", "*", "cleanup"], 2, "expected 5 fields, got 1"),
        (["@reboot", "--", "true"], 2, "when the machine starts"),
        (["@daily", "--tz", "Mars", "--", "true"], 2, "no time zone 'Mars'"),
        (["@daily", "--missed", "x", "--", "true"], 2, "missed 'x': give skip or once or all"),
        (["@daily", "--overlap", "x", "--", "true"], 2, "overlap 'x': give skip or allow"),
        (["@daily", "--name", "a b", "--", "true"], 2, "schedule name 'a b'"),
        (["@daily", "--queue", "nosuch", "--", "true"], 3, "no queue 'nosuch'"),
        (["@daily", "nosuch"], 2, "unknown job type 'nosuch'"),
        (["@daily", "cleanup", "odd=1"], 2, "no argument 'odd'"),
        (["@daily", "cleanup", "--cwd", "/"], 2, "goes with shell jobs"),
        (["@daily"], 2, "give a command"),
        (["@daily", "--name", "there", "--", "true"], 4, "'there' already exists"),
    ],
)
def test_add_refuses_in_one_line(cli: Cli, words: list[str], code: int, what: str) -> None:
    cli("schedule", "add", "@daily", "--name", "there", "--", "true")
    refused = cli("schedule", "add", *words)
    assert (refused.code, refused.out, refused.err.count("\n")) == (code, "", 1)
    assert refused.err.startswith("jobq: ")
    assert what in refused.err
    assert [s.name for s in Schedules(cli.queue).all()] == ["there"]


@pytest.mark.parametrize("verb", ["show", "pause", "resume", "remove", "run-now"])
def test_one_that_is_not_there(cli: Cli, verb: str) -> None:
    missing = cli("schedule", verb, "nosuch")
    assert (missing.code, missing.out) == (3, "")
    assert missing.err == "jobq: no schedule 'nosuch': see `jobq schedule list`\n"


def test_pause_resume_remove(cli: Cli) -> None:
    cli("schedule", "add", "@daily", "--name", "n", "--", "true")
    assert cli("schedule", "pause", "n").out == "Paused schedule n\n"
    (document,) = cli("schedule", "list", "--json").json
    assert (document["paused"], document["next_runs"]) == (True, [])
    assert "paused" in cli("schedule", "list").out
    assert cli("schedule", "resume", "n").out.startswith("Resumed schedule n: next ")
    assert cli("schedule", "list", "--json").json[0]["paused"] is False
    assert cli("schedule", "remove", "n").out == "Removed schedule n\n"
    assert cli("schedule", "list", "--json").json == []
    assert cli("schedule", "list").out == ""


def test_list_says_when_in_words_and_what_became_of_the_last_job(cli: Cli) -> None:
    cli("schedule", "add", "*/15 * * * *", "--name", "n", "--", "echo", "a b")
    cli("schedule", "run-now", "n")
    title, line = cli("schedule", "list").lines
    for word in ("n", "*/15 * * * *", "Every 15th minute", "Europe/Berlin", "1 pending", "'a b'"):
        assert word in line
    assert title.split()[:2] == ["name", "cron"]
    cli.queue.cancel(1)
    cli.queue.prune(status="cancelled")
    assert "1 pruned" in cli("schedule", "list").out


def test_a_zone_that_is_gone_hides_no_schedule(cli: Cli) -> None:
    for name in ("good", "lost"):
        cli("schedule", "add", "@daily", "--tz", "UTC", "--name", name, "--", "true")
    lost = Schedules(cli.queue).get("lost")
    assert backend_of(cli.queue).schedules.replace(lost, replace(lost, tz="US/Gone"))
    listed = cli("schedule", "list")
    assert (listed.code, listed.err) == (0, "")
    assert "no time zone 'US/Gone'" in listed.out
    assert "At 00:00 every day" in listed.out
    good, lost_too = json.loads(cli("schedule", "list", "--json").out)
    assert (len(good["next_runs"]), lost_too["next_runs"]) == (3, [])
    assert "no time zone 'US/Gone'" in cli("schedule", "show", "lost").out


def test_show_tells_everything(cli: Cli) -> None:
    cli("schedule", "add", "@hourly", "--name", "n", "--timeout", "none", "--", "true")
    schedules, now = Schedules(cli.queue), utcnow()
    schedules.fire_due(now + timedelta(hours=1))
    schedules.fire_due(now + timedelta(hours=2))
    out = cli("schedule", "show", "n").out
    for word in ("At the start of every hour", "once", "timeout   none", "job 1 pending"):
        assert word in out
    assert "skipped: job 1 had not ended" in out
    document = cli("schedule", "show", "n", "--json").json
    assert [(h["job_id"], h["added"]) for h in document["history"]] == [(1, False), (1, True)]
    assert document["last_job_id"] == 1


def test_run_now_while_the_last_one_runs(cli: Cli) -> None:
    cli("schedule", "add", "@daily", "--name", "n", "--", "true")
    assert cli("schedule", "run-now", "n").out == "1\n"
    assert cli("schedule", "run-now", "n").out == "1\n"
    assert cli("schedule", "run-now", "n", "--json").json["id"] == 1


def test_on_a_terminal(cli: Cli, project: Path) -> None:
    add = ("schedule", "add", "30 2 * * *", "--tz", "Asia/Tokyo", "--name")
    screen = on_terminal(project, *add, "n", "--", "true", columns=200)
    assert "Added schedule n: At 02:30 every day, Asia/Tokyo; next 20" in screen.text
    assert "No jobs are added until `jobq work` runs" in screen.text
    assert "Added job 1 of schedule n" in on_terminal(project, "schedule", "run-now", "n").text
    again = on_terminal(project, "schedule", "run-now", "n")
    assert "Nothing added: job 1 of schedule n is still pending" in again.text
    for columns in (40, 80, 160):
        shown = on_terminal(project, "schedule", "list", columns=columns, stderr=False)
        assert all(len(line) <= columns for line in shown.lines), shown.text
        assert "02:30" in shown.text or "30 2" in shown.text


def test_add_says_what_an_uneven_step_does(cli: Cli) -> None:
    added = cli("schedule", "add", "*/45 * * * *", "--name", "s", "--", "true")
    assert (added.code, added.out) == (0, "s\n")
    assert added.err == (
        "*/45 as the minute (1st field) starts again every hour: At minutes 0 and 45 of every hour\n"
    )
    assert cli("schedule", "add", "*/30 * * * *", "--", "true").err == ""


@pytest.mark.parametrize(
    ("cron", "what"),
    [
        ("*/90 * * * *", "so this is not every 90: give a step of 1 to 60"),
        ("CRON_TZ=Europe/Berlin 30 2 * * *", "--tz Europe/Berlin"),
        ("0 0 * * FRI-MON", "FRI-SUN,MON instead of FRI-MON"),
    ],
)
def test_add_refuses_what_would_not_mean_what_it_says(cli: Cli, cron: str, what: str) -> None:
    refused = cli("schedule", "add", cron, "--", "true")
    assert refused.code == 2
    assert what in refused.err
    assert refused.err.count("\n") == 1
    assert cli("schedule", "list", "--json").json == []


def test_a_stored_schedule_with_a_long_step_goes_on(cli: Cli) -> None:
    schedules = Schedules(cli.queue)
    schedule = schedules.add("s", "0 * * * *", {"type": "shell", "args": {"argv": ["true"]}})
    changed = replace(schedule, cron="*/90 * * * *")
    assert backend_of(cli.queue).schedules.replace(schedule, changed)
    (document,) = cli("schedule", "list", "--json").json
    assert document["in_words"] == "At the start of every hour"
    assert len(document["next_runs"]) == 3
