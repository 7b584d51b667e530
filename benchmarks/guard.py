"""What `--quick` lets pass: one place for the thresholds, which are ratios, not targets.

They are looser than the targets, so that a busy machine does not trip them, and tight enough that
twice the cost does.
"""

import sys
from collections.abc import Iterable

from benchmarks.results import Result

ROWS = (1, 2, 3, 4, 5, 6, 8, 10, 11, 12, 13)
"""What is measured in about a minute."""

LOOSE = 1.5
"""How much worse than its target a result with no line below may be."""

LIMITS: dict[tuple[int, str], float] = {}
"""By row and peer or floor: the worst ratio that passes."""


def judge(results: Iterable[Result]) -> int:
    """Say what is worse than it may be; the exit code."""
    code = 0
    for result in results:
        limit = limit_of(result)
        if limit is None:
            continue
        worse = result.figure > limit if result.want == "at most" else result.figure < limit
        if worse:
            code = 1
            print(
                f"row {result.row}: {result.measure} against {result.against or 'its limit'}: "
                f"{result.figure:.2f}, and {result.want} {limit:.2f} passes",
                file=sys.stderr,
            )
    return code


def limit_of(result: Result) -> float | None:
    """The threshold of a result; None where nothing is guarded."""
    if (limit := LIMITS.get((result.row, result.against))) is not None:
        return limit
    if result.target is None:
        return None
    return result.target * LOOSE if result.want == "at most" else result.target / LOOSE
