"""What is too much is refused, or cut with a word about it; many of anything hold nobody up."""

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobq import JobQueue, UsageError
from jobq.limits import (
    DROPPED_KEY,
    MAX_DEPTH,
    MAX_ERROR_CHARS,
    MAX_MESSAGE_CHARS,
    bounded_text,
    listed,
)
from jobq.logs.owner import Owner
from jobq.logs.progress import ProgressFile, read
from jobq.models import Progress
from jobq.queue import backend_of
from jobq.testing import drain
from tests.support.cli_runner import Cli
from tests.support.project import Project
from tools.soak import limits

MUCH = "x" * 10_000_000
WORKER = """
from typing import Any
from pydantic import BaseModel
from jobq import JobWorker

class Anything(JobWorker):
    job_type = "anything"
    max_retries = 0
    class Args(BaseModel):
        value: Any = None
        fail: bool = False
    def run(self, args, job):
        job.progress(1, 2, "m" * 10_000_000)
        if args.fail:
            raise RuntimeError("e" * 10_000_000)
        return {"much": "r" * 10_000_000}
"""


@pytest.fixture
def cli(queue: JobQueue, capsys: Any, project: Path, monkeypatch: pytest.MonkeyPatch) -> Cli:
    monkeypatch.chdir(project)
    (project / "workers").mkdir()
    (project / "workers" / "anything.py").write_text(WORKER)
    return Cli(queue, capsys)


@given(st.text(), st.integers(0, 50))
def test_a_cut_text_says_how_much_is_left_out(text: str, most: int) -> None:
    cut = bounded_text(text, most)
    assert cut.startswith(text[:most])
    assert (cut == text) is (len(text) <= most)
    assert bounded_text(cut, most) == cut


# -- what a job says ----------------------------------------------------------------------------


def test_ten_megabytes_of_error_result_and_progress(cli: Cli) -> None:
    failed = cli.queue.add("anything", {"fail": True})
    completed = cli.queue.add("anything")
    drain(cli.queue, real=True)
    error = cli.queue.get(failed.id).error
    assert error is not None
    assert error.startswith("RuntimeError: eee")
    assert error.endswith("characters left out)")
    assert len(error) < MAX_ERROR_CHARS + 100
    result = cli.queue.get(completed.id).result
    assert "10,000,011 bytes" in result[DROPPED_KEY]
    claim = cli.running()
    cli.queue.progress(claim, 1, 2, MUCH)
    progress = cli.queue.get(claim.job.id).progress
    assert progress is not None
    assert progress.message == "x" * MAX_MESSAGE_CHARS + "… (9,999,800 characters left out)"
    cli.queue.fail(claim, MUCH)
    assert len(cli.queue.attempts(claim.job.id)[0].error or "") < MAX_ERROR_CHARS + 100


def test_results_of_programs_are_bounded_too(cli: Cli) -> None:
    nested: Any = []
    for _ in range(MAX_DEPTH):
        nested = [nested]
    claims = [cli.running(), cli.running()]
    cli.queue.complete(claims[0], MUCH)
    cli.queue.complete(claims[1], nested)
    dropped = [cli.queue.get(claim.job.id).result[DROPPED_KEY] for claim in claims]
    assert dropped[0].startswith("the result: 10,000,002 bytes, and at most 1,000,000 are kept")
    assert dropped[1] == "the result: nested more than 100 deep"


def test_a_long_message_goes_through_the_progress_file(tmp_path: Path) -> None:
    file = ProgressFile(tmp_path)
    directory = os.open(tmp_path, os.O_RDONLY)
    for message in ("\U0001f600" * 1000, "short"):
        progress = Progress(1.0, 2.0, message)
        file.write(progress)
        assert read(directory) == progress.bounded()
    os.close(directory)
    file.close()


# -- what a job is given --------------------------------------------------------------------------

DEEP = '{"value": ' + "[" * 200 + "]" * 200 + "}"
ODD = {
    "an empty command": (["--", ""], "the command is empty"),
    "a deep argument": (["anything", "--args", DEEP], "nested more than 100 deep"),
    "a bottomless argument": (["anything", "--args", '{"value":' + "[" * 100_000], "nested too deep"),
    "a number of 5,000 digits": (["anything", "--args", f'{{"value": {"9" * 5000}}}'], "digits"),
    "no number": (["anything", "--args", '{"value": NaN}'], "not valid JSON: NaN"),
    "a late time": (["--at", "9999-12-31T23:59", "--", "x"], "give a year"),
    "a late time elsewhere": (["--at", "9999-12-31T23:59-12:00", "--", "x"], "give a year"),
    "an early time": (["--at", "0001-01-01T00:00+14:00", "--", "x"], "give a year"),
    "a long tag": (["--tag", f"a={'x' * 1001}", "--", "x"], "up to 1,000 characters"),
    "a surrogate in a tag": (["--tag", "a=\udcff", "--", "x"], "not valid UTF-8"),
    "many tags": ([w for n in range(101) for w in ("--tag", f"t{n}=")] + ["--", "x"], "at most 100"),
    "a long name": (["--name", "x" * 1001, "--", "x"], "up to 1,000 characters"),
    "a long variable": (["--env", "A=" + "x" * 200_000, "--", "x"], "--stdin"),
    "a long argument": (["--", "x", MUCH], "--stdin"),
    "a long worker's argument": (["anything", f"value={MUCH}"], "put the data in a file"),
    "a long type": ([MUCH, "a=b"], "unknown job type"),
    "a long key": (["anything", f"{MUCH}=b"], "no argument"),
}  # fmt: skip


@pytest.mark.parametrize("odd", ODD)
def test_add_refuses_in_one_line(cli: Cli, odd: str) -> None:
    words, complaint = ODD[odd]
    done = cli("add", *words)
    assert (done.code, done.out) == (2, "")
    assert complaint in done.err
    assert done.err.count("\n") == 1
    assert len(done.err) < 5000
    assert not cli.queue.find()


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ({"argv": ["x", MUCH]}, "--stdin"),
        ({"argv": [""]}, "the command is empty"),
        ({"argv": ["x"], "env": {"A": MUCH}}, "--stdin"),
        ({"type": "anything", "args": {"value": MUCH}}, "put the data in a file"),
        ({"type": "anything", "args": json.loads(DEEP)}, "nested more than 100 deep"),
        ({"argv": ["x"], "tags": {"a": "b\0"}}, "without NUL"),
        ({"argv": ["x"], "tags": {"a": None}}, "expected text"),
        ({"argv": ["x"], "at": "9999-12-31T23:59"}, "give a year"),
    ],
)
def test_import_and_the_library_refuse_alike(
    cli: Cli, project: Path, row: dict[str, Any], complaint: str
) -> None:
    (project / "rows.jsonl").write_text(json.dumps(row))
    done = cli("import", "rows.jsonl")
    assert done.code == 2
    assert complaint in done.err
    assert len(done.err) < 5000
    spec = {"type": row.get("type", "shell"), "tags": row.get("tags")}
    spec["args"] = row.get("args") or {k: row[k] for k in ("argv", "env") if k in row}
    if "at" in row:
        spec["at"] = datetime.fromisoformat(row["at"]).replace(tzinfo=UTC)
    with pytest.raises(UsageError, match=complaint):
        cli.queue.add_many([spec])
    assert not cli.queue.find()


# -- deleting ------------------------------------------------------------------------------------


def test_a_log_that_cannot_be_deleted_is_told_and_holds_up_no_other(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = [cli.completed() for _ in range(3)]
    for job in jobs:
        cli.queue.logs.create(job).close()
    real = type(cli.queue.logs).delete

    def delete(self: Any, owner: Owner) -> None:
        if owner.job_id == jobs[0].id:
            raise PermissionError(13, "Permission denied", str(self.path(owner.job_id)))
        real(self, owner)

    monkeypatch.setattr(type(cli.queue.logs), "delete", delete)
    done = cli("prune", "--older-than", "0s")
    assert done.code == 1
    assert "the log of job 1 could not be deleted" in done.err
    assert "Permission denied" in done.err
    assert not cli.queue.find()
    assert [cli.queue.logs.path(job.id).exists() for job in jobs] == [True, False, False]


def test_a_job_that_is_retried_while_it_is_pruned_keeps_its_log(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = cli.failed()
    cli.queue.logs.create(job).close()
    delete = backend_of(cli.queue).delete

    def retried_first(ids: Any) -> list[int]:
        cli.queue.retry(job.id)
        return delete(ids)

    monkeypatch.setattr(backend_of(cli.queue), "delete", retried_first)
    assert cli.queue.delete([job.id]) == []
    assert cli.queue.logs.path(job.id).exists()
    assert cli.status(job.id) == "pending"


# -- many ----------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "share"), [("children", 0.02), ("chain", 0.01), ("history", 0.005)]
)
def test_many_hold_nobody_up(name: str, share: float) -> None:
    """The sizes that count are measured by ``python -m tools.soak.limits``."""
    assert "an add of another process took" in limits.measure(name, share)


def test_an_add_does_not_wait_for_the_children_of_others(queue: JobQueue) -> None:
    parent = queue.add("shell", {"argv": ["true"]}, max_retries=0)
    queue.add_many([{"args": {"argv": ["x"]}, "after": [parent.id]}] * 3000)
    claim = queue.claim(owner="me")
    assert claim is not None
    backend_of(queue).end([limits.completed(claim)], parent.created_at)
    queue.add("shell", {"argv": ["true"]})
    assert backend_of(queue).settle_dependents(parent.created_at)  # there is more to tell


@pytest.mark.slow
def test_many_writers_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "WRITERS", 12)
    assert "60 jobs, 0 errors" in limits.measure("writers", 0.02)


# -- where a job's environment comes from ----------------------------------------------------------


def test_a_job_finds_what_its_shell_found(project: Path) -> None:
    opened = Project(project)
    for name in ("shell", "supervisor"):
        (project / name).mkdir()
        tool = project / name / "tool"
        tool.write_text(f"#!/bin/sh\necho the tool of the {name}\n")
        tool.chmod(0o755)
    path = "/usr/bin:/bin"
    shell = {
        "PATH": f"{project}/shell:{path}", "VIRTUAL_ENV": f"{project}/shell",
        "LC_TIME": "C", "MY_OWN": "mine",
    }  # fmt: skip
    script = 'tool; echo "$VIRTUAL_ENV $LC_TIME ${MY_OWN-unset} $GIVEN $JOBQ_JOB_ID"'
    added = opened.jobq("add", "--env", "GIVEN=1", "--shell", script, env=shell)
    assert added.stdout == "1\n"
    supervisor = {
        "PATH": f"{project}/supervisor:{path}",
        "VIRTUAL_ENV": "elsewhere",
        "LC_TIME": "x",
    }
    assert opened.jobq("work", "--drain", env=supervisor).returncode == 0
    job = opened.queue.get(1)
    assert opened.output(job) == f"the tool of the shell\n{project}/shell C unset 1 1\n"
    assert "MY_OWN" not in job.args["env"]
    opened.close()


def test_of_many_names_some_are_listed() -> None:
    assert listed(list("abcdefg")) == "a, b, c, d, e and 2 more"
    assert listed(range(100_000)) == "0, 1, 2, 3, 4 and 99,995 more"
    assert (listed([3]), listed([])) == ("3", "")


def test_a_sentence_about_many_jobs_is_short(
    queue: JobQueue, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert queue.settings.path is not None
    monkeypatch.chdir(queue.settings.path.parent)
    cli = Cli(queue, capsys)
    parents = queue.add_many([{"type": "shell", "args": {"argv": ["true"]}}] * 1000)
    child = cli.add(after=[parent.id for parent in parents])
    missing = ",".join(str(number) for number in range(10_001, 11_001, 2))
    for argv, words in (
        (["explain", str(child.id)], "waits for 995 more jobs"),
        (["show", str(child.id)], f"995 more: `jobq show {child.id} --json` lists all"),
        (["add", "--after", missing, "--", "true"], "and 495 more to wait for"),
        (["list", missing], "and 495 more"),
        (["wait", missing], "and 495 more"),
    ):
        result = cli(*argv)
        assert words in result.out + result.err
        assert len(result.out + result.err) < 3000, argv
