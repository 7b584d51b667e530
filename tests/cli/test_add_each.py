import io
import json
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from jobq import Job
from jobq.cli.commands.add_each import _PLACEHOLDER, _pieces, _value
from tests.support.cli_runner import Cli, Result

Each = Callable[..., Result]


@pytest.fixture
def each(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> Each:
    """`jobq add --each` with something piped in."""

    def run(data: str | bytes, *argv: str) -> Result:
        raw = data if isinstance(data, bytes) else data.encode()
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(raw)))
        return cli("add", "--each", *argv)

    return run


def jobs(cli: Cli) -> list[Job]:
    return cli.queue.find()


def argvs(cli: Cli) -> list[Any]:
    return [job.args["argv"] for job in jobs(cli)]


# -- what is piped in ----------------------------------------------------------------------------


@pytest.mark.parametrize("data", [b"\xef\xbb\xbfa\nb\n", b"a\r\nb\r\n", b"\xef\xbb\xbfa\r\n\r\nb"])
def test_a_list_from_windows_has_the_same_lines(cli: Cli, each: Each, data: bytes) -> None:
    assert each(data, "--", "echo").code == 0
    assert argvs(cli) == [["echo", "a"], ["echo", "b"]]


def test_pieces_that_end_in_a_nul_byte_are_kept_as_they_are(cli: Cli, each: Each) -> None:
    assert each(b"a\r\0\xef\xbb\xbf\0b\n\0", "--null", "--", "echo").code == 0
    assert argvs(cli) == [["echo", "a\r"], ["echo", "\ufeff"], ["echo", "b\n"]]


@pytest.mark.parametrize("codec", ["utf-16-le", "utf-16-be"])
def test_a_list_in_utf_16_is_refused(cli: Cli, codec: str, monkeypatch: pytest.MonkeyPatch) -> None:
    source = io.BufferedReader(io.BytesIO("\ufeffa\nb\n".encode(codec)))
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(source))
    refused = cli("add", "--each", "--", "echo")
    assert (refused.code, "stdin: UTF-16, not UTF-8: convert it" in refused.err) == (2, True)


def test_a_long_line_takes_linear_time() -> None:
    start = time.process_time()
    ((number, text),) = _pieces(io.BytesIO(b"x" * 100_000_000), b"\n")
    assert (number, len(text)) == (1, 100_000_000)
    assert time.process_time() - start < 5


@given(st.lists(st.binary()), st.integers(1, 5))
def test_pieces_do_not_depend_on_the_blocks_that_are_read(blocks: list[bytes], size: int) -> None:
    data = b"".join(blocks)

    class InParts(io.BytesIO):
        def read(self, _: int | None = -1, /) -> bytes:
            return super().read(size)

    assert list(_pieces(InParts(data), b"\0")) == list(_pieces(io.BytesIO(data), b"\0"))


# -- placeholders --------------------------------------------------------------------------------


def filled(pattern: str, text: str, number: int = 1) -> str:
    return _PLACEHOLDER.sub(lambda match: _value(match["sign"], text, number), pattern)


@pytest.mark.parametrize(
    ("line", "whole", "stem", "name", "folder", "name_stem"),
    [
        ("a.mkv", "a.mkv", "a", "a.mkv", ".", "a"),
        ("x/y.d/a b.tar.gz", "x/y.d/a b.tar.gz", "x/y.d/a b.tar", "a b.tar.gz", "x/y.d", "a b.tar"),
        ("/a", "/a", "/a", "a", "/", "a"),
        ("x.d/a", "x.d/a", "x.d/a", "a", "x.d", "a"),
        (".bashrc", ".bashrc", "", ".bashrc", ".", ""),
        ("a.", "a.", "a", "a.", ".", "a"),
        ("x/y/", "x/y/", "x/y/", "", "x", ""),
        ("//", "//", "//", "", "/", ""),
        ("a//b.c", "a//b.c", "a//b", "b.c", "a", "b"),
    ],
)
def test_placeholders_are_those_of_gnu_parallel(
    line: str, whole: str, stem: str, name: str, folder: str, name_stem: str
) -> None:
    found = [filled(sign, line) for sign in ("{}", "{.}", "{/}", "{//}", "{/.}")]
    assert found == [whole, stem, name, folder, name_stem]


def test_what_is_filled_in_is_not_filled_in_again() -> None:
    assert filled("{}-{#}-{.}", "{#}.{}", 7) == "{#}.{}-7-{#}"
    assert filled("{0} {x} {} {", "a") == "{0} {x} a {"


@pytest.mark.skipif(shutil.which("parallel") is None, reason="GNU parallel is not installed")
@settings(max_examples=5)
@given(st.lists(st.text(st.sampled_from("ab./ "), min_size=1, max_size=8), min_size=20))
@example(["a/.b"])
def test_gnu_parallel_agrees(lines: list[str]) -> None:
    pattern = "{}|{.}|{/}|{//}|{/.}|{#}"
    done = subprocess.run(
        ["parallel", "--plain", "-k", "-j1", "-q", "printf", "%s\\n", pattern],
        input="\n".join([*lines, ""]), capture_output=True, encoding="utf-8", check=True,
    )  # fmt: skip
    assert done.stdout.splitlines() == [
        filled(pattern, line, number) for number, line in enumerate(lines, 1)
    ]


# -- commands ------------------------------------------------------------------------------------


def test_each_line_is_a_job(cli: Cli, each: Each) -> None:
    result = each("a.mkv\nb c.avi\n", "--", "ffmpeg", "-i", "{}", "out/{/.}.mp4", "{#}")
    assert (result.code, result.lines, result.err) == (0, ["1", "2"], "")
    assert argvs(cli) == [
        ["ffmpeg", "-i", "a.mkv", "out/a.mp4", "1"],
        ["ffmpeg", "-i", "b c.avi", "out/b c.mp4", "2"],
    ]
    assert jobs(cli)[0].args["cwd"] == str(Path.cwd())


def test_a_job_is_the_one_that_add_makes_of_the_same_command(cli: Cli, each: Each) -> None:
    options = ("-p", "high", "--name", "n", "--tag", "a=b", "--timeout", "5m", "--retries", "2",
               "--retry-base", "1s", "--env", "X=1", "--cwd", "sub", "--stdin", "in", "--notify",
               "--at", "2099-01-01 00:00Z")  # fmt: skip
    one = cli("add", *options, "--", "echo", "hi").lines
    many = each("hi\n", *options, "--", "echo", "{}").lines
    assert (one, many) == (["1"], ["2"])
    first, second = jobs(cli)
    for field in Job.__dataclass_fields__:
        if field not in ("id", "created_at"):
            assert getattr(first, field) == getattr(second, field), field


def test_without_a_placeholder_the_line_is_the_last_argument(cli: Cli, each: Each) -> None:
    each("a b\n", "--", "wc", "-l")
    assert argvs(cli) == [["wc", "-l", "a b"]]


def test_a_line_is_one_argument_whatever_is_in_it(cli: Cli, each: Each) -> None:
    lines = ["$(id)", "; rm -rf /", "a'b\"c", " lead", "trail ", "tab\there", "-n", "żółw", "\r"]
    each("\n".join(lines), "--", "echo", "{}")
    assert argvs(cli) == [["echo", line] for line in lines]


def test_names_between_nul_bytes_may_hold_lines(cli: Cli, each: Each) -> None:
    each(b"a\nb\0c\0", "--null", "--", "echo", "{}")
    each(b"d\0", "-0", "--", "echo", "{}")
    assert argvs(cli) == [["echo", "a\nb"], ["echo", "c"], ["echo", "d"]]


def test_empty_lines_are_no_jobs(cli: Cli, each: Each) -> None:
    assert each("\na\n\n\nb", "--", "echo", "{}", "{#}").code == 0
    assert argvs(cli) == [["echo", "a", "1"], ["echo", "b", "2"]]
    result = each("", "--", "echo")
    assert (result.code, result.out, result.err) == (0, "", "")


def test_options_take_placeholders_too(cli: Cli, each: Each) -> None:
    each(
        "/in/a.mkv\nb/c.mkv\n", "--name", "encode {/}", "--unique", "enc {}", "--tag", "file={/.}",
        "--cwd", "{//}", "--env", "OUT={.}.mp4", "--", "ffmpeg", "{/}",
    )  # fmt: skip
    first, second = jobs(cli)
    assert (first.name, first.unique_key, first.tags) == (
        "encode a.mkv",
        "enc /in/a.mkv",
        {"file": "a"},
    )
    assert (first.args["cwd"], first.args["env"]["OUT"]) == ("/in", "/in/a.mp4")
    assert second.args["cwd"] == str(Path.cwd() / "b")


def test_variables_of_this_shell_are_kept_as_they_are(
    cli: Cli, each: Each, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "{}")
    monkeypatch.setenv("OWN", "{}")
    each("a\n", "--env", "OWN", "--", "echo")
    env = jobs(cli)[0].args["env"]
    assert (env["TZ"], env["OWN"]) == ("{}", "a")


def test_parents_are_those_of_every_job(cli: Cli, each: Each) -> None:
    cli.add()
    each("a\nb\n", "--after", "last", "--", "echo")
    assert [[parent.id for parent in job.parents] for job in jobs(cli)] == [[], [1], [1]]


def test_a_unique_key_without_a_placeholder_is_held_once(cli: Cli, each: Each) -> None:
    assert each("a\nb\n", "--unique", "k", "--", "echo").lines == ["1", "1"]
    assert len(jobs(cli)) == 1


# -- other types ---------------------------------------------------------------------------------


def test_jobs_of_a_type_have_the_line_where_it_is_said(cli: Cli, each: Each) -> None:
    assert each("/a b.mkv\n/c\n", "metadata_extraction", "path={}").lines == ["1", "2"]
    assert [job.args for job in jobs(cli)] == [{"path": "/a b.mkv"}, {"path": "/c"}]
    assert each("x\n", "shell", 'argv=["echo", "{}"]').code == 0
    assert jobs(cli)[2].args["argv"] == ["echo", "x"]
    assert each("y\n", "--args", json.dumps({"argv": ["echo", "{}{}"]})).code == 0
    assert jobs(cli)[3].args["argv"] == ["echo", "yy"]


def test_jobs_of_a_type_need_a_place_for_the_line(cli: Cli, each: Each) -> None:
    result = each("a\n", "metadata_extraction", "path=/a")
    assert result.code == 2
    assert "say where the line goes" in result.err


# -- what is wrong -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argv", "code", "what"),
    [
        ((), 2, "give a command"),
        (("--", "echo", "--shell", "-", "--follow"), 0, ""),
        (("--shell", "echo {}"), 2, "--each does not go with --shell"),
        (("shell", "shell=echo {}"), 2, "--each does not go with --shell"),
        (("--stdin", "-", "--", "cat"), 2, "nothing else can be read from it"),
        (("--args", "-"), 2, "nothing else can be read from it"),
        (("--after", "-", "--", "cat"), 2, "nothing else can be read from it"),
        (("--follow", "--", "cat"), 2, "--follow follows one job"),
        (("--queue", "nope", "--", "cat"), 3, "no queue 'nope'"),
        (("--priority", "x", "--", "cat"), 2, "priority 'x'"),
        (("nope", "a={}"), 2, "unknown job type 'nope'"),
        (("--after", "41", "--", "cat"), 2, "no job 41"),
    ],
)
def test_wrong_options_add_nothing(
    cli: Cli, each: Each, argv: tuple[str, ...], code: int, what: str
) -> None:
    result = each("a\n", *argv)
    assert result.code == code, result.err
    assert what in result.err
    assert len(jobs(cli)) == (code == 0)


def test_null_goes_with_each(cli: Cli) -> None:
    assert cli("add", "--null", "--", "echo").code == 2


def test_lines_that_no_job_can_be_made_of_are_named_and_nothing_is_added(
    cli: Cli, each: Each
) -> None:
    result = each(b"a\n\xff\nb\0c\n" + b"x" * 200_000, "--", "echo", "{}")
    assert result.code == 2
    assert [line.split(": ")[0] for line in result.err.splitlines()] == [
        "stdin:2", "stdin:3", "stdin:4", "jobq",
    ]  # fmt: skip
    assert jobs(cli) == []


# -- what is said --------------------------------------------------------------------------------


def test_documents_are_printed_on_request(cli: Cli, each: Each) -> None:
    found = each("a\nb\n", "--json", "--", "echo").json
    assert [job["args"]["argv"] for job in found] == [["echo", "a"], ["echo", "b"]]
    assert each("", "--json", "--", "echo").json == []


def test_many_lines_are_added_in_portions(cli: Cli, each: Each) -> None:
    result = each("".join(f"{n}\n" for n in range(2500)), "--", "echo")
    assert result.lines == [str(n) for n in range(1, 2501)]


def test_people_are_told_in_a_sentence(
    cli: Cli, each: Each, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobq.cli.commands.add_each.is_terminal", lambda: True)
    assert each("a\nb\nc\n", "--", "echo").out == "Added 3 jobs (1-3)\n"
    assert each("a\nb\n", "--quiet", "--", "echo").out == "4\n5\n"


# -- several lists -------------------------------------------------------------------------------


def test_each_combination_of_several_lists_is_a_job(cli: Cli) -> None:
    words = "{1.}-{2}-{#}", ":::", "a.png", "b.png", ":::", "50", "100"
    assert cli("add", "--each", "--name", "{1/} at {2}", "--", "echo", *words).out == "1\n2\n3\n4\n"
    assert argvs(cli) == [["echo", f"{w}-{n}"] for w, n in (
        ("a-50", 1), ("a-100", 2), ("b-50", 3), ("b-100", 4)
    )]  # fmt: skip
    assert jobs(cli)[1].name == "a.png at 100"


def test_without_placeholders_the_values_are_the_last_arguments(cli: Cli) -> None:
    assert cli("add", "--each", "--", "echo", ":::", "a", ":::", "1", "2").code == 0
    assert argvs(cli) == [["echo", "a", "1"], ["echo", "a", "2"]]


def test_one_list_is_as_stdin(cli: Cli) -> None:
    assert cli("add", "--each", "--", "grep", "x{2}{1}", "{}", ":::", "a b", "c").code == 0
    assert argvs(cli) == [["grep", "x{2}{1}", "a b"], ["grep", "x{2}{1}", "c"]]


def test_values_come_from_files_too(cli: Cli, project: Path) -> None:
    (project / "sizes").write_text("50\n\n100\n")
    words = "--", "echo", "{2}{1}", ":::", "x", "::::", "sizes"
    assert cli("add", "--each", *words).code == 0
    assert argvs(cli) == [["echo", "50x"], ["echo", "100x"]]


def test_arguments_of_a_type_come_from_lists(cli: Cli) -> None:
    words = "cleanup", "older_than={2}d", "pattern=*{1}", ":::", "a", "b", ":::", "3"
    assert cli("add", "--each", *words).out == "1\n2\n"
    assert [job.args["pattern"] for job in jobs(cli)] == ["*a", "*b"]


def test_what_is_wrong_with_lists_is_said(cli: Cli) -> None:
    refused = cli("add", "--each", "--", "echo", "{}", ":::", "a", ":::", "b")
    assert (refused.code, refused.err) == (
        2, "jobq: {}: there are 2 lists: say {1} to {2}\n",
    )  # fmt: skip
    missing = cli("add", "--each", "--", "echo", "::::", "nowhere")
    assert (missing.code, missing.err) == (2, "jobq: :::: nowhere: No such file or directory\n")
    assert jobs(cli) == []


# -- arrays --------------------------------------------------------------------------------------


def test_an_array_is_a_job_for_each_index(cli: Cli) -> None:
    assert cli("add", "--array", "8-12:2,1", "--", "train", "--seed={}").out == "1\n2\n3\n4\n"
    assert argvs(cli) == [["train", f"--seed={n}"] for n in (8, 10, 12, 1)]
    assert [job.args["env"]["JOBQ_ARRAY_INDEX"] for job in jobs(cli)] == ["8", "10", "12", "1"]
    (tag,) = {job.tags["array"] for job in jobs(cli)}
    assert cli("list", "--plain", "--tag", f"array={tag}").lines[3].startswith("4\t")
    assert cli("add", "--array", "3", "--tag", "array=mine", "--", "train").code == 0
    assert (jobs(cli)[4].args["argv"], jobs(cli)[4].tags) == (["train"], {"array": "mine"})


def test_two_arrays_have_different_tags(cli: Cli) -> None:
    for _ in range(2):
        assert cli("add", "--array", "1", "--", "true").code == 0
    assert len({job.tags["array"] for job in jobs(cli)}) == 2


@pytest.mark.parametrize("text", ["", "1-", "5-3", "1-9:0", "a", "1-100%5", "0-1000000", "-1"])
def test_indexes_that_can_not_be_meant(cli: Cli, text: str) -> None:
    refused = cli("add", f"--array={text}", "--", "true")
    assert (refused.code, jobs(cli)) == (2, [])
    assert refused.err.startswith("jobq: --array ")


# -- dry run -------------------------------------------------------------------------------------


def test_a_dry_run_shows_each_job_and_adds_none(cli: Cli, each: Each) -> None:
    done = each("a b\nc\n", "--dry-run", "--priority", "9", "--", "echo", "{}")
    assert done.lines == [
        "echo 'a b' (queue default, priority 9, retries 3)",
        "echo c (queue default, priority 9, retries 3)",
    ]
    assert done.err == "Would add 2 jobs\n"
    documents = each("a\n", "--dry-run", "--json", "--", "echo").json
    assert [(each["args"]["argv"], "id" in each) for each in documents] == [(["echo", "a"], False)]
    assert jobs(cli) == []


def test_a_dry_run_finds_what_is_wrong(cli: Cli, each: Each) -> None:
    assert each("a\n\0\n", "--dry-run", "--", "echo").code == 2


def test_a_single_job_is_planned(cli: Cli) -> None:
    parent = cli.add()
    words = "--after", str(parent.id), "--timeout", "5m", "--tag", "a=b", "--name", "x", "--", "ls"
    assert cli("add", "--dry-run", *words).out == (
        "Would add: x: ls (queue default, priority 5, after 1, timeout 5m 00s, retries 3, a=b)\n"
    )
    document = cli("add", "--dry-run", "--json", *words).json
    assert (document["status"], document["existing"], "id" in document) == ("blocked", False, False)
    assert cli("add", "--dry-run", "--after", "99", "--", "ls").code == 3
    assert cli("add", "--dry-run", "--priority", "10", "--", "ls").code == 2
    assert cli("add", "--dry-run", "-f", "--", "ls").code == 2
    assert len(jobs(cli)) == 1


def test_a_plan_names_the_holder_of_the_key(cli: Cli) -> None:
    cli.add("sleep", "9", unique="nightly")
    planned = cli("add", "--dry-run", "--unique", "nightly", "--", "ls")
    assert planned.out == "Would add nothing: job 1 holds that key: sleep 9\n"
