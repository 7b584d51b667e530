"""The examples in the docs: run, or compared with the code."""

import re
import socket
import sqlite3
import subprocess
import sys
import textwrap
import tomllib
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import jobq
from jobq import JobQueue
from jobq.cli import main
from jobq.cli.command_table import VERBS
from jobq.cli.parsing.typer_app import command_of
from jobq.config import loader
from jobq.config.environment import _ONE_JOB_VARS
from jobq.config.loader import load_settings
from jobq.config.settings import priority_band
from jobq.job_types.registry import load
from jobq.models import INITIAL, TRANSITIONS, JobStatus
from jobq.testing import run
from jobq.transfer.row_validation import COLUMNS
from jobq.units import Priority
from tests.support.paths import ROOT

PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
EXAMPLES = [page for page in PAGES if page.name != "cli.md"]


def text_of(name: str) -> str:
    return (ROOT / "docs" / name).read_text("utf-8")


def blocks(text: str, *languages: str) -> Iterator[tuple[int, str]]:
    """Yield each fenced block in these languages: its first line's number, and its text."""
    for match in re.finditer(r"^```(\w+)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        if match[1] in languages:
            yield text.count("\n", 0, match.start(2)), match[2]


def ids(page: Path) -> str:
    return page.name


# -- Python --------------------------------------------------------------------------------------


def test_the_examples_of_library_md_run(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)
    names: dict[str, Any] = {}
    for line, source in blocks(text_of("library.md"), "python"):
        exec(compile("\n" * line + source, "docs/library.md", "exec"), names)


@pytest.fixture
def worker_project(project: Path) -> Path:
    """A project with the files of writing-a-worker.md, named in their first lines."""
    for _, source in blocks(text_of("writing-a-worker.md"), "python", "toml"):
        first = source.splitlines()[0]
        assert first.startswith("# "), first
        file = project / first.removeprefix("# ")
        file.parent.mkdir(exist_ok=True)
        file.write_text(source)
    return project


def test_the_tests_of_writing_a_worker_md_pass(worker_project: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        cwd=worker_project,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert "4 passed" in done.stdout


def test_the_workers_of_the_readme_are_those_of_the_page_and_short() -> None:
    page = {
        text.splitlines()[0]: text for _, text in blocks(text_of("writing-a-worker.md"), "python")
    }
    readme = [text for _, text in blocks((ROOT / "README.md").read_text("utf-8"), "python")]
    assert len(readme) == 4
    for text in readme:
        assert page[text.splitlines()[0]] == text
    codes = [text.rpartition("\n\n\n")[2].splitlines() for text in readme]
    function, _, of_class, _ = (list(filter(None, code)) for code in codes)
    assert (function[0], len(function)) == ('@job_type("shout")', 4)
    assert (of_class[0], len(of_class)) == ("class Compress(JobWorker):", 12)


def test_the_workers_of_writing_a_worker_md_run(worker_project: Path, tmp_path: Path) -> None:
    registry = load([worker_project / "workers"])
    assert registry.errors == []
    names = ("reach", "merge", "lookup", "translate")
    reach, merge, lookup, translate = (registry.types[name].worker for name in names)
    assert reach is not None
    assert merge is not None
    assert lookup is not None
    assert translate is not None
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert run(reach, {"host": "127.0.0.1", "ports": [port]}).result == {str(port): True}
    parts = [tmp_path / name for name in ("one", "two")]
    for part in parts:
        part.write_text(part.name)
    args = {"parts": list(map(str, parts)), "target": str(tmp_path / "all")}
    assert isinstance(run(merge, args, cancelled=True).error, jobq.Cancelled)
    assert run(merge, args).result == 2
    assert (tmp_path / "all").read_text() == "onetwo"
    with closing(sqlite3.connect(worker_project / "workers" / "words.db")) as words:
        words.execute("CREATE TABLE words (word, meaning)")
        words.execute("INSERT INTO words VALUES ('jobq', 'a queue')")
        words.commit()
    assert run(lookup, {"word": "jobq"}, check=True).result == "a queue"
    assert run(translate, {"word": "abc"}, check=True).result == "cba"


def test_the_package_of_writing_a_worker_md_brings_its_job_type(
    worker_project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = worker_project / "acme"
    points = tomllib.loads((package / "pyproject.toml").read_text())["project"]["entry-points"]
    info = package / "acme-1.0.dist-info"
    info.mkdir()
    lines = [f"{name} = {value}" for name, value in points["jobq.workers"].items()]
    (info / "entry_points.txt").write_text("\n".join(["[jobq.workers]", *lines, ""]))
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme\nVersion: 1.0\n")
    monkeypatch.syspath_prepend(package)
    invoice = load([]).types["acme.invoice"].worker
    assert invoice is not None
    assert run(invoice, {"number": 7}).result == "invoice 7"


def test_the_program_of_coming_from_md_runs(project: Path) -> None:
    """It has all calls of two earlier systems, in 40 lines beside the worker."""
    for _, source in blocks(text_of("coming-from.md"), "python"):
        file = project / source.splitlines()[0].removeprefix("# ")
        file.parent.mkdir(exist_ok=True)
        file.write_text(source)
    done = subprocess.run(
        [sys.executable, "program.py"],
        cwd=project,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stderr
    dead, stats, result = done.stdout.splitlines()
    assert dead == "['Error message']"
    assert stats.endswith("{'added': 2, 'completed': 1, 'failed': 1, 'recovered': 0}")
    assert result == "{'status': 'success', 'output': 'c'}"
    assert len((project / "program.py").read_text().strip().splitlines()) <= 40


# -- batches -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["jsonl", "csv"])
def test_the_rows_of_batches_md_are_good(
    kind: str, project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(project)
    ((_, text),) = blocks(text_of("batches.md"), kind)
    file = project / f"rows.{kind}"
    file.write_text(text)
    assert main.run(["import", str(file), "--json"]) == 0
    assert '"added": 3' in capsys.readouterr().out


def test_the_columns_of_batches_md_are_those_there_are() -> None:
    table = text_of("batches.md").partition("| column | |")[2].partition("\n\n")[0]
    cells = [line.split("|")[1] for line in table.splitlines()[2:]]
    named = [name for cell in cells for name in re.findall(r"`(\w+)`", cell)]
    assert sorted(named) == sorted(COLUMNS)


# -- settings ------------------------------------------------------------------------------------


def test_the_defaults_of_configuration_md_are_the_defaults(tmp_path: Path) -> None:
    defaults, queues, hooks = (block for _, block in blocks(text_of("configuration.md"), "toml"))
    file = tmp_path / "jobq.toml"
    file.write_text("")
    nothing = load_settings(file)
    file.write_text(defaults)
    assert load_settings(file) == nothing
    file.write_text(queues)
    assert load_settings(file).queues["downloads"].max_retries == 5
    file.write_text(hooks)
    assert len(load_settings(file).on_finish) == 2


def settings_examples() -> Iterator[tuple[str, str]]:
    """Yield each example of jobq.toml, fenced or indented, with where it is."""
    known = {*loader._TOP_KEYS, *loader._TABLE_KEYS, "queues"}
    for page in PAGES:
        text = page.read_text("utf-8")
        for line, block in blocks(text, "toml"):
            if "pyproject.toml" not in block:
                yield f"{page.name}:{line}", block
        for match in re.finditer(r"(?:^    .*\n)+", text, re.MULTILINE):
            block = textwrap.dedent(match[0])
            first = re.match(r"\[(\w+)|(\w+) = [\[\"\d]", block)
            if first and (first[1] or first[2]) in known:
                yield f"{page.name}:{text.count(chr(10), 0, match.start()) + 1}", block


def test_settings_of_the_docs_can_be_pasted_into_what_init_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main.run(["init"]) == 0
    file = tmp_path / "jobq.toml"
    written = file.read_text()
    examples = dict(settings_examples())
    assert len(examples) >= 6, list(examples)
    for where, example in examples.items():
        alone = tmp_path / "alone.toml"
        alone.write_text(example)
        file.write_text(f"{written}\n{example}")
        pasted = replace(load_settings(file, environ={}), path=alone)
        assert pasted == load_settings(alone, environ={}), where


def test_every_key_and_variable_is_in_configuration_md() -> None:
    text = text_of("configuration.md")
    described = "".join(block for _, block in blocks(text, "toml"))
    for keys in (loader._TOP_KEYS, loader._QUEUE_KEYS, *loader._TABLE_KEYS.values()):
        for key in keys:
            assert re.search(rf"^(# |\[timeouts\.)?{key}( =|\])", described, re.MULTILINE), key
    for variable in ("JOBQ_CONFIG", *loader._KEY_OF_VARIABLE, *_ONE_JOB_VARS):
        assert f"`{variable}`" in text, variable


def test_the_priorities_of_configuration_md() -> None:
    row = r"^\| `(\w+)` \| (\d)(?: (?:to|and) (\d))? \| (\d)"
    rows = re.findall(row, text_of("configuration.md"), re.MULTILINE)
    assert len(rows) == len(Priority)
    for name, first, last, value in rows:
        assert {priority_band(n) for n in range(int(first), int(last or first) + 1)} == {name}
        assert Priority[name.upper()] == int(value)


# -- states --------------------------------------------------------------------------------------


def test_the_transitions_drawn_in_states_md_are_those_of_the_code() -> None:
    ((_, drawing),) = blocks(text_of("states.md"), "mermaid")
    drawn = re.findall(r"^ +(\S+) --> (\w+)", drawing, re.MULTILINE)
    assert len(drawn) == len(set(drawn))
    initial = {after for before, after in drawn if before == "[*]"}
    assert initial == INITIAL
    between = {(before, after) for before, after in drawn if before != "[*]"}
    assert between == {(str(a), str(b)) for a, others in TRANSITIONS.items() for b in others}


def test_every_state_is_in_the_table_of_states_md() -> None:
    table = text_of("states.md").split("```mermaid")[0]
    assert re.findall(r"^\| `(\w+)` ", table, re.MULTILINE) == [str(s) for s in JobStatus]


# -- names ---------------------------------------------------------------------------------------


def options_of(verb: str, words: list[str]) -> set[str]:
    """Return the options of a verb, or of the sub-verb that the first word names."""
    command = command_of(verb)
    command = getattr(command, "commands", {}).get(words[0] if words else "", command)
    return {"--help"} | {name for param in command.params for name in param.opts}


@pytest.mark.parametrize("page", EXAMPLES, ids=ids)
def test_the_verbs_and_options_in_examples_exist(page: Path) -> None:
    text = page.read_text("utf-8")
    examples = [block for _, block in blocks(text, "sh", "console", "crontab")]
    examples += re.findall(r"`(jobq [^`]+)`", text)
    for verb, rest in re.findall(
        r"(?:(?<!inject )\bjobq|\$JOBQ) ([a-z]+)(.*)", "\n".join(examples)
    ):
        assert verb in VERBS, verb
        words = re.split(r"\s--\s|  #|[|)]", rest)[0].split()
        given = {word for word in words if re.fullmatch(r"--[a-z-]+", word)}
        assert given <= options_of(verb, words), f"jobq {verb}{rest}"


@pytest.mark.parametrize("page", EXAMPLES, ids=ids)
def test_the_methods_that_are_named_exist(page: Path) -> None:
    for name in re.findall(r"JobQueue\.(\w+)", page.read_text("utf-8")):
        assert hasattr(JobQueue, name), name


def test_every_room_is_among_the_parts() -> None:
    parts = text_of("internals.md").split("## Files")[0]
    for place in Path(jobq.__file__).parent.glob("[a-z]*"):
        if place.suffix == ".py" or (place / "__init__.py").exists():
            assert f"`{place.stem}" in parts, place.name


def test_what_keeps_the_promises_exists() -> None:
    promises = text_of("internals.md").split("## Promises")[1]
    named = re.findall(r"`((?!tests)[a-z_/]+)\.([A-Za-z_]+)`", promises)
    assert len(re.findall(r"^\| \d+ \|", promises, re.MULTILINE)) == 11
    assert len(named) > 20
    package = Path(jobq.__file__).parent
    for module, name in named:
        text = (package / f"{module}.py").read_text()
        assert re.search(rf"^ *(async )?(def|class) {name}\b", text, re.MULTILINE), name


# -- links ---------------------------------------------------------------------------------------


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as web views make them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text("utf-8"), re.MULTILINE)
    return {
        re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings
    }


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_relative_links_resolve(page: Path) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", page.read_text("utf-8")):
        if target.startswith("https://"):
            continue
        name, _, anchor = target.partition("#")
        linked = (page.parent / name) if name else page
        assert linked.is_file(), target
        assert not anchor or anchor in anchors(linked), target
