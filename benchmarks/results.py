"""Results: one figure of ours each, its peer or floor, and its target."""

import statistics
from dataclasses import dataclass
from typing import Literal

Want = Literal["at most", "at least"]


@dataclass(frozen=True, slots=True)
class Sample:
    """The measurements of one side, one value per round."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        """The median of the values."""
        return statistics.median(self.values)

    @property
    def spread(self) -> float:
        """The range of the middle half of the values (of all if there are few), relative to the median."""
        if len(self.values) < 4:
            low, high = min(self.values), max(self.values)
        else:
            low, _, high = statistics.quantiles(self.values, n=4)
        return (high - low) / self.median if self.median else 0.0

    def scaled(self, factor: float) -> "Sample":
        """Return the sample in another unit."""
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
        """The figure that has a target: the ratio, if there is a peer or floor."""
        return self.ours if self.theirs is None else self.ours / self.theirs

    @property
    def met(self) -> bool | None:
        """True if the target is met; None if there is none."""
        return None if self.target is None else self.allows(self.figure)

    def allows(self, figure: float) -> bool:
        """Return whether a figure would meet the target."""
        assert self.target is not None
        return figure <= self.target if self.want == "at most" else figure >= self.target

    @property
    def key(self) -> str:
        """The result's name in the guard's thresholds."""
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
    """Return a result that compares two samples."""
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
    """Return the note of a measurement that is smaller than the target says."""
    return f"; of {whole:,}: scaled to fit the time" if count < whole else ""
