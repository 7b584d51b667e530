import csv
import io
import json
import os
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jobq import Job, JobQueue, JobStatus
from jobq.jobs.spec import CONDITIONS
from jobq.models import Condition, JobFilter
from jobq.transfer.exporter import Export, key_of
from jobq.transfer.formats import FORMATS, read, write
from jobq.transfer.importer import Importer
from jobq.transfer.row_validation import COLUMNS
from tests.support.cli_runner import HOSTILE, Cli, on_terminal


def rows(cli: Cli, *argv: str) -> list[dict[str, Any]]:
    result = cli("export", *argv)
    assert (result.code, result.err) == (0, "")
    return [json.loads(line) for line in result.lines]


# -- there and back ------------------------------------------------------------------------------

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
WORD = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1)
COMMAND = st.fixed_dictionaries(
    {"argv": st.tuples(WORD, TEXT, TEXT).map(list)},
    optional={
        "cwd": st.just("/tmp/a b"),
        "env": st.dictionaries(st.sampled_from(["A", "A_1"]), TEXT, min_size=1),
        "stdin": st.just("/dev/null"),
    },
)
LINE = st.fixed_dictionaries({"shell": TEXT.filter(str.strip)})
WORKER = st.fixed_dictionaries({"path": WORD})
MOMENT = st.integers(1, 10**15).map(
    lambda n: datetime(2030, 1, 1, tzinfo=UTC) + n * timedelta.resolution
)
SPEC = st.fixed_dictionaries(
    {
        "what": st.one_of(
            st.tuples(st.just("shell"), COMMAND | LINE),
            st.tuples(st.just("metadata_extraction"), WORKER),
        ),
        "parents": st.dictionaries(st.integers(0, 5), st.sampled_from(Condition), max_size=3),
        "priority": st.integers(0, 9),
        "name": st.none() | WORD,
        "tags": st.dictionaries(st.sampled_from(["a", "b.c", "d:e"]), TEXT),
        "at": st.none() | MOMENT,
        "timeout": st.sampled_from(["none", 0.25, 90, "2h"]),
        "max_retries": st.integers(0, 9),
        "retry_base": st.sampled_from([0, 0.5, 3600]),
        "unique": st.booleans(),
    }
)


def add_all(queue: JobQueue, made: list[dict[str, Any]]) -> list[int]:
    """Jobs as hypothesis made them up: parents are places of earlier ones."""
    ids: list[int] = []
    for number, spec in enumerate(made):
        options = {k: v for k, v in spec.items() if k not in ("what", "parents", "unique")}
        job_type, args = spec["what"]
        refs: dict[str, Any] = {name: [] for name in CONDITIONS}
        column = {condition: name for name, condition in CONDITIONS.items()}
        for place, condition in spec["parents"].items():
            if place < number:
                refs[column[condition]].append(ids[place])
        unique = f"unique {number}" if spec["unique"] else None
        ids.append(queue.add(job_type, args, unique=unique, **options, **refs).id)
    return ids


def told(job: Job, places: dict[int, int]) -> tuple[Any, ...]:
    """All of a job that matters, its parents by their places."""
    parents = {places[parent.id]: parent.condition for parent in job.parents}
    return (
        job.type, job.args, job.queue, job.priority, job.name, dict(job.tags), job.unique_key,
        job.run_at, job.timeout, job.max_retries, job.retry_base, parents, job.status,
    )  # fmt: skip


@given(st.lists(SPEC, max_size=6), st.sampled_from(FORMATS))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
def test_what_is_exported_can_be_imported(
    tmp_path: Path, made: list[dict[str, Any]], kind: str
) -> None:
    folders = [tmp_path / os.urandom(8).hex() for _ in range(2)]
    for folder in folders:
        folder.mkdir()
        (folder / "jobq.toml").touch()
    with (
        JobQueue.open(folders[0] / "jobq.toml") as one,
        JobQueue.open(folders[1] / "jobq.toml") as two,
    ):
        ids = add_all(one, made)
        file = io.StringIO(newline="")
        assert write(
            Export(one, JobFilter(), with_secrets=True).rows(), kind, file, COLUMNS
        ) == len(made)
        for added in (len(made), 0):  # the second time it is all there
            with Importer(two, tmp_path) as batch:
                batch.check(read(io.BytesIO(file.getvalue().encode()), kind))
                assert batch.problems == []
                for _ in batch.add():
                    pass
                assert batch.added == added
        before, after = one.get_many(ids), two.find()
        places = [{job.id: n for n, job in enumerate(jobs)} for jobs in (before, after)]
        assert [told(job, places[1]) for job in after] == [told(job, places[0]) for job in before]


def test_jobs_in_every_state_are_exported_as_what_they_are_to_do(cli: Cli) -> None:
    made = [cli.add(), cli.running().job, cli.completed(), cli.failed(), cli.cancelled()]
    waiting = cli.add(after=[made[0].id])
    exported = rows(cli)
    assert [row["key"] for row in exported] == [key_of(job) for job in [*made, waiting]]
    assert set(exported[3]) <= set(COLUMNS)
    Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in exported))
    assert cli("import", "rows.jsonl", "--json").json["added"] == 6
    statuses = [job.status for job in cli.queue.find()][6:]
    assert statuses == [JobStatus.PENDING] * 5 + [JobStatus.BLOCKED]


def test_a_job_that_waits_for_its_next_try_is_exported_without_that_time(cli: Cli) -> None:
    claim = cli.running()
    cli.queue.fail(claim, "no")
    assert cli.queue.get(claim.job.id).run_at
    assert "at" not in rows(cli)[0]


def test_what_a_job_reads_is_named_by_its_file(cli: Cli, project: Path) -> None:
    source = project / "in.txt"
    source.write_text("hello")
    with source.open("rb") as file:
        spooled = cli.queue.logs.spool(file)
    from jobq.jobs.spec import JobSpec

    spec = JobSpec(args={"argv": ["cat"], "stdin": "-"})
    cli.queue.insert([spec], stdin=spooled)
    assert Path(rows(cli)[0]["stdin"]).read_text() == "hello"


# -- which ones ----------------------------------------------------------------------------------


def test_a_selection_is_exported(cli: Cli) -> None:
    for number in range(4):
        cli.add(name=str(number), tags={"even": str(number % 2 == 0)})
    assert [row["name"] for row in rows(cli, "--tag", "even=True")] == ["0", "2"]
    assert [row["name"] for row in rows(cli, "2-3")] == ["1", "2"]
    assert [row["name"] for row in rows(cli, "--limit", "3")] == ["0", "1", "2"]
    assert [row["name"] for row in rows(cli, "--limit", "0")] == ["0", "1", "2", "3"]
    assert rows(cli, "--status", "failed") == rows(cli, "--status", "failed", "-n", "2") == []
    assert cli("export", "41").code == 3


def test_parents_among_them_are_named_by_key_and_others_by_id(cli: Cli) -> None:
    inside, outside = cli.add(tags={"t": "1"}), cli.add()
    cli.add(after=[inside.id], after_any=[outside.id], tags={"t": "1"})
    result = cli("export", "--tag", "t=1")
    child = json.loads(result.lines[1])
    assert (child["after"], child["after_any"]) == ([key_of(inside)], [outside.id])
    assert (
        result.err == "Some jobs wait for 2, which are not exported: their rows keep those ids.\n"
    )


def test_parents_beyond_the_limit_are_not_among_them(cli: Cli) -> None:
    first = cli.add()
    child = cli.add(after=[first.id])
    late = cli.add(after=[child.id])
    exported = rows(cli, "--limit", "2")
    assert exported[1]["after"] == [key_of(first)]
    result = cli("export", str(late.id))
    assert json.loads(result.out)["after"] == [child.id]


def test_a_parent_left_out_that_did_as_it_was_to_is_waited_for_no_more(cli: Cli) -> None:
    done = cli.completed()
    child = cli.add(after=[done.id])
    assert "after" not in rows(cli, str(child.id))[0]


# -- where to ------------------------------------------------------------------------------------


def test_the_format_is_that_of_the_files_ending_or_the_option(cli: Cli) -> None:
    cli.add(name="a,b", tags={"t": "1"})
    for name in ("a.csv", "a.tsv", "a.json", "a.jsonl", "a.txt"):
        result = cli("export", "-o", name)
        assert (result.code, result.out, result.err) == (0, "", "")
    (table,) = csv.DictReader(io.StringIO(Path("a.csv").read_text()))
    assert (table["name"], json.loads(table["tags"])) == ("a,b", {"t": "1"})
    assert list(table) == list(COLUMNS)
    assert json.loads(Path("a.json").read_text())[0]["name"] == "a,b"
    assert json.loads(Path("a.txt").read_text())["name"] == "a,b"
    assert cli("export", "--format", "json").json == json.loads(Path("a.json").read_text())
    assert cli("export", "--format", "xml").code == 2


def test_a_file_is_for_its_owner_alone_and_whole_or_as_it_was(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    cli.add()
    Path("a.jsonl").write_text("old")
    with monkeypatch.context() as patch:
        patch.setattr("jobq.cli.commands.export.write", lambda *_: 1 / 0)
        assert cli("export", "-o", "a.jsonl").code == 1
    assert Path("a.jsonl").read_text() == "old"
    assert list(Path().glob(".a*")) == []
    for umask in (0, 0o777):
        before = os.umask(umask)
        try:
            assert cli("export", "-o", "a.jsonl").code == 0
        finally:
            os.umask(before)
        assert stat.S_IMODE(Path("a.jsonl").stat().st_mode) == 0o600


def test_a_folder_that_is_not_there_is_one_line(cli: Cli) -> None:
    result = cli("export", "-o", "nowhere/a.csv")
    assert (result.code, result.err) == (2, "jobq: nowhere/a.csv: No such file or directory\n")


def test_a_device_is_written_to(cli: Cli) -> None:
    cli.add()
    assert cli("export", "-o", "/dev/null").code == 0
    assert Path("/dev/null").is_char_device()


def test_nothing_is_exported_as_nothing(cli: Cli) -> None:
    assert rows(cli) == []
    assert cli("export", "--format", "json").json == []
    assert cli("export", "--format", "csv").lines == [",".join(COLUMNS)]


def test_on_a_terminal_jobs_can_do_nothing_to_it(cli: Cli, project: Path) -> None:
    cli.add(name=HOSTILE)
    for kind in ("jsonl", "csv"):
        screen = on_terminal(project, "export", "--format", kind)
        assert screen.code == 0
        assert "\x1b[31m" not in screen.raw
        assert "\x9b" not in screen.raw
    assert "Exported 1 job to a.csv" in on_terminal(project, "export", "-o", "a.csv").text


def test_a_key_tells_jobs_of_different_databases_apart(cli: Cli) -> None:
    job = cli.add()
    from dataclasses import replace

    other = replace(job, created_at=job.created_at + timedelta(milliseconds=1))
    assert key_of(job) != key_of(other)
    assert key_of(job) == key_of(cli.queue.get(job.id))
