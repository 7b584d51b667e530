"""A result: one figure of ours, what it is compared with, and what it should be."""

import statistics
from dataclasses import dataclass
from typing import Literal

Want = Literal["at most", "at least"]


@dataclass(frozen=True, slots=True)
class Sample:
    """What one side measured, a value a round."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle one."""
        return statistics.median(self.values)

    @property
    def spread(self) -> float:
        """The range of the middle half of the values, of all if there are few, by the median."""
        if len(self.values) < 4:
            low, high = min(self.values), max(self.values)
        else:
            low, _, high = statistics.quantiles(self.values, n=4)
        return (high - low) / self.median if self.median else 0.0

    def scaled(self, factor: float) -> "Sample":
        """The same in another unit."""
        return Sample(tuple(value * factor for value in self.values))


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """A line of the table. Without a peer or floor, what is judged is our own figure."""

    row: int
    measure: str
    unit: str
    ours: float
    spread: float = 0.0
    against: str = ""
    theirs: float | None = None
    theirs_spread: float = 0.0
    want: Want = "at most"
    target: float | None = None  # None: to inform
    note: str = ""
    is_floor: bool = False  # what it is compared with is the least that the promises allow

    @property
    def figure(self) -> float:
        """What has a target: the ratio, where there is something to compare with."""
        return self.ours if self.theirs is None else self.ours / self.theirs

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None where there is none."""
        return None if self.target is None else self.allows(self.figure)

    def allows(self, figure: float) -> bool:
        """Whether a figure would meet the target."""
        assert self.target is not None
        return figure <= self.target if self.want == "at most" else figure >= self.target

    @property
    def key(self) -> str:
        """What names the result in the guard's thresholds."""
        return f"{self.row} {self.measure} / {self.against}".removesuffix(" / ")


def compared(
    row: int,
    measure: str,
    unit: str,
    ours: Sample,
    against: str,
    theirs: Sample,
    *,
    want: Want = "at most",
    target: float | None = None,
    note: str = "",
    is_floor: bool = False,
) -> Result:
    """Two samples as a result."""
    return Result(
        row=row,
        measure=measure,
        unit=unit,
        ours=ours.median,
        spread=ours.spread,
        against=against,
        theirs=theirs.median,
        theirs_spread=theirs.spread,
        want=want,
        target=target,
        note=note,
        is_floor=is_floor,
    )


def scaled(count: int, whole: int) -> str:
    """What a note says where less is measured than the target names."""
    return f"; of {whole:,}: scaled to fit the time" if count < whole else ""
