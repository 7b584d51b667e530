"""The thresholds of `--quick`, all in one place: ratios, not targets.

Each is about twice the ratio that was measured when it was set: a busy host does not trip it, and a
cost that has doubled does. If you make something faster, lower its threshold.
"""

import sys
from collections.abc import Collection, Iterable, Mapping

from benchmarks.results import Result

ROWS = (1, 2, 3, 4, 5, 6, 8, 10, 11, 12, 13)
"""The rows that take about a minute together."""

LIMITS: dict[tuple[int, str], float] = {
    (1, "a Typer app"): 1.0,
    (2, "one bare INSERT"): 4.4,
    (3, "a bare executemany"): 4.4,
    (4, "xargs"): 0.38,
    (5, "saq"): 0.7,
    (6, "from add to the job's first instruction, p50"): 8.0,  # milliseconds
    (8, "add"): 2.0,
    (8, "claim"): 2.0,
    (8, "finish"): 2.0,
    (8, "list"): 1.5,
    (10, "one process"): 0.25,
    (11, "jobq list"): 1.2,
    (11, "completion"): 1.3,
    (12, "jobq tail"): 1.2,
    (13, "one of them"): 0.5,
}
"""The worst ratio that passes, by row and by the start of the measure, the peer or the floor."""


def judge(
    results: Iterable[Result],
    limits: Mapping[tuple[int, str], float] = LIMITS,
    rows: Collection[int] = ROWS,
) -> int:
    """Print what exceeds its threshold, or was not measured; return the exit code."""
    code = 0
    missing = {key for key in limits if key[0] in rows}
    for result in results:
        key = _key_of(result, limits)
        if key is None:
            continue
        missing.discard(key)
        limit = limits[key]
        worse = result.figure > limit if result.want == "at most" else result.figure < limit
        if worse:
            code = 1
            print(
                f"row {result.row}: {result.measure} against {result.against or 'its limit'}: "
                f"{result.figure:.2f}, and {result.want} {limit:.2f} passes",
                file=sys.stderr,
            )
    for row, name in sorted(missing):
        code = 1
        print(
            f"row {row}: {name}: not measured (`make bench` installs the others)", file=sys.stderr
        )
    return code


def _key_of(result: Result, limits: Mapping[tuple[int, str], float]) -> tuple[int, str] | None:
    """Return the key of the threshold of a result; None if it has none."""
    names = (result.measure, result.against)
    for row, beginning in limits:
        if row == result.row and any(name.startswith(beginning) for name in names):
            return row, beginning
    return None
