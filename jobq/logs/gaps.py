"""Gaps: what was dropped from the middle of a job's log file, and where its parts are. Pure.

A log that outgrows its limit keeps its head and its tail. While the job runs, what was between them
is given back to the file system and leaves a hole: nothing moves under processes that append. Once
the job has ended, the file is rewritten with a line in the place of the hole: the marker.

Offsets count all bytes that were ever written, dropped or not: those of an attempt never change.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass

FILE = "cuts.json"
"""The file beside the logs that lists their gaps, once there are any."""

_MAX_OFFSET = 1 << 60
"""More than any job writes; and with what a job then writes, it still fits into the database."""


@dataclass(frozen=True, slots=True)
class Gap:
    """The bytes that are missing from one file: all between two offsets."""

    start: int  # the offset of the first byte dropped, and its place in the file
    end: int  # the offset of the first byte behind the gap
    resume: int  # the place of that one in the file, unless the marker is at `start`
    marker: bytes  # the line that readers see in the place of the gap

    @property
    def dropped(self) -> int:
        """The number of bytes that are missing."""
        return self.end - self.start


@dataclass(frozen=True, slots=True)
class Layout:
    """The places of a file's parts, at one moment."""

    size: int  # of the file, in bytes
    gap: Gap | None = None
    resume: int = 0  # the place in the file where the part behind the gap begins

    @property
    def end(self) -> int:
        """The offset behind the last byte."""
        if self.gap is None:
            return self.size
        return self.gap.end + max(0, self.size - self.resume)

    @property
    def held(self) -> int:
        """The number of bytes that the file holds, a hole not counted."""
        return self.size if self.gap is None else self.size - (self.resume - self.gap.start)

    def offset(self, place: int) -> int:
        """Return the offset of a place in the file, behind the gap."""
        return place if self.gap is None else self.gap.end + place - self.resume

    # -- as readers see it: head, marker and tail, one behind the other --------------------

    def shown_from(self, offset: int) -> int:
        """Return the place at which a reader begins that wants everything from an offset on."""
        if self.gap is None or offset <= self.gap.start:
            return offset
        if offset < self.gap.end:
            return self.gap.start
        return self.shown_to(offset)

    def shown_to(self, offset: int) -> int:
        """Return the place at which a reader stops that wants everything up to an offset."""
        if self.gap is None or offset <= self.gap.start:
            return offset
        return self.gap.start + len(self.gap.marker) + max(0, offset - self.gap.end)

    def offset_shown(self, place: int) -> int:
        """Return the offset of what a reader sees at a place; for the marker, that of the gap."""
        if self.gap is None or place <= self.gap.start:
            return place
        behind = place - self.gap.start - len(self.gap.marker)
        return self.gap.start if behind < 0 else self.gap.end + behind


def parse(data: bytes) -> dict[str, Gap]:
    """Return the gaps by the names of their files; none where a job has written nonsense."""
    try:
        return {
            name: _checked(Gap(start, end, resume, marker.encode()))
            for name, (start, end, resume, marker) in json.loads(data).items()
        }
    except (ValueError, TypeError, AttributeError, RecursionError):
        return {}


def serialise(gaps: Mapping[str, Gap]) -> bytes:
    """Return gaps as `parse` reads them."""
    return json.dumps(
        {name: [g.start, g.end, g.resume, g.marker.decode()] for name, g in gaps.items()}
    ).encode()


def _checked(gap: Gap) -> Gap:
    places = (gap.start, gap.end, gap.resume)
    if any(type(place) is not int or place > _MAX_OFFSET for place in places):
        raise ValueError("not offsets")
    if not 0 <= gap.start <= min(gap.end, gap.resume) or not gap.marker:
        raise ValueError("not a gap")
    return gap
