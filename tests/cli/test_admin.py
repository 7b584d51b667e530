import json
import stat
from pathlib import Path
from typing import Any

import pytest

from jobq import JobQueue
from jobq.cli.commands.config import toml_lines
from jobq.cli.commands.types import arguments_of, kind_of
from jobq.config import loader
from jobq.config.loader import load_settings
from jobq.serializers import settings_document
from tests.support.cli_runner import Cli, on_terminal

WORKER = '''
from typing import Literal
from pydantic import BaseModel, Field
from jobq import JobContext, JobWorker

class Thumbnail(JobWorker):
    """Shrink a picture.

    More about it.
    """
    job_type = "thumbnail"

    class Args(BaseModel):
        path: str = Field(description="which picture")
        width: int = Field(description="in pixels", examples=[320])
        mode: Literal["fit", "fill"] = "fit"
        tags: list[str] = []
        note: str | None = None

    def run(self, args: Args, job: JobContext) -> None:
        pass
'''


@pytest.fixture
def cli(
    queue: JobQueue,
    project: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Cli:
    monkeypatch.chdir(project)
    return Cli(queue, capsys)


# -- queue ---------------------------------------------------------------------------------------


def queue(cli: Cli, name: str) -> dict[str, object]:
    document: dict[str, object] = cli("queue", "show", name, "--json").json
    return document


def test_queues_as_documents(cli: Cli) -> None:
    created = cli("queue", "create", "slow", "--max-concurrent", "2", "--priority", "high",
                  "--rate", "10/min", "--timeout", "5m", "--retries", "0",
                  "--description", "one at a time")  # fmt: skip
    assert (created.code, created.err) == (0, "")
    cli.add(queue="slow")
    expected = {
        "name": "slow",
        "description": "one at a time",
        "max_concurrent": 2,
        "priority": 7,
        "paused": False,
        "rate": "10/min",
        "timeout": 300.0,
        "max_retries": 0,
        "counts": {"pending": 1},
    }
    assert queue(cli, "slow") == expected
    listed = cli("queue", "list", "--json").json
    assert [each["name"] for each in listed] == ["slow", "default"]
    assert listed[0] == expected


def test_limits_are_changed_and_taken_away(cli: Cli) -> None:
    cli("queue", "create", "slow", "--max-concurrent", "2", "--rate", "5/30s", "--retries", "1")
    assert cli("queue", "set", "slow", "--priority", "9", "--timeout", "none").code == 0
    assert queue(cli, "slow")["max_concurrent"] == 2
    assert queue(cli, "slow")["timeout"] == 0.0
    cli("queue", "set", "slow", "--max-concurrent", "none", "--rate", "none",
        "--timeout", "default", "--retries", "default")  # fmt: skip
    changed = queue(cli, "slow")
    for limit in ("max_concurrent", "rate", "timeout", "max_retries"):
        assert changed[limit] is None
    assert changed["priority"] == 9


def test_a_queue_is_paused_and_resumed(cli: Cli) -> None:
    cli.running()
    assert cli("queue", "pause", "default").out == "Paused queue default: 1 job still running\n"
    assert queue(cli, "default")["paused"] is True
    assert cli("queue", "list").lines[1].split()[:3] == ["default", "5", "paused"]
    assert cli("queue", "resume", "default").out == "Resumed queue default\n"
    assert queue(cli, "default")["paused"] is False


def test_a_queue_is_deleted_when_it_is_empty(cli: Cli) -> None:
    cli("queue", "create", "slow")
    cli.add(queue="slow")
    refused = cli("queue", "delete", "slow")
    assert refused.code == 4
    assert "has 1 job" in refused.err
    cli.queue.cancel(1)
    cli.queue.delete([1])
    assert cli("queue", "delete", "slow").code == 0
    assert cli("queue", "show", "slow").code == 3


@pytest.mark.parametrize(
    ("argv", "code", "says"),
    [
        (["create", "default"], 4, "is there already"),
        (["create", "a b"], 2, "queue name"),
        (["create", "x", "--max-concurrent", "few"], 2, "--max-concurrent 'few'"),
        (["create", "x", "--max-concurrent", "0"], 2, "max_concurrent 0"),
        (["create", "x", "--rate", "often"], 2, "is not a rate"),
        (["create", "x", "--retries", "none"], 2, "--retries 'none'"),
        (["create", "x", "--timeout", "soon"], 2, "is not a duration"),
        (["create", "x", "--priority", "10"], 2, "give 0 to 9"),
        (["create"], 2, "QUEUE"),
        (["set", "default"], 2, "nothing to change"),
        (["set", "nowhere", "--priority", "1"], 3, "no queue 'nowhere'"),
        (["show", "nowhere"], 3, "no queue"),
        (["pause", "nowhere"], 3, "no queue"),
        (["resume", "nowhere"], 3, "no queue"),
        (["delete", "nowhere"], 3, "no queue"),
        (["delete", "default"], 4, "can't be deleted"),
        (["shrink"], 2, "shrink"),
    ],
)
def test_queue_refuses(cli: Cli, argv: list[str], code: int, says: str) -> None:
    result = cli("queue", *argv)
    assert result.code == code
    assert says in result.err
    assert result.err.startswith("jobq: ")
    assert result.err.count("\n") == 1
    assert [each.name for each in cli.queue.queues()] == ["default"]


def test_queue_alone_says_what_it_can_do(cli: Cli) -> None:
    result = cli("queue")
    assert result.code == 2
    assert "pause" in result.out


def test_queue_list_and_show_for_people(cli: Cli) -> None:
    cli("queue", "create", "slow", "--max-concurrent", "2", "--description", "one at a time")
    cli.failed()
    header, *rows = cli("queue", "list").lines
    assert header.split()[:5] == ["queue", "prio", "state", "waiting", "running"]
    assert rows[0].split()[:7] == ["default", "5", "open", "0", "0", "0", "1"]
    assert rows[1].endswith("one at a time")
    shown = cli("queue", "show", "default").out
    for text in ("no limit", "1 failed", "timeout", "default"):
        assert text in shown


def test_changes_to_a_configured_queue_say_that_the_file_decides(cli: Cli, project: Path) -> None:
    assert cli("queue", "set", "default", "--priority", "3").err == ""
    (project / "jobq.toml").write_text("[queues.slow]\nmax_concurrent = 2\n")
    result = cli("queue", "set", "slow", "--max-concurrent", "3")
    assert result.code == 0
    assert "jobq.toml describes this queue" in result.err


# -- types ---------------------------------------------------------------------------------------


@pytest.fixture
def workers(project: Path) -> Path:
    folder = project / "workers"
    folder.mkdir()
    (folder / "thumbnail.py").write_text(WORKER)
    return folder


def test_types_are_listed(cli: Cli, workers: Path) -> None:
    result = cli("types")
    assert result.code == 0
    rows = {line.split()[0]: line for line in result.lines}
    assert "Shrink a picture." in rows["thumbnail"]
    assert rows["thumbnail"].endswith("workers/thumbnail.py")
    assert rows["shell"].endswith("built in")


def test_types_as_documents(cli: Cli, workers: Path) -> None:
    documents = {each["type"]: each for each in cli("types", "--json").json}
    assert {"shell", "thumbnail", "example"} <= set(documents)
    for document in documents.values():
        assert list(document) == ["type", "description", "source", "args_schema"]
    assert documents["thumbnail"]["args_schema"]["required"] == ["path", "width"]
    assert cli("types", "thumbnail", "--json").json == documents["thumbnail"]


def test_worker_files_that_do_not_import_are_reported(cli: Cli, workers: Path) -> None:
    (workers / "broken.py").write_text("import nothing_of_the_kind\n")
    result = cli("types")
    assert result.code == 0
    assert "thumbnail" in result.out
    assert "broken.py:1: does not import" in result.err
    unknown = cli("types", "broken")
    assert unknown.code == 2
    assert "broken.py:1" in unknown.err


def test_the_arguments_of_a_type(cli: Cli, workers: Path) -> None:
    shown = cli("types", "thumbnail")
    assert "jobq add thumbnail path=TEXT width=320" in shown.out
    for text in ("string, required", "which picture", '"fit" | "fill", default "fit"'):
        assert text in shown.out
    assert "jobq add -- COMMAND" in cli("types", "shell").out


def test_kinds_of_arguments() -> None:
    schema: dict[str, Any] = {
        "$defs": {"Mode": {"enum": ["a", 1], "type": "string"}},
        "properties": {
            "mode": {"$ref": "#/$defs/Mode"},
            "one": {"const": "x"},
            "either": {"anyOf": [{"type": "integer"}, {"type": "null"}], "default": None},
            "many": {"type": "array", "items": {"type": "string", "format": "path"}},
            "open": {},
        },
    }
    kinds = {name: kind_of(about, schema) for name, about in schema["properties"].items()}
    assert kinds == {
        "mode": '"a" | 1',
        "one": '"x"',
        "either": "integer",
        "many": "list of path",
        "open": "anything",
    }
    assert dict(arguments_of(schema))["either"] == "integer"


# -- stats ---------------------------------------------------------------------------------------


def test_stats_document(cli: Cli) -> None:
    cli.completed()
    cli.failed()
    cli.add()
    cli.queue.logs.create(1).close()
    cli.register_supervisor()
    document = cli("stats", "--json").json
    assert list(document) == [
        "counts", "queues", "types", "success_rate", "throughput", "oldest_waiting",
        "supervisors", "log_bytes",
    ]  # fmt: skip
    assert document["counts"]["completed"] == 1
    assert document["counts"]["blocked"] == 0
    (lane,), (shown,) = document["queues"], cli("queue", "list", "--json").json
    assert lane.items() >= shown.items()
    assert (lane["completed"], lane["failed"], lane["success_rate"]) == (1, 1, 0.5)
    (figures,) = document["types"]
    assert (figures["type"], figures["completed"]) == ("shell", 1)
    assert document["success_rate"] == figures["success_rate"] == 0.5
    assert document["oldest_waiting"]["id"] == 3
    assert set(figures["wait"]) == set(figures["run"]) == {"p50", "p95"}
    assert document["throughput"] == {"last_hour": 1, "last_day": 1}
    (supervisor,) = document["supervisors"]
    assert supervisor["slots"] == 2
    assert supervisor["heartbeat_age"] >= 0
    assert (supervisor["running"], supervisor["load"]) == (0, 0)
    assert document["log_bytes"] >= 0


def test_stats_for_people(cli: Cli) -> None:
    empty = cli("stats")
    assert empty.code == 0
    assert "none: jobq work" in empty.out
    cli.completed()
    cli.queue.create_queue("slow")
    cli.failed(queue="slow")
    cli.add(name="waits")
    cli.register_supervisor()
    shown = cli("stats").out
    for text in (
        "1 completed", "1 in 1 hour", "50.0% success", "slow", "run p95", "somewhere:1:abc", "ago",
        "0/2", "oldest waiting", ": waits", "0.0%",
    ):  # fmt: skip
        assert text in shown


# -- config --------------------------------------------------------------------------------------

SETTINGS = """
concurrency = 3
[workers]
paths = ["workers", "../more"]
[retry]
base = "3s"
[timeouts.types]
thumbnail = "1m"
[env]
capture = ["PATH", "A \\"quoted\\" ü"]
[queues.slow]
max_concurrent = 2
rate = "10/min"
timeout = "none"
[queues."with.dot"]
description = "tab\\t"
"""


def test_config_show_can_be_read_again(cli: Cli, project: Path) -> None:
    (project / "jobq.toml").write_text(SETTINGS)
    before = load_settings(project / "jobq.toml")
    (project / "jobq.toml").write_text("\n".join(toml_lines(settings_document(before))))
    assert load_settings(project / "jobq.toml") == before
    assert before.queues["slow"].max_concurrent == 2


def test_config_show(cli: Cli, project: Path) -> None:
    (project / "jobq.toml").write_text(SETTINGS)
    shown = cli("config", "show")
    assert "concurrency = 3" in shown.lines
    assert "[queues.slow]" in shown.lines
    assert cli("config") == shown
    document = cli("config", "show", "--json").json
    assert document["queues"]["slow"]["rate"] == "10/min"
    assert document["database"] == str(project / ".jobq" / "jobq.db")


def test_config_path(cli: Cli, project: Path, tmp_path: Path) -> None:
    assert cli("config", "path").out == f"{project / 'jobq.toml'}\n"
    (project / "jobq.toml").write_text("broken =")
    assert cli("config", "path").out == f"{project / 'jobq.toml'}\n"


def test_config_path_where_there_is_no_file(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = cli("config", "path")
    assert (result.code, result.out) == (0, "")
    assert "the defaults hold" in result.err
    assert cli("config", "check").out.startswith("The defaults are fine")


def test_config_check(cli: Cli, project: Path, workers: Path) -> None:
    result = cli("config", "check")
    assert (result.code, result.err) == (0, "")
    assert result.out.startswith("jobq.toml is fine: ")
    (workers / "broken.py").write_text("x = \n")
    broken = cli("config", "check")
    assert (broken.code, broken.out) == (2, "")
    assert "broken.py:1: does not import: SyntaxError" in broken.err
    (project / "jobq.toml").write_text("\nconcurency = 3\n")
    wrong = cli("config", "check")
    assert (wrong.code, wrong.out) == (2, "")
    assert "jobq.toml:2: concurency: no such key" in wrong.err


def test_config_check_tells_of_folders_that_are_not_there(cli: Cli) -> None:
    result = cli("config", "check")
    assert result.code == 0
    assert result.err == "no workers are loaded from workers: there is no such folder\n"


def test_a_named_file_that_is_not_there(cli: Cli) -> None:
    for argv in (["config", "path"], ["config", "check"], ["list"]):
        assert cli("--config", "nowhere.toml", *argv).code == 2


# -- version -------------------------------------------------------------------------------------


def test_version(cli: Cli) -> None:
    lines = cli("version").lines
    assert [line.split()[0] for line in lines] == ["jobq", "Python", "SQLite"]
    document = cli("version", "--json").json
    assert list(document) == ["jobq", "python", "sqlite"]
    assert [line.split(maxsplit=1)[1] for line in lines] == list(document.values())


# -- init ----------------------------------------------------------------------------------------


def test_init(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = cli("init", "new/place")
    assert result.code == 0
    place = tmp_path / "new" / "place"
    for name in (".jobq", "logs"):
        assert stat.S_IMODE((place / name).stat().st_mode) == 0o700
        assert (place / name / ".gitignore").read_text() == "*\n"
    assert "created new/place/jobq.toml" in result.lines
    assert "cd new/place" in result.err
    monkeypatch.chdir(place)
    assert cli("config", "check").out.startswith("jobq.toml is fine")
    assert cli("add", "hello", "name=you").out == "1\n"
    assert cli("add", "hello", "nme=you").code == 2


def test_init_keeps_what_is_there(cli: Cli, project: Path) -> None:
    (project / "jobq.toml").write_text("concurrency = 7\n")
    result = cli("init")
    assert result.code == 0
    assert "kept jobq.toml" in result.lines
    assert "created workers/hello.py" in result.lines
    assert load_settings(project / "jobq.toml").concurrency == 7
    again = cli("init", ".")
    assert {line.split()[0] for line in again.lines} == {"kept"}


def test_init_refuses_a_file(cli: Cli, project: Path) -> None:
    result = cli("init", "jobq.toml")
    assert result.code == 2
    assert "not a directory" in result.err


def test_every_key_of_the_template_is_there_with_its_default(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    cli("init")
    file = tmp_path / "jobq.toml"
    defaults = settings_document(load_settings(file))
    text = file.read_text()
    uncommented = "\n".join(
        line.removeprefix("# ") if "=" in line or line.startswith(("#   ", "# ]", "# [")) else line
        for line in text.splitlines()
    )
    file.write_text(uncommented)
    shown = settings_document(load_settings(file))
    queues = shown.pop("queues")
    assert queues["downloads"] == {
        "description": "one site, politely",
        "max_concurrent": 2,
        "priority": 5,
        "rate": "10/min",
        "timeout": 3600.0,
        "max_retries": 5,
    }
    del defaults["queues"], defaults["concurrency"], shown["concurrency"]
    assert shown == defaults
    for key in (
        *loader._TOP_KEYS,
        *loader._TABLE_KEYS,
        *(k for t in loader._TABLE_KEYS.values() for k in t),
    ):
        assert key in uncommented


# -- everywhere ----------------------------------------------------------------------------------


def test_refusals_are_one_line_on_a_terminal_too(cli: Cli, project: Path) -> None:
    screen = on_terminal(project, "show", "99", columns=200)
    assert screen.code == 3
    assert screen.lines == ["jobq: no job 99: see `jobq list`"]


@pytest.mark.parametrize(
    "argv", [["list"], ["show", "1"], ["stats"], ["queue", "list"], ["cancel", "1"], ["prune"]]
)
def test_a_damaged_database_is_exit_code_5(cli: Cli, project: Path, argv: list[str]) -> None:
    cli.queue.close()
    (project / ".jobq" / "jobq.db").write_bytes(b"not a database at all" * 100)
    result = cli(*argv)
    assert (result.code, result.out) == (5, "")
    assert result.err.startswith("jobq: ")
    assert result.err.count("\n") == 1


def test_documents_are_utf_8_json(cli: Cli) -> None:
    cli.add(name="ü")
    assert json.loads(cli("list", "--json").out)[0]["name"] == "ü"
