"""Rows 2 and 3: jobs on their way into the table."""

import json
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from benchmarks.floors import INSERT, bare_database, insert_in_turn
from benchmarks.harness import ENVIRONMENT, Project, alternate, seconds, timed
from benchmarks.results import Result, compared, scaled
from benchmarks.scale import Bench
from benchmarks.writers import Writers

_ADDS_THAT_FILL_THE_LOG = 500
"""After these adds the log is overwritten, ours and that of the floors: before, its file grows."""


def add(bench: Bench) -> Iterator[Result]:
    """Measure row 2: one job through the library, committed before it returns."""
    project = bench.project("adding")
    tables = ("queues", "job_queue", "job_counts")
    bare = bare_database(project.database, project.folder / "bare.db", *tables)
    alike = bare_database(project.database, project.folder / "alike.db", *tables, triggers=True)
    with project.queue() as queue, (project.folder / "alike.lock").open("w") as write_lock:
        sides = (
            lambda: queue.add("shell", {"argv": ["true"]}),
            lambda: bare.execute(INSERT),
            lambda: alike.execute(INSERT),
            lambda: insert_in_turn(alike, write_lock.fileno()),
        )
        for side in sides:
            timed(side, times=_ADDS_THAT_FILL_THE_LOG)()
        samples = alternate(bench.scale.rounds, *(timed(side, times=50) for side in sides))
    bare.close()
    alike.close()
    ours, *floors = (sample.scaled(1000) for sample in samples)
    for floor, target, name in zip(floors, (1.5, None, None), _FLOORS, strict=True):
        yield compared(
            2, "JobQueue.add()", "ms", ours, name, floor,
            target=target, is_floor=name == _FLOORS[-1],
        )  # fmt: skip


_FLOORS = (
    "one bare INSERT committed at FULL",
    "the same with the triggers that count jobs",
    "and with a turn, the schema's version and the queue looked at",
)


# -- row 3 -------------------------------------------------------------------------------------

_IMPORT = """
import sys
from jobq.cli.main import run
code = run(sys.argv[1:])
with open("/proc/self/status") as status:  # not ru_maxrss, which includes the parent process
    print(next(line.split()[1] for line in status if line.startswith("VmHWM")))
sys.exit(code)
"""


def imported(bench: Bench) -> Iterator[Result]:
    """Measure row 3: a file of rows, all of them checked before any is added."""
    count = bench.scale.import_rows
    peaks: list[int] = []
    projects = iter(range(1000))

    def ours() -> float:
        project = bench.project(f"import-{next(projects)}")
        _write_rows(project.folder / "rows.jsonl", count, keyed=False)
        return seconds(lambda: peaks.append(_import(project)))

    def bare() -> float:
        return _bare_rows(_latest(bench), "job_queue")

    def parsed() -> float:
        with (_latest(bench) / "rows.jsonl").open() as file:
            return seconds(lambda: [json.loads(line) for line in file])

    samples = alternate(bench.scale.long_rounds, ours, bare, parsed, warm=False)
    what = f"jobq import of {count:,} rows"
    note = f"peak memory {max(peaks) / 1e6:.0f} MB{scaled(count, 1_000_000)}"
    name = "a bare executemany into the same table"
    yield compared(3, what, "s", samples[0], name, samples[1], target=2.5, note=note)
    yield compared(3, what, "s", samples[0], "json.loads of the lines alone", samples[2])
    if bench.scale.slow_peers:
        yield from _import_beside_a_writer(bench, count // 5)


def _latest(bench: Bench) -> Path:
    return max(bench.folder.glob("import-*"), key=lambda path: path.stat().st_mtime)


def _write_rows(path: Path, count: int, *, keyed: bool) -> None:
    with path.open("w") as file:
        for number in range(count):
            row = {"argv": ["convert", f"in/{number}.png", f"out/{number}.jpg"], "priority": 3}
            file.write(json.dumps({"key": f"row-{number}"} | row if keyed else row) + "\n")


def _import(project: Project) -> int:
    """Import the rows and return the peak of memory, in bytes."""
    done = subprocess.run(
        [sys.executable, "-c", _IMPORT, "import", "rows.jsonl"],
        cwd=project.folder,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        check=True,
    )
    return int(done.stdout.split()[-1]) * 1024


def _bare_rows(folder: Path, *tables: str) -> float:
    """Return the seconds for the same rows in the same tables with the same indexes, in one transaction."""
    database = folder / ".jobq" / "jobq.db"
    source = sqlite3.connect(database)
    bare = bare_database(database, folder / "bare.db", *tables)
    taken = 0.0
    for table in tables:
        columns = len(source.execute(f"SELECT * FROM {table} LIMIT 1").description)
        insert = f"INSERT INTO {table} VALUES ({', '.join('?' * columns)})"
        rows = source.execute(f"SELECT * FROM {table}")
        bare.execute("BEGIN IMMEDIATE")
        while batch := rows.fetchmany(100_000):  # outside of what is timed
            taken += seconds(partial(bare.executemany, insert, batch))
        taken += seconds(partial(bare.execute, "COMMIT"))
    source.close()
    bare.close()
    return taken


def _import_beside_a_writer(bench: Bench, count: int) -> Iterator[Result]:
    """Measure how long another process waits for its adds during an import of rows with keys."""
    project = bench.project("import-keyed")
    _write_rows(project.folder / "rows.jsonl", count, keyed=True)
    with Writers(project, 1, pause=0.005) as writers:
        writers.go()
        taken = seconds(lambda: _import(project))
        writing = writers.stop()
    bare = _bare_rows(project.folder, "job_queue", "job_keys")
    yield Result(
        row=3,
        measure=f"jobq import of {count:,} rows with keys, beside another writer",
        unit="s",
        ours=taken,
        against="a bare executemany into the same tables",
        theirs=bare,
        note=f"the other's {writing.adds:,} adds: the longest took {writing.longest * 1000:.0f} ms",
    )
