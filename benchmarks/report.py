"""Results as lines, as JSON, and as the page of the docs."""

import json
import os
import platform
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from benchmarks.results import Result

_PAGE = """\
# Benchmarks

Written by `make bench`. Two figures with a `±` were measured in turns in the same run (A B A B …): their
medians are compared, and the ratio has the target. `±` is the range of the middle half of the values (of
all values, if there are only three), as a share of the median. Figures without it were measured once.
[scaling.md](scaling.md) shows how costs grow, up to the limits of SQLite.

On SQLite everything is as durable as [promised](internals.md#promises) while it is measured:
`synchronous=FULL`, every attempt recorded, output captured, a log directory for each job. On Redis, jobq
in rows 14 to 18 and the peers keep jobs in memory only, which is the fastest they can be.

{machine}

| # | measure | jobq | compared with | | ratio | target | |
| --- | --- | --- | --- | --- | --- | --- | --- |
{rows}

## Where a target is missed

A floor does the least that the promises allow, and nothing else that a supervisor does. If it would meet
the target, the rest is the cost of jobq itself.

{missed}

## Notes

{notes}
"""


def machine() -> dict[str, Any]:
    """Return the properties of the machine that the results were measured on."""
    with tempfile.TemporaryDirectory() as folder:
        flush = _flush_seconds(Path(folder))
        filesystem = _output("stat", "-f", "-c", "%T", folder)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "commit": _output("git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"),
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(memory / 1e9),
        "kernel": platform.release().partition("-")[0],
        "filesystem": filesystem,
        "flush_ms": round(flush * 1000, 2),
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "load": round(os.getloadavg()[0], 1),
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(": ")[2]
    return platform.machine()


def _output(*argv: str) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def _flush_seconds(folder: Path) -> float:
    """Return the seconds of flushing a page to the disk: the best of several."""
    times = []
    with (folder / "flush").open("wb") as file:
        for _ in range(50):
            file.write(bytes(4096))
            file.flush()
            start = time.perf_counter()
            os.fdatasync(file.fileno())
            times.append(time.perf_counter() - start)
    return sorted(times)[len(times) // 2]


def described(machine: dict[str, Any]) -> str:
    """Describe the machine in a sentence."""
    return (
        f"Measured on {machine['date']} at {machine['commit']}: {machine['cores']} cores of "
        f"{machine['processor']}, {machine['memory_gb']} GB, Linux {machine['kernel']}, "
        f"{machine['filesystem']} (a flush takes {machine['flush_ms']} ms), "
        f"Python {machine['python']}, SQLite {machine['sqlite']}. "
        f"The load before it began was {machine['load']}. {_length(machine)}".rstrip()
    )


def _length(machine: dict[str, Any]) -> str:
    taken = machine.get("seconds")
    return f"All of it took {taken / 60:.1f} minutes." if taken else ""


def save(path: Path, machine: dict[str, Any], results: Sequence[Result]) -> None:
    """Save the results."""
    kept = [asdict(result) | {"figure": result.figure, "met": result.met} for result in results]
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"machine": machine, "results": kept}, indent=1, ensure_ascii=False)
    path.write_text(text + "\n", "utf-8")


def load(path: Path) -> tuple[dict[str, Any], list[Result]]:
    """Load the machine and the results that were saved."""
    kept = json.loads(path.read_text("utf-8"))
    known = {field.name for field in fields(Result)}
    results = [{k: v for k, v in each.items() if k in known} for each in kept["results"]]
    return kept["machine"], [Result(**each) for each in results]


def page(machine: dict[str, Any], results: Sequence[Result]) -> str:
    """Return the page of the docs."""
    notes: list[str] = []
    rows = []
    for result in results:
        if result.note and result.note not in notes:
            notes.append(result.note)
        place = f" ({notes.index(result.note) + 1})" if result.note else ""
        rows.append(_table_row(result, place))
    numbered = "\n".join(f"{number}. {note}" for number, note in enumerate(notes, 1))
    missed = "\n".join(f"- {_missed(each, results)}" for each in results if each.met is False)
    return _PAGE.format(
        machine=described(machine), rows="\n".join(rows), missed=missed or "None.", notes=numbered
    )


def _missed(result: Result, results: Sequence[Result]) -> str:
    """Describe a missed target, and whether the floor would meet it."""
    against = f", against {result.against}" if result.theirs else ""
    target = f"{result.figure:.2f}, and the target is {_target(result)}"
    text = f"Row {result.row}, {result.measure}{against}: {target}."
    floor = next((each for each in results if each.is_floor and each.row == result.row), None)
    if floor is None or floor.theirs is None or result.theirs is None:
        return f"{text} There is no floor for it."
    # Beside the same as ours; or measured by itself, as ours is beside its own.
    same = floor.measure == result.measure
    reached = floor.theirs / result.theirs if same else floor.figure
    verdict = "meets it" if result.allows(reached) else "misses it, too"
    return f"{text} The floor comes to {reached:.2f} and {verdict}."


def _table_row(result: Result, note: str) -> str:
    ratio = "" if result.theirs is None else f"{result.figure:.2f}"
    cells = (
        str(result.row),
        result.measure,
        _amount(result.ours, result.unit, result.spread),
        result.against + note,
        "" if result.theirs is None else _amount(result.theirs, result.unit, result.theirs_spread),
        ratio,
        _target(result),
        {True: "met", False: "**missed**", None: ""}[result.met],
    )
    return f"| {' | '.join(cells)} |"


def _target(result: Result) -> str:
    if result.target is None:
        return ""
    unit = "" if result.theirs is not None else f" {result.unit}"
    return f"{'≤' if result.want == 'at most' else '≥'} {result.target:g}{unit}"


def _amount(value: float, unit: str, spread: float) -> str:
    digits = 0 if value >= 100 else 1 if value >= 10 else 2
    text = f"{value:,.{digits}f} {unit}"
    return f"{text} ± {spread:.0%}" if spread else text


def line(result: Result) -> str:
    """Return a result as a line of the terminal."""
    ours = _amount(result.ours, result.unit, result.spread)
    text = f"{result.row:>2} {result.measure}: {ours}"
    if result.theirs is not None:
        theirs = _amount(result.theirs, result.unit, result.theirs_spread)
        text += f" / {result.against}: {theirs} = {result.figure:.2f}"
    elif result.against:
        text += f" / {result.against}"
    verdict = {True: "met", False: "MISSED", None: ""}[result.met]
    note = f" ({result.note})" if result.note else ""
    return f"{text}  {_target(result)} {verdict}{note}".rstrip()


def table_of(series: dict[str, Any]) -> str:
    """Return a series of `benchmarks.scaling` as a table: a column for each line of the plot."""
    names = list(series["lines"])
    head = [series["size"], *names]
    rows = [head, ["---:"] * len(head)]
    for place, (size, _) in enumerate(series["lines"][names[0]]):
        costs = (series["lines"][name][place][1] for name in names)
        rows.append([f"{size:,.0f}", *(f"{cost:,.{0 if cost >= 100 else 1}f}" for cost in costs)])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
