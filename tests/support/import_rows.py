"""Rows of files for `jobq import`, and what becomes of them."""

import json
from pathlib import Path
from typing import Any

from jobq import Job
from tests.support.cli_runner import Cli

ECHO = {"argv": ["echo", "hi"]}


def write(name: str, *rows: Any) -> str:
    """Write a file of rows: objects as JSON Lines, or lines as they are."""
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    Path(name).write_text("\n".join(lines) + "\n", "utf-8")
    return name


def jobs(cli: Cli) -> list[Job]:
    return cli.queue.find()


def imported(cli: Cli, *rows: Any, name: str = "rows.jsonl") -> list[Job]:
    """Import a valid file. Return all jobs."""
    result = cli("import", write(name, *rows))
    assert (result.code, result.out, result.err) == (0, "", "")
    return jobs(cli)


def refused(cli: Cli, *rows: Any, name: str = "rows.jsonl") -> list[str]:
    """Import an invalid file, of which nothing is added. Return what is wrong with it."""
    before = jobs(cli)
    result = cli("import", write(name, *rows))
    assert result.code == 2
    assert jobs(cli) == before
    *lines, last = result.err.splitlines()
    assert last.startswith(f"jobq: {name}: no jobs added")
    return lines


def parents(job: Job) -> list[int]:
    return [parent.id for parent in job.parents]
