"""What was dropped from the middle of a job's log file, and where its parts are. Pure.

A log that outgrows its limit keeps its head and its tail. While the job runs, what was between them
is given back to the file system and leaves a hole: nothing moves under those who append. Once the
job has ended, the file is written anew, with a line in the place of the hole: the marker.

Offsets count all that was ever written, dropped or not: those of an attempt stay as they are.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass

FILE = "cuts.json"
"""Beside the logs, once something was dropped from one of them."""

_MOST = 1 << 60
"""Bytes, more than any job writes: what is added to it is still an offset, and fits the database."""


@dataclass(frozen=True, slots=True)
class Gap:
    """What is missing from one file: all between two offsets."""

    start: int  # the offset of the first byte dropped; where it stood in the file, too
    end: int  # the offset of the first byte behind them
    resume: int  # where that one stands in the file, unless the marker stands at `start`
    marker: bytes

    @property
    def dropped(self) -> int:
        """How many bytes are missing."""
        return self.end - self.start


@dataclass(frozen=True, slots=True)
class Layout:
    """Where in a file its parts are, at one moment."""

    size: int  # of the file, in bytes
    cut: Gap | None = None
    resume: int = 0  # where in the file the part behind the cut begins

    @property
    def end(self) -> int:
        """The offset behind the last byte."""
        if self.cut is None:
            return self.size
        return self.cut.end + max(0, self.size - self.resume)

    @property
    def held(self) -> int:
        """How many bytes the file holds, a hole not counted."""
        return self.size if self.cut is None else self.size - (self.resume - self.cut.start)

    def offset(self, place: int) -> int:
        """The offset of what stands at a place of the file, behind the cut."""
        return place if self.cut is None else self.cut.end + place - self.resume

    # -- as readers are shown it: head, marker and tail, one behind the other --------------

    def shown_from(self, offset: int) -> int:
        """Where a reader begins who wants all from an offset on."""
        if self.cut is None or offset <= self.cut.start:
            return offset
        if offset < self.cut.end:
            return self.cut.start
        return self.shown_to(offset)

    def shown_to(self, offset: int) -> int:
        """Where a reader stops who wants all up to an offset."""
        if self.cut is None or offset <= self.cut.start:
            return offset
        return self.cut.start + len(self.cut.marker) + max(0, offset - self.cut.end)

    def offset_shown(self, place: int) -> int:
        """The offset of what a reader is shown at a place; of the marker, that of the cut."""
        if self.cut is None or place <= self.cut.start:
            return place
        behind = place - self.cut.start - len(self.cut.marker)
        return self.cut.start if behind < 0 else self.cut.end + behind


def parse(data: bytes) -> dict[str, Gap]:
    """The cuts by the names of their files; none where a job has written nonsense."""
    try:
        return {
            name: _checked(Gap(start, end, resume, marker.encode()))
            for name, (start, end, resume, marker) in json.loads(data).items()
        }
    except (ValueError, TypeError, AttributeError, RecursionError):
        return {}


def serialise(cuts: Mapping[str, Gap]) -> bytes:
    """What `parse` reads."""
    return json.dumps(
        {name: [c.start, c.end, c.resume, c.marker.decode()] for name, c in cuts.items()}
    ).encode()


def _checked(cut: Gap) -> Gap:
    places = (cut.start, cut.end, cut.resume)
    if any(type(place) is not int or place > _MOST for place in places):
        raise ValueError("not offsets")
    if not 0 <= cut.start <= min(cut.end, cut.resume) or not cut.marker:
        raise ValueError("not a cut")
    return cut
