"""Measurements, as ratios to a floor that is measured in the same run: ``make bench``.

Machines differ and are noisy: the two sides take turns (A B A B …), and medians are compared.
"""

import os
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from jobq import JobQueue

ROUNDS = 15

TYPER_FLOOR = """
from typing import Annotated
import typer
app = typer.Typer(pretty_exceptions_enable=False)
@app.command()
def add(
    words: Annotated[list[str] | None, typer.Argument()] = None,
{options}
) -> None:
    print(1)
app()
"""
TEXTS = (
    "queue", "priority", "name", "at", "delay", "timeout", "retry_base", "unique", "cwd", "shell",
    "stdin", "args",
)  # fmt: skip
LISTS = ("tag", "after", "after_any", "after_fail", "env")
FLAGS = ("follow", "json", "quiet")


def main() -> None:
    """Measure everything, and print a line for each."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "jobq.toml").touch()
        show("jobq add -- true / a Typer app of one command", *start_up(root))
        show("JobQueue.add() / one bare INSERT at FULL", *one_add(root))


def show(what: str, ours: float, floor: float) -> None:
    """One result."""
    print(f"{what:55} {ours * 1000:8.2f} ms / {floor * 1000:8.2f} ms = {ours / floor:5.2f}")


def alternate(ours: Callable[[], None], floor: Callable[[], None]) -> tuple[float, float]:
    """The median seconds of each, measured in turns."""
    times: tuple[list[float], list[float]] = ([], [])
    ours()
    floor()
    for _ in range(ROUNDS):
        for run, taken in zip((ours, floor), times, strict=True):
            start = time.perf_counter()
            run()
            taken.append(time.perf_counter() - start)
    return statistics.median(times[0]), statistics.median(times[1])


def start_up(root: Path) -> tuple[float, float]:
    """A whole `jobq add`, against a Typer app with the same options that does nothing."""
    options = [f"    {name}: Annotated[str | None, typer.Option()] = None," for name in TEXTS]
    options += [
        f"    {name}: Annotated[list[str] | None, typer.Option()] = None," for name in LISTS
    ]
    options += [f'    {name}: Annotated[bool, typer.Option("--{name}")] = False,' for name in FLAGS]
    options += ["    retries: Annotated[int | None, typer.Option()] = None,"]
    (root / "floor.py").write_text(TYPER_FLOOR.format(options="\n".join(options)))
    # Byte code is cached where people use it; the floor is a module for the same reason.
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}

    def command(*argv: str) -> Callable[[], None]:
        return lambda: void(
            subprocess.run(
                [sys.executable, *argv], cwd=root, env=environment, check=True, capture_output=True
            )
        )

    return alternate(
        command("-m", "jobq", "add", "--", "true"), command("-c", "import floor", "--", "true")
    )


def one_add(root: Path) -> tuple[float, float]:
    """One durable add through the library, against a bare INSERT into the same table."""
    with JobQueue.open(root / "jobq.toml") as queue:
        con = sqlite3.connect(root / "bare.db", isolation_level=None)
        source = sqlite3.connect(queue.settings.database)
        con.execute("PRAGMA journal_mode = WAL")
        con.execute("PRAGMA synchronous = FULL")
        con.execute("PRAGMA wal_autocheckpoint = 0")
        for (sql,) in source.execute("SELECT sql FROM sqlite_schema WHERE tbl_name = 'job_queue'"):
            if sql:
                con.execute(sql)

        def ours() -> None:
            for _ in range(20):
                queue.add("shell", {"argv": ["true"]})

        def floor() -> None:
            for _ in range(20):
                con.execute(
                    "INSERT INTO job_queue (type, status, queue, priority, args, max_retries, "
                    "retry_base, created_at) VALUES ('shell', 'pending', 'default', 5, "
                    '\'{"argv":["true"]}\', 3, 10.0, 1.0)'
                )

        add, insert = alternate(ours, floor)
    return add / 20, insert / 20


def void(_: object) -> None:
    """Nothing, from something."""


if __name__ == "__main__":
    main()
