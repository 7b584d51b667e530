"""Measurements, as ratios to a floor that is measured in the same run: ``make bench``.

Machines differ and are noisy: the two sides take turns (A B A B …), and medians are compared.
``python tests/bench.py import [ROWS]`` measures an import, which takes minutes and is not in `make`.
"""

import json
import os
import signal
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
    """Measure what is asked for, or all that is quick, and print a line for each."""
    match sys.argv[1:]:
        case ["import", *rows]:
            with tempfile.TemporaryDirectory() as folder:
                import_rows(Path(folder), int(rows[0]) if rows else 1_000_000)
            return
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
        for (sql,) in source.execute("SELECT sql FROM sqlite_schema WHERE name = 'job_queue'"):
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


# -- imports -------------------------------------------------------------------------------------

OTHER_WRITER = """
import json, signal, sys, time
from jobq import JobQueue
going = True
def stop(*_):
    global going
    going = False
signal.signal(signal.SIGTERM, stop)
waits = []
with JobQueue.open(sys.argv[1]) as queue:
    print("ready", flush=True)
    while going:
        start = time.perf_counter()
        queue.add("shell", {"argv": ["true"]}, name="other writer")
        waits.append(time.perf_counter() - start)
        time.sleep(0.005)
waits.sort()
print(json.dumps([len(waits), waits[len(waits) // 2], waits[-1]]))
"""


IMPORT = """
import sys
from jobq.cli.main import run
code = run(sys.argv[1:])
with open("/proc/self/status") as status:  # not ru_maxrss, in which whoever started this counts, too
    print(next(line.split()[1] for line in status if line.startswith("VmHWM")))
sys.exit(code)
"""


def import_rows(root: Path, rows: int) -> None:
    """`jobq import` of so many rows, with and without keys, while another process adds jobs."""
    for keyed in (False, True):
        folder = root / f"keyed-{keyed}"
        folder.mkdir()
        (folder / "jobq.toml").touch()
        with (folder / "rows.jsonl").open("w") as file:
            for number in range(rows):
                row = {"argv": ["convert", f"in/{number}.png", f"out/{number}.jpg"], "priority": 3}
                file.write(json.dumps({"key": f"row-{number}"} | row if keyed else row) + "\n")
        JobQueue.open(folder / "jobq.toml").close()
        seconds, peak, (adds, median, longest) = _import(folder)
        floor = _bare_rows(folder)
        what = "with keys" if keyed else "without keys"
        print(f"jobq import of {rows:,} rows {what}: {seconds:.1f} s, peak RSS {peak / 1e6:.0f} MB")
        print(
            f"  one bare executemany of the same rows: {floor:.1f} s; ratio {seconds / floor:.2f}"
        )
        print(
            f"  another writer meanwhile: {adds:,} adds, median wait {median * 1000:.1f} ms, "
            f"longest {longest * 1000:.1f} ms",
            flush=True,
        )


def _import(folder: Path) -> tuple[float, int, tuple[int, float, float]]:
    writer = subprocess.Popen(
        [sys.executable, "-c", OTHER_WRITER, str(folder / "jobq.toml")],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert writer.stdout
    writer.stdout.readline()
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", IMPORT, "import", "rows.jsonl"],
        cwd=folder,
        stdout=subprocess.PIPE,
        check=True,
    )
    seconds = time.perf_counter() - start
    writer.send_signal(signal.SIGTERM)
    answer, _ = writer.communicate()
    adds, median, longest = json.loads(answer)
    return seconds, int(done.stdout) * 1024, (adds, median, longest)


def _bare_rows(folder: Path) -> float:
    """Seconds for the same rows in the same tables with the same indexes, in one transaction."""
    source = sqlite3.connect(folder / ".jobq" / "jobq.db")
    bare = sqlite3.connect(folder / "bare.db", isolation_level=None)
    bare.execute("PRAGMA journal_mode = WAL")
    bare.execute("PRAGMA synchronous = FULL")
    bare.execute("PRAGMA wal_autocheckpoint = 0")
    seconds = 0.0
    for table in ("job_queue", "job_keys"):
        for (sql,) in source.execute(
            "SELECT sql FROM sqlite_schema WHERE tbl_name = ? AND type <> 'trigger'", (table,)
        ):
            if sql:
                bare.execute(sql)
        columns = len(source.execute(f"SELECT * FROM {table} LIMIT 1").description)
        marks = ", ".join("?" * columns)
        rows = source.execute(f"SELECT * FROM {table}")
        bare.execute("BEGIN IMMEDIATE")
        while portion := rows.fetchmany(100_000):  # outside of what is timed
            start = time.perf_counter()
            bare.executemany(f"INSERT INTO {table} VALUES ({marks})", portion)
            seconds += time.perf_counter() - start
        start = time.perf_counter()
        bare.execute("COMMIT")
        seconds += time.perf_counter() - start
    return seconds


def void(_: object) -> None:
    """Nothing, from something."""


if __name__ == "__main__":
    main()
