"""Options that a script gives in its head."""

from pathlib import Path

import pytest

from tests.support.cli_runner import Cli

HEAD = """#!/bin/sh
# Encodes a film.
#JOBQ --priority 9 --timeout 2h
#JOBQ --tag project=films --tag kind=long --name 'a film'

#JOBQ --delay 1h
echo encoding
#JOBQ --priority 1
"""


@pytest.fixture
def script(project: Path) -> Path:
    path = project / "encode.sh"
    path.write_text(HEAD)
    path.chmod(0o755)
    return path


def test_a_script_gives_options_in_its_head(cli: Cli, script: Path) -> None:
    assert cli("add", "--", "./encode.sh").code == 0
    job = cli.queue.get(1)
    assert (job.priority, job.timeout, job.name) == (9, 7200, "a film")
    assert (job.tags, job.status) == ({"project": "films", "kind": "long"}, "scheduled")


def test_what_is_typed_counts_more(cli: Cli, script: Path) -> None:
    words = "--priority", "2", "--tag", "kind=short", "--name", "mine"
    assert cli("add", *words, "--", "./encode.sh").code == 0
    job = cli.queue.get(1)
    assert (job.priority, job.name, job.tags) == (2, "mine", {"project": "films", "kind": "short"})


def test_run_takes_them_too_but_does_not_wait(cli: Cli, script: Path) -> None:
    planned = cli("add", "--dry-run", "--", str(script))
    assert "priority 9" in planned.out
    assert cli("run", "-q", "--", "./encode.sh").code == 0
    assert (cli.queue.get(1).priority, cli.queue.get(1).status) == (9, "completed")


@pytest.mark.parametrize("directive", ["--no-such", "-- rm x", "hello", "--follow", "--name 'x"])
def test_what_is_no_option_of_a_job_is_refused(cli: Cli, script: Path, directive: str) -> None:
    script.write_text(f"#!/bin/sh\n#JOBQ {directive}\n")
    refused = cli("add", "--", "./encode.sh")
    assert (refused.code, cli.queue.find()) == (2, [])
    assert "encode.sh: " in refused.err


@pytest.mark.parametrize(
    "content", [b"#JOBQ --priority 9\n", b"\x7fELF\n#JOBQ --priority 9\n", b""]
)
def test_other_files_have_no_head(cli: Cli, script: Path, content: bytes) -> None:
    script.write_bytes(content)
    assert cli("add", "--", "./encode.sh").code == 0
    assert cli("add", "--", "./missing.sh").code == 0
    assert cli("add", "--", "encode.sh").code == 0  # no path: it is looked for when it runs
    assert [job.priority for job in cli.queue.find()] == [5, 5, 5]
