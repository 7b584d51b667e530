import bz2
import gzip
import json
import lzma
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.support.cli_runner import HOSTILE, Cli
from tests.support.import_rows import ECHO, jobs, refused, write


@pytest.mark.parametrize(
    ("row", "line"),
    [
        ({"argv": "ls -l"}, "argv: expected a list of strings"),
        ({"argv": ["a\0"]}, "argv[0]: contains a NUL byte, which can't be passed to a program"),
        ({"argv": ["\udcff"]}, "argv[0]: not valid UTF-8: '\\udcff'"),
        ({}, "argv: is missing: a row of the type shell has argv or shell"),
        ({**ECHO, "shell": "true"}, "argv: is given with shell: a row has one of them"),
        ({"args": [1]}, "args: expected an object, got [1]"),
        ({**ECHO, "args": {"argv": ["a"]}}, "argv: is given in args, too"),
        ({**ECHO, "args.argv": ["a"]}, "argv: is given in args, too"),
        ({**ECHO, "stdin": "-"}, "stdin: give the path of a file: there is one - for all rows"),
        ({**ECHO, "env": {"A=B": "c"}}, "env: 'A=B' is not the name of a variable"),
        ({**ECHO, "env": {"A": 1}}, "env.A: expected text, got int"),
        ({**ECHO, "type": 5}, "type: expected text, got 5"),
        ({**ECHO, "type": ["x"]}, "type: expected text, got ['x']"),
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
        ({**ECHO, "at": "soon"}, "at: 'soon' is not a time"),
        ({**ECHO, "at": 5}, "at: 5: give text"),
        ({**ECHO, "at": "now", "delay": 1}, "delay: a job has either a time (at) or a delay"),
        ({**ECHO, "tags": {"a b": "c"}}, "tags: tag 'a b': a key is made of letters"),
        ({**ECHO, "tags": ["a"]}, "tags: expected an object of texts, got ['a']"),
        ({**ECHO, "tags": {"a": 1}}, "tags: tag a 1: give text"),
        ({**ECHO, "name": 5}, "name: 5: give text"),
        ({**ECHO, "unique": "a\0"}, "unique: 'a\\x00': give text"),
        ({**ECHO, "key": 5}, "key: 5: give text"),
        ({**ECHO, "key": ""}, "key: is empty"),
        ({**ECHO, "as_is": "maybe"}, "as_is: 'maybe': give true or false"),
        ({**ECHO, "after": {"a": 1}}, "after: expected a list of ids and keys, got {'a': 1}"),
        ({**ECHO, "after": [True]}, "after: True: give the id or the key of a job"),
        ({**ECHO, "after": [0]}, "after: id 0: give a whole number of at least 1"),
        ({**ECHO, "after": [41]}, "after: no job 41"),
        ({**ECHO, "after_any": [41]}, "after_any: no job 41"),
        ({**ECHO, "after": ["x"]}, "after: no row and no job has the key 'x'"),
        ({**ECHO, "after": "41"}, "after: no row and no job has the key '41'"),
        ({**ECHO, "after": [1], "after_any": [1]}, "after_any: 1 is named with two conditions"),
        (
            {**ECHO, "prio": 1},
            "prio: no such column: did you mean priority? Known are key, type, args, argv",
        ),
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


def test_rows_behind_a_stray_quote_are_added_with_skip_invalid(cli: Cli) -> None:
    rows = [f"{key},echo {n},x" for n, key in enumerate("abcdef", 1)]
    rows[1] = 'b,echo 2,"Rock and Roll'
    rows[4] = 'e,"echo 5","x"'
    result = cli("import", write("rows.csv", "key,shell,name", *rows), "--skip-invalid")
    assert (result.code, [job.args["shell"] for job in jobs(cli)]) == (
        0,
        [f"echo {n}" for n in (1, 3, 4, 5, 6)],
    )
    assert result.err.startswith("rows.csv:3: not valid CSV: ")
    assert len(result.err.splitlines()) == 1


def test_a_header_that_can_not_be_read_refuses_the_file_even_with_skip_invalid(cli: Cli) -> None:
    for header in ('shell,"name', 'shell,"b"c'):
        result = cli("import", write("rows.csv", header, "true,1"), "--skip-invalid")
        assert (result.code, jobs(cli)) == (2, [])


def test_a_column_without_a_name_is_counted(cli: Cli) -> None:
    lines = refused(cli, ",shell,,name,", "0,true,1,a,", name="rows.csv")
    assert lines == [f"rows.csv:1: the {n} column has no name" for n in ("1st", "3rd", "5th")]
    (line,) = refused(cli, {**ECHO, "": 1})
    assert line == "rows.jsonl:1: a column has no name"


@pytest.mark.parametrize("row", [{"shell": ""}, {"shell": " \n"}, {"args": {"shell": ""}}])
def test_an_empty_command_line_is_refused(cli: Cli, row: Any) -> None:
    assert refused(cli, row) == ["rows.jsonl:1: shell: is empty"]


def test_forty_thousand_columns_are_no_long_work(cli: Cli) -> None:
    names = [f"env.V{n}" for n in range(40_000)]
    started = time.process_time()
    header = write("rows.csv", ",".join(["x"] * 40_000), "1")
    assert cli("import", header).code == 2
    assert cli("import", write("named.csv", ",".join(names), ",".join(names))).code == 2
    assert cli("import", write("rows.jsonl", dict.fromkeys(names, "1"))).code == 2
    assert time.process_time() - started < 10


def test_twenty_thousand_parents_that_do_not_exist_are_no_long_work(cli: Cli) -> None:
    unknown = [f"k{n}" for n in range(20_000)]
    numbers = [f"{n}" for n in range(100, 20_100)]
    rows = [{**ECHO, "after": unknown}, {**ECHO, "after": numbers}]
    rows += [{**ECHO, "after": [key]} for key in unknown[:5_000]]
    started = time.process_time()
    assert len(refused(cli, *rows)) == 21
    assert time.process_time() - started < 8


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.json", "rows.csv", "-"])
def test_utf_16_is_called_by_its_name(cli: Cli, piped: Callable[[bytes], None], name: str) -> None:
    data = '{"shell": "a"}\n'.encode("utf-16")
    Path("rows.jsonl" if name == "-" else name).write_bytes(data)
    piped(data)
    result = cli("import", name)
    assert result.code == 2
    assert result.err.startswith(f"jobq: {'stdin' if name == '-' else name}: UTF-16, not UTF-8")


TEXT = b"shell,name\ntrue,x\n"


@pytest.mark.parametrize(
    ("name", "data", "what"),
    [
        (
            "a b.csv.gz",
            gzip.compress(TEXT, mtime=0),
            "compressed with gzip: unpack it with `gzip -dc 'a ",
        ),
        ("rows.csv", bz2.compress(TEXT), "`bzip2 -dc rows.csv | jobq import - --format csv`"),
        ("rows.jsonl.xz", lzma.compress(TEXT), "| jobq import - --format jsonl`"),
        ("rows.xlsx", b"PK\x03\x04\x14\0", "a spreadsheet, not text: save it as CSV"),
        ("rows.xls", b"\xd0\xcf\x11\xe0\xa1", "a spreadsheet, not text: save it as CSV"),
        ("rows.csv", TEXT.decode().encode("utf-16-le"), "UTF-16LE, not UTF-8: convert it with"),
        ("rows.csv", TEXT.decode().encode("utf-16-be"), "UTF-16BE, not UTF-8: convert it with"),
        ("rows.csv", TEXT.decode().encode("utf-32"), "UTF-32, not UTF-8: convert it with"),
        ("rows.csv", b"\x7fELF\x02\x01\x01\0\0", "a binary file, not text"),
        ("rows.csv", TEXT.replace(b"\n", b"\r"), "`tr '\\r' '\\n' < rows.csv | jobq import - "),
        ("rows.jsonl", b'{"shell": "a"}\r{"shell": "b"}\r', "--format jsonl`"),
        ("-", gzip.compress(TEXT, mtime=0), "`gzip -dc FILE | jobq import - --format csv`"),
    ],
)
def test_a_file_that_is_no_text_in_lines_is_called_by_its_name(
    cli: Cli, piped: Callable[[bytes], None], name: str, data: bytes, what: str
) -> None:
    piped(data)
    if name != "-":
        Path(name).write_bytes(data)
    result = cli("import", name)
    assert (result.code, jobs(cli)) == (2, [])
    assert what in result.err
    assert len(result.err.splitlines()) == 1
    assert len(result.err) < 300


@pytest.mark.parametrize("begin", [b"", b"[", b"she"])
def test_a_pipe_that_delivers_the_first_line_in_pieces_is_read_as_in_one(
    cli: Cli, begin: bytes
) -> None:
    rows = b'{"shell": "a"}]' if begin == b"[" else b"shell\tname\na\tx\n".removeprefix(begin)
    os.mkfifo("rows")

    def deliver() -> None:
        with open("rows", "wb", buffering=0) as pipe:
            for piece in (begin, rows[:3], rows[3:]):
                pipe.write(piece)
                time.sleep(0.05)

    with ThreadPoolExecutor(1) as pool:
        pool.submit(deliver)
        result = cli("import", "rows")
    assert (result.code, result.err) == (0, "")
    assert [job.args["shell"] for job in jobs(cli)] == ["a"]


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


SECRET = "S3CRET-Zq9"


@pytest.mark.parametrize(
    "row",
    [
        {**ECHO, "tags": {"token": [SECRET]}},
        {**ECHO, "tags": {"token": SECRET * 200}},
        {**ECHO, "tags": f"token={SECRET}"},
        {**ECHO, "tags": [f"token={SECRET}"]},
        {**ECHO, "name": f"fetch --token {SECRET} " + "x" * 1000},
        {**ECHO, "name": SECRET * 200},
        {**ECHO, "unique": f"token={SECRET}" * 100},
        {**ECHO, "key": f"token={SECRET}" * 100},
        {**ECHO, "env": {"API_TOKEN": [SECRET]}},
        {**ECHO, "cwd": [f"https://me:{SECRET}@h"]},
        {**ECHO, "timeout": f"--token {SECRET}"},
        {"argv": ["x", "--token", SECRET], "timeout": SECRET},
        {"argv": f"x --token {SECRET}"},
        ["--token", SECRET],
    ],
)
def test_errors_show_no_secrets(cli: Cli, project: Path, row: object) -> None:
    (project / "rows.jsonl").write_text(json.dumps(row))
    for more in ((), ("--json",), ("--skip-invalid",)):
        refused = cli("import", "rows.jsonl", *more)
        assert "rows.jsonl:1: " in refused.err
        assert SECRET not in refused.out + refused.err


def test_options_that_are_too_long_are_not_shown(cli: Cli) -> None:
    for option in ("--name", "--unique"):
        refused = cli("add", option, f"--token {SECRET} " * 100, "--", "true")
        assert (refused.code, SECRET in refused.err) == (2, False)
        assert "of 1,900 characters: give text of up to 1,000 characters" in refused.err
