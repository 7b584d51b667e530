import io
import json
import os
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jobq import Job, JobQueue, JobStatus
from jobq.clock import utcnow
from jobq.models import Condition, Parent
from jobq.queue import backend_of
from jobq.transfer.formats import Row, Table
from jobq.transfer.importer import Importer
from tests.support.cli_runner import HOSTILE, Cli, on_terminal

ECHO = {"argv": ["echo", "hi"]}


@pytest.fixture
def cli(
    queue: JobQueue,
    project: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Cli:
    monkeypatch.chdir(project)
    return Cli(queue, capsys)


@pytest.fixture
def piped(monkeypatch: pytest.MonkeyPatch) -> Callable[[bytes], None]:
    def pipe(data: bytes) -> None:
        source = io.BufferedReader(io.BytesIO(data))
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(source))

    return pipe


def write(name: str, *rows: Any) -> str:
    """A file of rows: objects as JSON Lines, or lines as they are."""
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    Path(name).write_text("\n".join(lines) + "\n", "utf-8")
    return name


def jobs(cli: Cli) -> list[Job]:
    return cli.queue.find()


def imported(cli: Cli, *rows: Any, name: str = "rows.jsonl") -> list[Job]:
    """What a file is made of, where it is good."""
    result = cli("import", write(name, *rows))
    assert (result.code, result.out, result.err) == (0, "", "")
    return jobs(cli)


def refused(cli: Cli, *rows: Any, name: str = "rows.jsonl") -> list[str]:
    """What is said of a file that is not good: nothing of it is added."""
    before = jobs(cli)
    result = cli("import", write(name, *rows))
    assert result.code == 2
    assert jobs(cli) == before
    *lines, last = result.err.splitlines()
    assert last.startswith(f"jobq: {name}: nothing was added")
    return lines


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
    (line,) = refused(cli, "type,args.text,args.sizes", "tile,a,oops", name="rows.csv")
    assert line.startswith("rows.csv:2: args: argument 'sizes': expected JSON")


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


# -- what is wrong with rows ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "line"),
    [
        ({"argv": "ls -l"}, "argv: expected a list of strings"),
        ({"argv": ["a\0"]}, "argv[0]: contains a NUL byte, which can't be passed to a program"),
        ({"argv": ["\udcff"]}, "argv[0]: not valid UTF-8: '\\udcff'"),
        ({}, "argv: is missing: a row of the type shell has argv or shell"),
        ({**ECHO, "shell": "true"}, "argv: is given with shell: a row has one of them"),
        ({"args": [1]}, "args: [1]: expected an object"),
        ({**ECHO, "args": {"argv": ["a"]}}, "argv: is given in args, too"),
        ({**ECHO, "args.argv": ["a"]}, "argv: is given in args, too"),
        ({**ECHO, "stdin": "-"}, "stdin: give the path of a file: there is one - for all rows"),
        ({**ECHO, "env": {"A=B": "c"}}, "env: 'A=B' is not the name of a variable"),
        ({**ECHO, "env": {"A": 1}}, "env.A: expected text, got int"),
        ({**ECHO, "type": 5}, "type: 5: expected text"),
        ({**ECHO, "type": ["x"]}, "type: ['x']: expected text"),
        ({**ECHO, "type": "nope"}, "type: unknown job type 'nope': known are"),
        ({**ECHO, "type": "cleanup"}, "argv: goes with shell jobs"),
        ({**ECHO, "queue": "nope"}, "queue: no queue 'nope'"),
        ({**ECHO, "priority": 10}, "priority: '10': give 0 to 9"),
        ({**ECHO, "priority": [1]}, "priority: '[1]': give 0 to 9"),
        ({**ECHO, "retries": -1}, "retries: -1: give a whole number of at least 0"),
        ({**ECHO, "retries": "x"}, "retries: 'x': give a whole number"),
        ({**ECHO, "timeout": "soon"}, "timeout: 'soon' is not a duration"),
        ({**ECHO, "retry_base": {}}, "retry_base: {} is not a duration"),
        ({**ECHO, "delay": -1}, "delay: -1 is not a duration"),
        ({**ECHO, "at": "noon"}, "at: 'noon' is not a time"),
        ({**ECHO, "at": 5}, "at: 5: give text"),
        ({**ECHO, "at": "now", "delay": 1}, "delay: a job has either a time (at) or a delay"),
        ({**ECHO, "tags": {"a b": "c"}}, "tags: tag 'a b': a key is made of letters"),
        ({**ECHO, "tags": ["a"]}, "tags: ['a']: expected an object"),
        ({**ECHO, "tags": {"a": 1}}, "tags: tag a 1: give text"),
        ({**ECHO, "name": 5}, "name: 5: give text"),
        ({**ECHO, "unique": "a\0"}, "unique: 'a\\x00': give text"),
        ({**ECHO, "key": 5}, "key: 5: give text"),
        ({**ECHO, "key": ""}, "key: is empty"),
        ({**ECHO, "as_is": "maybe"}, "as_is: 'maybe': give true or false"),
        ({**ECHO, "after": {"a": 1}}, "after: {'a': 1}: expected a list of ids and keys"),
        ({**ECHO, "after": [True]}, "after: True: give the id or the key of a job"),
        ({**ECHO, "after": [0]}, "after: id 0: give a whole number of at least 1"),
        ({**ECHO, "after": [41]}, "after: no job 41"),
        ({**ECHO, "after_any": [41]}, "after_any: no job 41"),
        ({**ECHO, "after": ["x"]}, "after: no row and no job has the key 'x'"),
        ({**ECHO, "after": "41"}, "after: no row and no job has the key '41'"),
        ({**ECHO, "after": [1], "after_any": [1]}, "after_any: 1 is named with two conditions"),
        ({**ECHO, "prio": 1}, "prio: no such column: known are key, type, args, argv"),
        ({**ECHO, "args.": 1}, "args.: no such column"),
        ({**ECHO, "name.x": 1}, "name.x: no such column"),
    ],
)
def test_a_bad_row_is_named_with_line_and_column(cli: Cli, row: Any, line: str) -> None:
    (found,) = refused(cli, ECHO, row, ECHO)
    assert found.startswith(f"rows.jsonl:2: {line}")


def test_everything_that_is_wrong_with_a_row_is_said(cli: Cli) -> None:
    found = refused(cli, {"argv": [], "priority": "x", "name": 1, "nope": 2})
    assert sorted(line.split(": ")[1] for line in found) == ["argv", "name", "nope", "priority"]


def test_twenty_problems_are_shown_in_the_order_of_lines_and_the_others_counted(cli: Cli) -> None:
    bad = [{**ECHO, "after": ["nobody"]} if n % 2 else {**ECHO, "name": 5} for n in range(50)]
    *lines, more = refused(cli, *bad)
    assert [int(line.split(":")[1]) for line in lines] == list(range(1, 21))
    assert more == "and 30 more"


@pytest.mark.parametrize(
    "wrong", [{"retries": True}, {"retries": 1.0}, {"timeout": True}, {"priority": True}]
)
def test_what_is_wrong_is_so_after_a_row_with_an_equal_value(
    cli: Cli, wrong: dict[str, Any]
) -> None:
    right = {**ECHO, "retries": 1, "timeout": 1, "priority": 1}
    (line,) = refused(cli, right, {**right, **wrong})
    assert line.startswith(f"rows.jsonl:2: {next(iter(wrong))}: ")


def test_the_column_is_the_one_that_names_the_parent(cli: Cli) -> None:
    rows = [
        {**ECHO, "after_any": ["nobody"]},
        {**ECHO, "key": "bad", "name": 5},
        {**ECHO, "after_fail": ["bad"]},
        {**ECHO, "key": "a", "after_any": ["b"]},
        {**ECHO, "key": "b", "after_fail": ["a"]},
    ]
    assert [line.split(": ")[:2] for line in refused(cli, *rows)] == [
        ["rows.jsonl:1", "after_any"],
        ["rows.jsonl:2", "name"],
        ["rows.jsonl:3", "after_fail"],
        ["rows.jsonl:4", "after_any"],
        ["rows.jsonl:5", "after_fail"],
    ]


def test_columns_that_are_wrong_are_said_once(cli: Cli) -> None:
    rows = ["shell,prio,shell"] + ["true,1,x"] * 100
    assert [line.split(": ")[:2] for line in refused(cli, *rows, name="rows.csv")] == [
        ["rows.csv:1", "shell"],
        ["rows.csv:1", "prio"],
    ]


def test_rows_of_a_table_whose_header_is_wrong_are_not_added(cli: Cli) -> None:
    result = cli("import", write("rows.csv", "shell,prio", "true,1"), "--skip-invalid")
    assert (result.code, jobs(cli)) == (2, [])


def test_argv_in_a_table_is_json(cli: Cli) -> None:
    (line,) = refused(cli, "argv", "echo hi", name="rows.csv")
    assert line == (
        "rows.csv:2: argv: 'echo hi': expected JSON such as "
        '["ffmpeg", "-i", "a b.mkv"]; a line for sh goes into the column shell'
    )


def test_a_header_that_can_not_be_read_is_named(cli: Cli) -> None:
    (line,) = refused(cli, 'a,"b"c', "1,2", name="rows.csv")
    assert line.startswith("rows.csv:1: the header can't be read: ")


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.json", "rows.csv", "-"])
def test_utf_16_is_called_by_its_name(cli: Cli, piped: Callable[[bytes], None], name: str) -> None:
    data = '{"shell": "a"}\n'.encode("utf-16")
    Path("rows.jsonl" if name == "-" else name).write_bytes(data)
    piped(data)
    result = cli("import", name)
    assert result.code == 2
    assert result.err.startswith(f"jobq: {'stdin' if name == '-' else name}: UTF-16, and not UTF-8")


def test_bytes_that_are_no_text_are_named(cli: Cli) -> None:
    Path("rows.csv").write_bytes(b"shell,name\ntrue,\xff\n")
    result = cli("import", "rows.csv")
    assert result.code == 2
    assert "rows.csv:2: name: " in result.err
    assert "not valid UTF-8" in result.err


def test_messages_can_do_nothing_to_a_terminal(cli: Cli) -> None:
    result = cli("import", write("rows.jsonl", {**ECHO, HOSTILE: 1, "priority": HOSTILE}))
    assert result.code == 2
    assert "\x1b" not in result.err
    assert "\x9b" not in result.err


def test_a_file_that_can_not_be_read_is_one_line(cli: Cli) -> None:
    for name, why in (("missing.csv", "No such file"), (".", "Is a directory")):
        result = cli("import", name)
        assert result.code == 2
        assert result.err.startswith(f"jobq: {name}: {why}")
    assert cli("import", write("a.jsonl", ECHO), "--format", "xml").code == 2


def test_what_this_shell_adds_must_be_fit_too(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "x" * 200_000)
    result = cli("import", write("rows.jsonl", ECHO))
    assert result.code == 2
    assert "env.TZ: 200,003 bytes" in result.err


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
    assert result.out == "Would add 2 jobs, 1 was there already\n"
    document = cli("import", file, "--dry-run", "--json").json
    assert (document["added"], document["existing"], document["dry_run"]) == (2, 1, True)
    assert len(jobs(cli)) == 1
    assert cli("import", write("bad.jsonl", {}), "--dry-run").code == 2


# -- keys ----------------------------------------------------------------------------------------


def parents(job: Job) -> list[int]:
    return [parent.id for parent in job.parents]


def test_rows_wait_for_rows_further_up_and_further_down(cli: Cli) -> None:
    found = imported(
        cli,
        {**ECHO, "name": "last", "after": ["middle"], "after_any": ["first"]},
        {**ECHO, "name": "middle", "key": "middle", "after": ["first"]},
        {**ECHO, "name": "first", "key": "first"},
        {**ECHO, "name": "rescue", "after_fail": ["middle"]},
    )
    ids = {job.name: job.id for job in found}
    by_name = {job.name: job for job in found}
    assert set(by_name["last"].parents) == {
        Parent(ids["middle"], Condition.SUCCEEDED),
        Parent(ids["first"], Condition.ENDED),
    }
    assert parents(by_name["middle"]) == [ids["first"]]
    assert by_name["rescue"].parents == (Parent(ids["middle"], Condition.FAILED),)
    assert [by_name[n].status for n in ("first", "middle")] == ["pending", "blocked"]


def test_rows_stay_in_order_where_they_can(cli: Cli) -> None:
    rows = [
        {**ECHO, "name": str(n), "key": str(n), "after": [str(n - 1)] * (n > 0)} for n in range(9)
    ]
    assert [job.name for job in imported(cli, *rows)] == [str(n) for n in range(9)]


def test_rows_wait_for_jobs_by_id_and_by_an_earlier_key(cli: Cli) -> None:
    first, second = cli.add(), cli.add()
    imported(cli, {**ECHO, "key": "third"})
    rows = [
        {**ECHO, "after": [first.id, "third"]}, {**ECHO, "after": second.id},
        {**ECHO, "after": f"{first.id}, {second.id}"}, {**ECHO, "after": [str(first.id)]},
    ]  # fmt: skip
    found = imported(cli, *rows)[3:]
    assert [parents(job) for job in found] == [[1, 3], [2], [1, 2], [1]]


def test_a_number_is_a_key_where_a_row_has_it(cli: Cli) -> None:
    cli.add()
    found = imported(cli, "key,shell,after", "1,true,", "2,true,1", name="rows.csv")
    assert parents(found[2]) == [2]


def test_parents_in_a_table_stand_between_commas_or_spaces_or_in_json(cli: Cli) -> None:
    found = imported(
        cli,
        "key,shell,after",
        "a,true,", "b,true,", "c d,true,", 'e,true,"a,b"', "f,true,a b", 'g,true,"[""c d""]"',
        name="rows.csv",
    )  # fmt: skip
    assert [parents(job) for job in found[3:]] == [[1, 2], [1, 2], [3]]


@pytest.mark.parametrize("size", [1, 2, 12])
def test_rows_that_wait_in_a_circle_are_named(cli: Cli, size: int) -> None:
    rows = [{**ECHO, "key": f"k{n}", "after": [f"k{(n + 1) % size}"]} for n in range(size)]
    found = refused(cli, ECHO, *rows, {**ECHO, "after": ["k0"]})
    assert len(found) == size + 1
    shown = " → ".join(
        [*[f"k{n}" for n in range(min(size, 8))], *(["…"] if size > 8 else []), "k0"]
    )
    assert found[0] == (f"rows.jsonl:2: after: these rows wait for each other in a circle: {shown}")
    assert "waits for rows that wait for each other in a circle: k0" in found[-1]


def test_a_key_is_that_of_one_row(cli: Cli) -> None:
    assert refused(cli, {**ECHO, "key": "a"}, ECHO, {**ECHO, "key": "a"}) == [
        "rows.jsonl:3: key: 'a' is that of line 1, too"
    ]


def test_the_same_file_twice_adds_nothing_twice(cli: Cli) -> None:
    file = write(
        "rows.jsonl",
        {**ECHO, "key": "a", "at": "2099-01-01 00:00Z", "priority": "high", "delay": None},
        {**ECHO, "key": "b", "after": ["a"], "tags": {"x": "y"}},
        {"type": "metadata_extraction", "args": {"path": "/x"}, "key": "c", "delay": "5m"},
    )
    first = cli("import", file, "--json").json
    assert (first["added"], first["existing"]) == (3, 0)
    assert (first["first_id"], first["last_id"]) == (1, 3)
    second = cli("import", file, "--json").json
    assert (second["added"], second["existing"]) == (0, 3)
    assert second["first_id"] is None
    assert len(jobs(cli)) == 3


def test_a_key_is_that_of_the_first_row_whether_others_are_good_or_not(cli: Cli) -> None:
    good, bad = {**ECHO, "key": "a"}, {**ECHO, "key": "a", "name": 5}
    result = cli("import", write("rows.jsonl", good, bad), "--skip-invalid")
    assert [line.split(": ")[:2] for line in result.err.splitlines()] == [["rows.jsonl:2", "name"]]
    assert len(jobs(cli)) == 1


@pytest.mark.parametrize("at", ["now", "tomorrow 7:00", "18:00"])
def test_a_row_with_a_time_in_words_is_the_same_on_another_day(
    cli: Cli, at: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = {**ECHO, "key": "a", "at": at}
    (job,) = imported(cli, row)
    later = utcnow() + timedelta(days=2)
    monkeypatch.setattr("jobq.backends.base.utcnow", lambda: later)
    assert [found.run_at for found in imported(cli, row)] == [job.run_at]
    assert "said something else" in refused(cli, {**row, "at": "2099-01-01 00:00"})[0]


def test_rows_that_were_added_to_a_file_are_added(cli: Cli) -> None:
    imported(cli, {**ECHO, "key": "a"})
    found = imported(cli, {**ECHO, "key": "a"}, {**ECHO, "key": "b", "after": ["a"]})
    assert parents(found[1]) == [1]


def test_a_row_is_the_same_in_every_format_and_directory(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    imported(
        cli, {**ECHO, "key": "a", "priority": 7, "retries": 2, "timeout": 60, "tags": {"t": "1"}}
    )
    Path("below").mkdir()
    monkeypatch.chdir("below")
    monkeypatch.setenv("TZ", "UTC")
    found = imported(
        cli,
        "key,argv,priority,retries,timeout,tag.t",
        'a,"[""echo"", ""hi""]",high,2,1m,1',
        name="rows.csv",
    )
    assert len(found) == 1


def test_a_key_whose_row_says_something_else_is_refused(cli: Cli) -> None:
    imported(cli, {**ECHO, "key": "a"})
    for other in ({"priority": 7}, {"argv": ["echo", "ho"]}, {"delay": 5}, {"after": [1]}):
        (line,) = refused(cli, {**ECHO, "key": "a", **other})
        assert line == (
            "rows.jsonl:1: key: 'a' is that of job 1, which was added from a row that said "
            "something else: give the row another key"
        )


def test_keys_can_be_given_a_prefix(cli: Cli) -> None:
    file = write("rows.jsonl", {**ECHO, "key": "a"}, {**ECHO, "after": ["a"], "key": "b"})
    for prefix in ("x/", "y/", "x/"):
        assert cli("import", file, "--key-prefix", prefix).code == 0
    assert [parents(job) for job in jobs(cli)] == [[], [1], [], [3]]
    by_id = write("more.jsonl", {**ECHO, "after": "1"}, {**ECHO, "after": "a"})
    assert cli("import", by_id, "--key-prefix", "y/").code == 0
    assert [parents(job) for job in jobs(cli)[4:]] == [[1], [3]]


def test_a_key_is_forgotten_when_its_job_is_pruned(cli: Cli) -> None:
    imported(cli, {**ECHO, "key": "a"})
    cli.queue.cancel(1)
    assert len(imported(cli, {**ECHO, "key": "a"})) == 1
    cli.queue.delete([1])
    assert [job.id for job in imported(cli, {**ECHO, "key": "a"})] == [2]


def test_rows_with_the_same_unique_key_are_one_job(cli: Cli) -> None:
    holder = cli.add(unique="u")
    file = write(
        "rows.jsonl",
        {**ECHO, "unique": "u", "key": "a"}, {**ECHO, "unique": "v", "key": "b"},
        {**ECHO, "unique": "v"}, {**ECHO, "after": ["a", "b"]},
    )  # fmt: skip
    result = cli("import", file, "--ids")
    assert result.lines == ["1", "2", "2", "3"]
    assert parents(jobs(cli)[2]) == [holder.id, 2]


def test_what_changes_while_rows_are_added_is_one_line(cli: Cli) -> None:
    rows = [{**ECHO, "unique": "u", "key": "a"}, {**ECHO, "unique": "u", "key": "b"}]
    both = {**ECHO, "after": ["a"], "after_fail": ["b"]}
    result = cli("import", write("rows.jsonl", *rows, both))
    assert result.code == 2
    assert result.err == (
        "jobq: lines 1 to 3: parent 1 is named with two conditions: choose one; "
        "0 jobs were added before\n"
    )


class Planner:
    """A model of a batch: which rows are good, by hand."""

    @staticmethod
    def good(rows: list[tuple[bool, list[int]]]) -> set[int]:
        left = {n for n, (fine, _) in enumerate(rows) if fine}
        placed: set[int] = set()
        while ready := {n for n in left - placed if set(rows[n][1]) <= placed}:
            placed |= ready
        return placed


@given(
    st.lists(
        st.tuples(st.booleans(), st.lists(st.integers(0, 9), max_size=3)), min_size=10, max_size=10
    )
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
def test_whatever_rows_wait_for_the_good_ones_are_added_after_their_parents(
    queue: JobQueue, tmp_path: Path, made: list[tuple[bool, list[int]]]
) -> None:
    def table() -> Iterator[Row]:
        for number, (fine, after) in enumerate(made):
            values = {**ECHO, "key": str(number), "after": [str(n) for n in after]}
            yield Row(number + 1, values if fine else {**values, "name": 5})

    prefix = f"{os.urandom(4).hex()}-"
    with Importer(queue, tmp_path, prefix=prefix) as batch:
        batch.check(Table(table()))
        ids = [item.id for inserted in batch.add() for item in inserted]
    good = Planner.good(made)
    known = backend_of(queue).transfer.known_keys([f"{prefix}{n}" for n in range(10)])
    assert {int(key.removeprefix(prefix)) for key in known} == good
    assert len(ids) == len(good)
    assert len({problem.line for problem in batch.problems} & {n + 1 for n in good}) == 0
    assert {problem.line for problem in batch.problems} == set(range(1, 11)) - {n + 1 for n in good}
    for number in good:
        job = queue.get(known[f"{prefix}{number}"].job_id)
        assert set(parents(job)) == {known[f"{prefix}{n}"].job_id for n in made[number][1]}


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
    assert "Added 0 jobs, 2,500 were there already" in again.lines[-1]
    plain = on_terminal(project, "import", file, stderr=False)
    assert plain.raw == "Added 0 jobs, 2,500 were there already\r\n"


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
    assert peak(15_000, "many-") < 1.3 * peak(6000, "few-")


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
