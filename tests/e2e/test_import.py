"""Imports that are interrupted, and a whole batch from rows to results."""

import json
import os
import signal
from pathlib import Path

import pytest

from jobq import JobStatus
from tests.support.project import Project, wait_until

ROWS = 30_000


def keyed(project: Project, rows: int) -> Path:
    """A file of rows, every second of which waits for the one before."""
    file = project.root / "rows.jsonl"
    with file.open("w") as out:
        for number in range(rows):
            after = {"after": [f"row-{number - 1}"]} if number % 2 else {}
            row = {"key": f"row-{number}", "argv": ["true"], "name": str(number), **after}
            out.write(json.dumps(row) + "\n")
    return file


def added(project: Project) -> int:
    return sum(project.queue.counts().values())


@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGINT])
def test_an_interrupted_import_goes_on_where_it_was(project: Project, sign: signal.Signals) -> None:
    keyed(project, ROWS)
    process = project.start("import", "rows.jsonl")
    wait_until(lambda: added(project) > 0, seconds=60)
    process.send_signal(sign)
    assert process.stdout
    output = process.stdout.read()
    process.wait()
    first = added(project)
    assert 0 < first < ROWS, "it was over before it could be interrupted"
    if sign is signal.SIGINT:
        assert process.returncode == 130
        assert f"Interrupted after {first:,} jobs: import the file again" in output
    done = project.jobq("import", "rows.jsonl", "--json")
    document = json.loads(done.stdout)
    assert (document["added"], document["existing"]) == (ROWS - first, first)
    found = {job.name: job for job in project.queue.find()}
    assert len(found) == added(project) == ROWS
    for number in range(1, ROWS, 2):
        (parent,) = found[str(number)].parents
        assert parent.id == found[str(number - 1)].id
    assert list(project.queue.logs.root.glob("import-*")) == []


def test_an_import_that_is_killed_while_it_checks_leaves_nothing(project: Project) -> None:
    os.mkfifo(project.root / "rows.jsonl")
    process = project.start("import", "rows.jsonl")
    with (project.root / "rows.jsonl").open("w") as out:  # opens when the other side does
        out.write('{"argv": ["true"]}\n' * 10_000)  # more than a pipe holds: it is being read
        out.flush()
        process.kill()
        process.wait()
    assert added(project) == 0
    assert list(project.queue.logs.root.glob("import-*")) == []


def test_a_batch_runs_in_its_order(project: Project) -> None:
    (project.root / "batch.csv").write_text(
        "key,shell,after,after_fail,after_any\n"
        "all,cat a b > all,a b,,\n"
        "a,echo a > a,,,\n"
        "b,echo b > b,,,\n"
        "bad,exit 3,,,\n"
        "rescue,echo rescued > rescued,,bad,\n"
        "never,touch never,bad,,\n"
        "last,echo last >> all,,,all rescue never\n"
    )
    done = project.jobq("import", "batch.csv")
    assert (done.returncode, done.stderr) == (0, "")
    project.drain()
    assert (project.root / "all").read_text() == "a\nb\nlast\n"
    assert (project.root / "rescued").exists()
    assert not (project.root / "never").exists()
    counts = project.queue.counts()
    assert counts[JobStatus.FAILED] == counts[JobStatus.CANCELLED] == 1
    assert counts[JobStatus.COMPLETED] == 5


def test_jobs_of_find_run_with_their_names_whole(project: Project) -> None:
    names = ["a b.txt", "$(touch oops).txt", "new\nline.txt", "-n.txt"]
    folder = project.root / "in"
    folder.mkdir()
    for name in names:
        (folder / name).write_text(name)
    argv = ["add", "--each", "--null", "--", "cp", "--", "in/{}", "{.}.copy"]
    done = project.jobq(*argv, stdin="".join(f"{name}\0" for name in names))
    assert done.stdout == "1\n2\n3\n4\n"
    project.drain()
    assert {file.name for file in project.root.glob("*.copy")} == {
        name.removesuffix(".txt") + ".copy" for name in names
    }
    assert not list(project.root.glob("oops*"))
