"""``python -m benchmarks [ROW …] [--quick|--whole] [--json FILE [--table FILE]]``."""

import argparse
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from benchmarks import (
    adding,
    commands,
    guard,
    idle,
    onredis,
    report,
    rivals,
    startup,
    verbs,
    workers,
    writers,
)
from benchmarks.results import Result
from benchmarks.scale import FULL, QUICK, WHOLE, Bench

ROWS: dict[int, Callable[[Bench], Iterator[Result]]] = {
    1: startup.add,
    2: adding.add,
    3: adding.imported,
    4: commands.many,
    5: workers.noops,
    6: commands.first_instruction,
    7: idle.busy,
    8: verbs.beside_history,
    9: idle.memory,
    10: writers.crowd,
    11: startup.listing,
    12: startup.tail,
    13: workers.two_supervisors,
    14: workers.noops_on_redis,
    15: onredis.added,
    16: onredis.waiting,
    17: onredis.round_trips,
}
_WITH = {18: 16}
"""Rows that are measured together with others."""


def main() -> int:
    """Measure the rows asked for; return 1 if ``--quick`` found one slower than its guard allows."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("rows", nargs="*", type=int, metavar="ROW", help="by number; all")
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="small sizes; exit 1 if a guard trips")
    size.add_argument("--whole", action="store_true", help="nothing scaled down: half an hour")
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep the results in FILE")
    parser.add_argument("--table", type=Path, metavar="FILE", help="and a page to FILE")
    options = parser.parse_args()
    options.rows = sorted({_WITH.get(row, row) for row in options.rows})
    if unknown := [row for row in options.rows if row not in ROWS]:
        parser.error(f"there is no row {unknown[0]}: give numbers from {min(ROWS)} to {max(ROWS)}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that nothing is left behind
    rows = options.rows or (guard.ROWS if options.quick else ROWS)
    scale = QUICK if options.quick else WHOLE if options.whole else FULL
    if not rivals.installed():
        print(
            "the other job queues are not installed: measuring without them (see `make bench`)",
            file=sys.stderr,
        )
    machine, start = report.machine(), time.perf_counter()
    results = _measured(rows, Bench(scale, _folder()))
    machine["seconds"] = round(time.perf_counter() - start)
    if options.json:
        report.save(options.json, machine, results)
        if options.table:
            options.table.write_text(report.page(*report.load(options.json)), "utf-8")
    return guard.judge(results, rows=rows) if options.quick else 0


def _folder() -> Path:
    return Path(tempfile.mkdtemp(prefix="bench-"))


def _measured(rows: Iterable[int], bench: Bench) -> list[Result]:
    results: list[Result] = []
    try:
        for row in rows:
            start = time.perf_counter()
            for result in ROWS[row](bench):
                results.append(result)
                print(report.line(result), flush=True)
            print(f"   row {row} took {time.perf_counter() - start:.0f} s", file=sys.stderr)
    finally:
        shutil.rmtree(bench.folder, ignore_errors=True)
    return results


if __name__ == "__main__":
    sys.exit(main())
