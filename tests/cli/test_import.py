import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from jobq import JobQueue, JobStatus
from jobq.clock import utcnow
from jobq.transfer.formats import Row, Table
from jobq.transfer.importer import Importer
from tests.support.cli_runner import Cli, on_terminal
from tests.support.import_rows import ECHO, imported, jobs, parents, refused, write

# -- what a row may say --------------------------------------------------------------------------


def test_a_row_has_what_add_takes(cli: Cli) -> None:
    cli.queue.create_queue("ffmpeg")
    (job,) = imported(
        cli,
        {
            **ECHO, "queue": "ffmpeg", "priority": "high", "name": "n", "tags": {"a": "b"},
            "unique": "u", "at": "2099-01-02 03:04Z", "timeout": "5m", "retries": 7,
            "retry_base": "2s", "env": {"X": "y"}, "stdin": "in.txt",
        },
    )  # fmt: skip
    assert (job.queue, job.priority, job.name) == ("ffmpeg", 7, "n")
    assert (job.tags, job.unique_key, job.status) == ({"a": "b"}, "u", JobStatus.SCHEDULED)
    assert job.run_at
    assert job.run_at.isoformat() == "2099-01-02T03:04:00+00:00"
    assert (job.timeout, job.max_retries, job.retry_base) == (300.0, 7, 2.0)
    assert job.args["env"]["X"] == "y"
    assert job.args["stdin"] == str(Path.cwd() / "in.txt")


def test_a_row_is_the_job_that_add_makes_of_the_same(cli: Cli) -> None:
    cli("add", "--", "echo", "hi")
    cli("add", "--shell", "a | b", "--cwd", "sub", "--env", "X=1", "-p", "low", "--timeout", "none")
    cli("add", "metadata_extraction", "path=/a.mkv")
    rows: list[Any] = [
        ECHO,
        {"shell": "a | b", "cwd": "sub", "env": {"X": "1"}, "priority": "low", "timeout": "none"},
        {"type": "metadata_extraction", "args": {"path": "/a.mkv"}},
    ]
    found = imported(cli, *rows)
    for added, row in zip(found[:3], found[3:], strict=True):
        for field in ("type", "args", "priority", "timeout", "max_retries", "retry_base"):
            assert getattr(row, field) == getattr(added, field), field


def test_a_command_keeps_the_directory_and_the_variables_of_this_shell(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    monkeypatch.setenv("SECRET", "no")
    for job in imported(cli, ECHO, {"type": "shell", "args": ECHO}, {**ECHO, "cwd": None}):
        assert job.args["cwd"] == str(Path.cwd())
        assert job.args["env"]["TZ"] == "Europe/Berlin"
        assert "SECRET" not in job.args["env"]


def test_a_command_as_it_is_keeps_nothing_of_this_shell(cli: Cli) -> None:
    (job,) = imported(cli, {**ECHO, "as_is": True})
    assert job.args == ECHO


def test_a_delay_counts_from_now(cli: Cli) -> None:
    before = utcnow()
    (job,) = imported(cli, {**ECHO, "delay": "90m"})
    assert job.run_at
    assert 5400 <= (job.run_at - before).total_seconds() < 5430


def test_what_is_null_is_not_said(cli: Cli) -> None:
    (job,) = imported(cli, {**ECHO, "name": None, "tags": None, "after": None, "timeout": None})
    assert (job.name, job.tags, job.parents, job.timeout) == (None, {}, (), None)


def test_max_retries_is_another_name_of_retries(cli: Cli) -> None:
    assert imported(cli, {**ECHO, "max_retries": 0})[0].max_retries == 0
    assert refused(cli, {**ECHO, "max_retries": 0, "retries": 1}) == [
        "rows.jsonl:1: max_retries: is another name of retries, which is given, too"
    ]


def test_a_table_has_columns_for_arguments_tags_and_variables(cli: Cli) -> None:
    found = imported(
        cli,
        "type,args.path,argv,tag.a,env.X,priority,retries,name",
        'metadata_extraction,/a.mkv,,1,,high,2,"first, and best"',
        'shell,,"[""echo"", ""a b""]",,y,,,',
        name="rows.csv",
    )
    assert (found[0].type, found[0].args) == ("metadata_extraction", {"path": "/a.mkv"})
    assert (found[0].tags, found[0].priority, found[0].max_retries) == ({"a": "1"}, 7, 2)
    assert found[0].name == "first, and best"
    assert found[1].args["argv"] == ["echo", "a b"]
    assert (found[1].args["env"]["X"], found[1].tags, found[1].priority) == ("y", {}, 5)


def test_arguments_in_a_table_are_text_unless_the_type_takes_none(cli: Cli) -> None:
    Path("workers").mkdir()
    Path("workers/tile.py").write_text(
        "from jobq import JobWorker\n"
        "from pydantic import BaseModel\n"
        "class Tile(JobWorker):\n"
        "    '''Tile.'''\n"
        "    job_type = 'tile'\n"
        "    class Args(BaseModel):\n"
        "        text: str\n"
        "        width: int\n"
        "        sizes: list[int] = []\n"
        "    def run(self, args, job):\n"
        "        return {}\n"
    )
    (job,) = imported(
        cli,
        "type\targs.text\targs.width\targs.sizes",
        "tile\t007\t12\t[1, 2]",
        name="rows.tsv",
    )
    assert job.args == {"text": "007", "width": 12, "sizes": [1, 2]}
    assert refused(cli, {"type": "tile", "args": {"text": "a", "width": "wide", "hight": 2}}) == [
        "rows.jsonl:1: args: no argument 'hight': it takes text, width, sizes"
    ]
    header = "type,args.text,args.width,args.sizes"
    (line,) = refused(cli, header, "tile,a,1,oops", name="rows.csv")
    assert line.startswith("rows.csv:2: args: argument 'sizes.0': ")
    assert line.endswith("unable to parse string as an integer, got 'oops'")
    assert imported(cli, header, 'tile,a,1,"1,2"', name="rows.csv")[0].args["sizes"] == [1, 2]


def test_a_document_is_an_array(cli: Cli) -> None:
    assert len(imported(cli, json.dumps([ECHO, ECHO], indent=2), name="rows.json")) == 2


def test_rows_are_read_from_stdin_in_the_format_that_they_begin_in(
    cli: Cli, piped: Callable[[bytes], None]
) -> None:
    for data in (
        b'{"argv": ["true"]}\n', b'[{"argv": ["true"]}]', b"name,shell\na,true\n",
        b"name\tshell\na\ttrue\n",
    ):  # fmt: skip
        piped(data)
        assert cli("import", "-").code == 0
    assert len(jobs(cli)) == 4
    piped(b"shell\ntrue\n")
    assert cli("import", "-", "--format", "jsonl").code == 2
    piped(b"shell\ntrue\n")
    assert cli("import", "-", "--format", "csv").code == 0


def test_an_empty_file_adds_nothing(cli: Cli) -> None:
    for name in ("a.jsonl", "a.json", "a.csv"):
        Path(name).write_text("")
        assert cli("import", name, "--json").json["rows"] == 0


# -- skipping, trying ----------------------------------------------------------------------------


def test_bad_rows_can_be_skipped(cli: Cli) -> None:
    rows = [
        {**ECHO, "key": "a", "priority": "x"}, {**ECHO, "name": "good"},
        {**ECHO, "key": "b", "after": ["a"]}, {**ECHO, "after": ["b"]}, "oops",
        {**ECHO, "name": "fine", "key": "c"}, {**ECHO, "after": ["c"], "name": "child"},
    ]  # fmt: skip
    result = cli("import", write("rows.jsonl", *rows), "--skip-invalid")
    assert result.code == 0
    assert [job.name for job in jobs(cli)] == ["good", "fine", "child"]
    assert [line.split(": ", 1)[0] for line in result.err.splitlines()] == [
        "rows.jsonl:1", "rows.jsonl:3", "rows.jsonl:4", "rows.jsonl:5",
    ]  # fmt: skip
    assert "waits for 'a' (line 1), which can't be added" in result.err
    assert "waits for 'b' (line 3), which can't be added" in result.err


def test_a_row_with_a_parent_that_nobody_knows_takes_its_children_with_it(cli: Cli) -> None:
    rows = [{**ECHO, "key": "a", "after": ["x"]}, {**ECHO, "after": ["a"]}, {**ECHO, "name": "g"}]
    result = cli("import", write("rows.jsonl", *rows), "--skip-invalid")
    assert [job.name for job in jobs(cli)] == ["g"]
    assert len(result.err.splitlines()) == 2


def test_a_dry_run_adds_nothing(cli: Cli) -> None:
    imported(cli, {**ECHO, "key": "a"})
    file = write("rows.jsonl", {**ECHO, "key": "a"}, {**ECHO, "key": "b"}, ECHO)
    result = cli("import", file, "--dry-run")
    assert result.out == "Would add 2 jobs, 1 already existed\n"
    document = cli("import", file, "--dry-run", "--json").json
    assert (document["added"], document["existing"], document["dry_run"]) == (2, 1, True)
    assert len(jobs(cli)) == 1
    assert cli("import", write("bad.jsonl", {}), "--dry-run").code == 2


# -- what is said --------------------------------------------------------------------------------


def test_in_a_pipe_nothing_is_said_or_ids(cli: Cli) -> None:
    file = write("rows.jsonl", ECHO, {**ECHO, "key": "a"}, ECHO)
    assert cli("import", file).out == ""
    result = cli("import", file, "--ids")
    assert (result.lines, result.err) == (["4", "2", "5"], "")
    assert cli("import", file, "--ids", "--json").code == 2


def test_a_document_says_what_came_of_it(cli: Cli) -> None:
    result = cli("import", write("rows.jsonl", ECHO, {**ECHO, "name": 5}), "--json")
    assert result.code == 2
    assert result.json == {
        "rows": 2,
        "added": 0,
        "existing": 0,
        "first_id": None,
        "last_id": None,
        "problems": [
            {
                "file": "rows.jsonl",
                "line": 2,
                "column": "name",
                "message": "5: give text of up to 1,000 characters without NUL",
            }
        ],
        "problem_count": 1,
        "dry_run": False,
    }


def test_people_are_told_in_a_sentence(cli: Cli, project: Path) -> None:
    file = write("rows.jsonl", *({**ECHO, "key": str(n)} for n in range(2500)))
    screen = on_terminal(project, "import", file)
    assert screen.code == 0
    assert "Added 2,500 jobs (1-2500)" in screen.lines[-1]
    assert "checking" in screen.text
    again = on_terminal(project, "import", file)
    assert "Added 0 jobs, 2,500 already existed" in again.lines[-1]
    plain = on_terminal(project, "import", file, stderr=False)
    assert plain.raw == "Added 0 jobs, 2,500 already existed\r\n"


def test_ids_in_a_file_of_several_portions_are_those_of_the_rows(cli: Cli) -> None:
    rows = [{**ECHO, "name": str(n), "key": f"k{n}", "after": [f"k{n + 1}"]} for n in range(2500)]
    last = {**ECHO, "name": "2500", "key": "k2500"}
    found = imported(cli, *rows, last)
    assert [job.name for job in found] == [str(n) for n in range(2500, -1, -1)]
    assert all(parents(job) == [job.id - 1] for job in found[1:])


# -- how it goes in ------------------------------------------------------------------------------


def many(number: int) -> Table:
    """Rows with keys, every second of which waits for one further down."""

    def rows() -> Iterator[Row]:
        for n in range(number):
            after = {"after": [f"key-{n + 1}"]} if n % 2 and n + 1 < number else {}
            yield Row(n + 1, {"argv": ["echo", str(n)], "key": f"key-{n}", **after})

    return Table(rows())


def test_memory_does_not_grow_with_the_batch(queue: JobQueue, tmp_path: Path) -> None:
    import tracemalloc

    def peak(number: int, prefix: str) -> int:
        tracemalloc.start()
        try:
            with Importer(queue, tmp_path, prefix=prefix) as batch:
                batch.check(many(number))
                for _ in batch.add():
                    pass
                assert batch.added == number
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(2000, "warm-")
    # Beyond a few portions: less than one has not yet reached what several take.
    assert peak(9000, "many-") < 1.3 * peak(4500, "few-")


def test_a_transaction_has_about_a_megabyte_at_most(queue: JobQueue, tmp_path: Path) -> None:
    rows = (Row(n, {"argv": ["echo", "x" * 100_000]}) for n in range(50))
    with Importer(queue, tmp_path) as batch:
        batch.check(Table(rows))
        assert max(len(inserted) for inserted in batch.add()) <= 11


def test_other_writers_take_their_turn_between_portions(queue: JobQueue, tmp_path: Path) -> None:
    with Importer(queue, tmp_path) as batch:
        batch.check(many(2500))
        ids = []
        for inserted in batch.add():
            ids += [item.id for item in inserted]
            with JobQueue.open(tmp_path / "project" / "jobq.toml") as other:
                ids.append(other.add("shell", {"argv": ["true"]}).id)
    assert ids == list(range(1, 2504))


def test_rows_for_a_paused_queue_are_told(cli: Cli, project: Path) -> None:
    cli.queue.create_queue("slow")
    cli.queue.pause("slow")
    rows = [
        {"argv": ["true"], "queue": name, "key": f"{n}"}
        for n, name in enumerate(["slow", "default", "slow"])
    ]
    (project / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    result = cli("import", str(project / "rows.jsonl"))
    assert result.code == 0
    assert "2 jobs wait, and queue slow is paused: jobq queue resume slow" in result.err
    assert "paused" not in cli("import", str(project / "rows.jsonl")).err
